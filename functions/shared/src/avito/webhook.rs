//! The webhooks that Avito posts to our address, version 3.
//! Other bodies may arrive there too, and Avito itself posts a `{}` probe. So JSON that is no message is no error.

use serde::Deserialize;
use serde_json::Value;

use super::{lenient, message::Message};
use crate::platform::{json, limits};

/// A message that a webhook reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The delivery's id, which is not the message's. None: Avito sent none.
    pub delivery_id: Option<String>,
    /// The time at which Avito sent it, in Unix seconds.
    pub timestamp: Option<i64>,
    /// The account that the message belongs to: the one that registered the webhook.
    pub user_id: i64,
    /// The chat.
    pub chat_id: String,
    /// `u2i`, `u2u` or `a2u`.
    pub chat_type: Option<String>,
    /// The advertisement that the chat is about.
    pub item_id: Option<i64>,
    /// The message.
    pub message: Message,
}

/// The body is not JSON, or reports a message without naming it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the webhook's body cannot be read")]
pub struct Unreadable;

impl Notification {
    /// Reads a webhook's body. `None`: it is JSON, but reports no message.
    pub fn read(body: &[u8]) -> Result<Option<Self>, Unreadable> {
        let mut body = json::read(body).map_err(|_| Unreadable)?;
        if json::shorten(&mut body, limits::MAX_STRING) > 0 {
            limits::count("string");
        }
        Self::from_value(body)
    }

    /// Reads a webhook's body that was parsed before. `None`: it reports no message.
    pub fn from_value(body: Value) -> Result<Option<Self>, Unreadable> {
        let Ok(envelope) = serde_json::from_value::<Envelope>(body) else { return Ok(None) };
        let payload = envelope.payload.filter(|payload| payload.kind.as_deref() == Some("message"));
        let Some(payload) = payload else { return Ok(None) };
        let context: MessageContext = Deserialize::deserialize(&payload.value).map_err(|_| Unreadable)?;
        let mut message: Message = serde_json::from_value(payload.value).map_err(|_| Unreadable)?;
        message.created = message.created.or(envelope.timestamp);
        Ok(Some(Self {
            delivery_id: envelope.id,
            timestamp: envelope.timestamp,
            user_id: context.user_id,
            chat_id: context.chat_id,
            chat_type: context.chat_type,
            item_id: context.item_id,
            message,
        }))
    }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default, deserialize_with = "lenient::text")]
    id: Option<String>,
    #[serde(default, deserialize_with = "lenient::created")]
    timestamp: Option<i64>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    payload: Option<Payload>,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default, rename = "type", deserialize_with = "lenient::text")]
    kind: Option<String>,
    #[serde(default)]
    value: Value,
}

#[derive(Deserialize)]
struct MessageContext {
    #[serde(deserialize_with = "lenient::id")]
    user_id: i64,
    #[serde(deserialize_with = "lenient::key")]
    chat_id: String,
    #[serde(default, deserialize_with = "lenient::text")]
    chat_type: Option<String>,
    #[serde(default, deserialize_with = "lenient::number")]
    item_id: Option<i64>,
}

#[cfg(test)]
mod tests;
