//! Messages as Avito reports them, by webhook or poll, in the form that is recorded.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{avito, bridge::common::text_split};

/// A message as Avito reported it.
#[derive(Clone, Debug, Serialize)]
pub struct IncomingMessage {
    /// Avito's id of the message.
    pub id: String,
    /// True if the account itself wrote it, through us or otherwise.
    pub own: bool,
    /// True if Avito itself wrote it.
    pub system: bool,
    /// Avito's word for the kind: `text`, `image`, ….
    pub kind: String,
    /// The text, if the kind has one.
    pub text: Option<String>,
    /// The text as it is compared ([`text_split::key`]).
    pub text_key: Option<String>,
    /// The content as Avito sent it, with the message that it quotes.
    pub attachments: Value,
    /// The time of writing, by Avito's clock, to the second.
    pub created: Timestamp,
    /// Its position in Avito's list, oldest first: the order within one second.
    pub position: i32,
}

/// A chat's details besides the messages, which only the poll brings.
#[derive(Clone, Debug)]
pub struct PolledChat {
    /// The other person: `{id, name}`.
    pub buyer: Value,
    /// The item that the chat is about: `{title, price, city, url}`; null if it is about none.
    pub item: Value,
    /// The newest message that the poll has read together with all before it.
    pub last_message_id: Option<String>,
    /// The chat's `updated` at that time, seconds.
    pub updated: i64,
}

/// The messages of one chat, from one source.
#[derive(Clone, Debug)]
pub struct IncomingBatch {
    /// The row in `avito_accounts`.
    pub account_id: i64,
    /// Avito's id of the account: a payload that names another is not recorded.
    pub user_id: i64,
    /// Avito's id of the chat.
    pub chat_id: String,
    /// The messages, oldest first.
    pub messages: Vec<IncomingMessage>,
    /// Set by the poll. None: the batch comes from a webhook.
    pub polled: Option<PolledChat>,
}

/// Converts a notification to a batch of one message. None: Postgres cannot store it; Avito never sends such a thing.
pub(super) fn incoming_batch(account_id: i64, notification: &avito::webhook::Notification) -> Option<IncomingBatch> {
    let message = &notification.message;
    if notification.chat_id.contains('\0') {
        return None;
    }
    Some(IncomingBatch {
        account_id,
        user_id: notification.user_id,
        chat_id: notification.chat_id.clone(),
        messages: vec![incoming_message(message, notification.user_id, 0)?],
        polled: None,
    })
}

/// Converts a message of Avito's to the form that is recorded. None: it has no valid time, or Postgres cannot store its
/// id or kind.
pub(super) fn incoming_message(message: &avito::Message, own_user_id: i64, position: i32) -> Option<IncomingMessage> {
    let created = message.created.filter(|second| *second >= 0)?;
    if message.id.contains('\0') || message.kind.as_str().contains('\0') {
        return None;
    }
    let system = message.is_system();
    let text = message.content.text.as_deref().map(|text| text.replace('\0', ""));
    Some(IncomingMessage {
        id: message.id.clone(),
        own: !system && message.is_own(own_user_id),
        system,
        kind: if system { "system".to_owned() } else { message.kind.as_str().to_owned() },
        text_key: text.as_deref().map(text_split::key),
        text,
        attachments: serde_json::from_str(&serde_json::to_string(&attachments(message)?).ok()?.replace("\\u0000", ""))
            .ok()?,
        created: Timestamp::from_second(created).ok()?,
        position,
    })
}

/// The content of a message, with the message that it answers under `quote`: `{id, kind, text}`.
fn attachments(message: &avito::Message) -> Option<serde_json::Value> {
    let mut attachments = serde_json::to_value(&message.content).ok()?;
    if let Some(quote) = &message.quote {
        attachments["quote"] =
            serde_json::json!({ "id": quote.id, "kind": quote.kind.as_str(), "text": quote.content.text });
    }
    Some(attachments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The batch of a notification that has `value` in this field.
    fn batch_with(field: &str, value: Value) -> Option<IncomingBatch> {
        let mut payload = json!({ "payload": { "type": "message", "value": {
            "id": "m-1", "chat_id": "u2i-1", "user_id": 1, "author_id": 2, "chat_type": "u2i", "type": "text",
            "content": { "text": "Здравствуйте" }, "created": 1_700_000_000,
        } } });
        payload["payload"]["value"][field] = value;
        avito::webhook::Notification::from_value(payload).and_then(|notification| incoming_batch(1, &notification))
    }

    #[test]
    fn a_notification_that_postgres_cannot_store_is_not_recorded() {
        assert!(batch_with("id", json!("m-1")).is_some());
        for field in ["id", "chat_id", "type"] {
            assert!(batch_with(field, json!("a\0b")).is_none(), "{field}");
        }
        assert!(batch_with("created", json!(-300_000_000_000_i64)).is_none());
    }

    #[test]
    fn a_text_with_a_nul_character_is_recorded_without_it() {
        let batch = batch_with("content", json!({ "text": "Куп\0лю" }));
        let texts: Vec<_> = batch.into_iter().flat_map(|batch| batch.messages).map(|message| message.text).collect();
        assert_eq!(texts, [Some("Куплю".to_owned())]);
    }
}
