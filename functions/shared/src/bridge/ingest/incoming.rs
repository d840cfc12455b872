//! Messages as Avito reports them, by webhook or poll, in the form that is recorded.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

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
    /// True if the text may be Avito's request to buy a tariff. It never takes the place of words that are recorded.
    pub placeholder: bool,
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

impl IncomingBatch {
    /// The same in a form that Postgres is more likely to take: the words alone, of a kind that we do not know.
    pub(super) fn words_alone(&self) -> Self {
        let words = |message: &IncomingMessage| IncomingMessage {
            kind: UNREADABLE_KIND.to_owned(),
            attachments: json!({}),
            ..message.clone()
        };
        Self { messages: self.messages.iter().map(words).collect(), ..self.clone() }
    }
}

/// The kind of a message that Postgres refused as it came.
const UNREADABLE_KIND: &str = "unreadable";

/// Converts a notification to a batch of one message.
pub(super) fn incoming_batch(account_id: i64, notification: &avito::webhook::Notification) -> IncomingBatch {
    IncomingBatch {
        account_id,
        user_id: notification.user_id,
        chat_id: notification.chat_id.clone(),
        messages: vec![incoming_message(&notification.message, notification.user_id, 0)],
        polled: None,
    }
}

/// Converts a message of Avito's to the form that is recorded. A message without a time counts as written now: it is shown
/// in a wrong place rather than not at all.
pub(super) fn incoming_message(message: &avito::Message, own_user_id: i64, position: i32) -> IncomingMessage {
    let system = message.is_system();
    let text = message.content.text.clone();
    let created = message.created.and_then(|created| Timestamp::from_second(created).ok());
    IncomingMessage {
        id: message.id.clone(),
        own: !system && message.is_own(own_user_id),
        system,
        kind: if system { "system".to_owned() } else { message.kind.as_str().to_owned() },
        placeholder: text.as_deref().is_some_and(avito::is_tariff_placeholder),
        text_key: text.as_deref().map(text_split::key),
        text,
        attachments: attachments(message),
        created: created.unwrap_or_else(Timestamp::now),
        position,
    }
}

/// The content of a message, with the message that it answers under `quote`: `{id, kind, text}`.
fn attachments(message: &avito::Message) -> Value {
    let mut attachments = serde_json::to_value(&message.content).unwrap_or_else(|_| json!({}));
    if let Some(quote) = &message.quote {
        attachments["quote"] = json!({ "id": quote.id, "kind": quote.kind.as_str(), "text": quote.content.text });
    }
    attachments
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message of a notification that has this JSON in a field.
    fn message_with(field: &str, value: &str) -> IncomingMessage {
        let mut fields: serde_json::Map<String, Value> = serde_json::from_value(json!({
            "id": "m-1", "chat_id": "u2i-1", "user_id": 1, "author_id": 2, "chat_type": "u2i", "type": "text",
            "content": { "text": "Здравствуйте" }, "created": 1_700_000_000,
        }))
        .unwrap_or_default();
        fields.remove(field);
        let fields = serde_json::to_string(&fields).unwrap_or_default();
        let body = format!(
            r#"{{"payload":{{"type":"message","value":{{"{field}":{value},{}}}}}"#,
            fields.strip_prefix('{').unwrap_or_default()
        );
        let read = avito::webhook::Notification::read(body.as_bytes()).ok().flatten();
        let batch = read.map(|notification| incoming_batch(1, &notification));
        batch.and_then(|batch| batch.messages.into_iter().next()).unwrap_or_else(|| panic!("{body}"))
    }

    #[test]
    fn a_message_is_recorded_without_nul_characters_and_with_the_escapes_that_its_writer_typed() {
        let message = message_with("content", r#"{"text":"Куп\u0000лю","link":{"url":"https:\/\/a\\u0000b"}}"#);
        assert_eq!(message.text.as_deref(), Some("Куплю"));
        assert_eq!(message.attachments["link"]["url"], r"https://a\u0000b");
        let typed = message_with("content", r#"{"text":"что значит \\u0000?"}"#);
        assert_eq!(typed.text.as_deref(), Some(r"что значит \u0000?"));
        let quote = message_with("quote", r#"{"id":"q","type":"text","content":{"text":"\\u0000\ud83d"}}"#);
        assert_eq!(quote.attachments["quote"]["text"], "\\u0000\u{fffd}");
        assert_eq!(message_with("id", r#""m\u0000-2""#).id, "m-2");
        assert_eq!(message_with("type", r#""te\u0000xt""#).kind, "text");
    }

    #[test]
    fn a_message_without_a_time_counts_as_written_now() {
        for created in ["null", "[]", "\"soon\"", "-300000000000", "9223372036854775807"] {
            let age = Timestamp::now().as_second() - message_with("created", created).created.as_second();
            assert!((0..5).contains(&age), "{created}: {age}");
        }
    }
}
