//! Failures of calls to Telegram. They say if the call may have been done, what must change before it can succeed, and
//! when. No error prints a token, an address or a body, and of Telegram's description only the part without quotations.

use std::{fmt, time::Duration};

use serde_json::Value;

use crate::platform::{certainty::Certainty, endings::Outcome, json, limits};

/// The reason that a call gave no usable result.
#[derive(thiserror::Error)]
pub enum Error {
    /// The call did not leave: Telegram has certainly not handled it.
    #[error("Telegram was not reached")]
    NotSent(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The call was sent and its answer was lost, late or unreadable: Telegram may have handled it.
    #[error("Telegram's answer was lost")]
    Unknown(#[source] Option<reqwest::Error>),
    /// Telegram did it, but the result is not of the expected shape. To repeat it would do it twice.
    #[error("Telegram's result is not of the expected shape")]
    Unreadable,
    /// Too many calls.
    #[error("Telegram asks to wait {} s", retry_after.as_secs())]
    TooManyRequests {
        /// The time to wait, to the second.
        retry_after: Duration,
    },
    /// The group became a supergroup.
    #[error("the group has another id now")]
    Migrated {
        /// Its new id.
        to_chat_id: i64,
    },
    /// The topic was deleted or never was.
    #[error("there is no such topic")]
    ThreadNotFound,
    /// The topic is closed.
    #[error("the topic is closed")]
    TopicClosed,
    /// The topic already is as asked for.
    #[error("the topic already is so")]
    TopicNotModified,
    /// The message already is as asked for.
    #[error("the message already is so")]
    MessageNotModified,
    /// The message to edit, delete, pin, or react to is gone.
    #[error("there is no such message")]
    MessageNotFound,
    /// Topics are switched off in the group.
    #[error("the group has no topics")]
    NotAForum,
    /// The bot may not do this in the group.
    #[error("the bot lacks a right: {}", quotable(.0))]
    NoRights(String),
    /// There is no such chat, or the bot has never been in it.
    #[error("there is no such chat")]
    ChatNotFound,
    /// The bot was removed or blocked, or the person is gone (403).
    #[error("the bot was removed or blocked: {}", quotable(.0))]
    Kicked(String),
    /// The token is not, or no longer, that of a bot.
    #[error("the bot's token is not valid")]
    BadToken,
    /// The call itself is wrong; repeating it changes nothing.
    #[error("Telegram refused the call ({code}): {}", quotable(.description))]
    Refused {
        /// Telegram's `error_code`.
        code: u16,
        /// Telegram's words. They may quote what was sent.
        description: String,
    },
    /// Telegram is out of order, or something before it answered in its place.
    #[error("Telegram is out of order ({status})")]
    Unavailable {
        /// The HTTP status.
        status: u16,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The pause after a failure that says nothing about its length.
const USUAL_PAUSE: Duration = Duration::from_secs(3);
const QUOTABLE_CHARS: usize = 100;

/// `Bad Request: can't parse entities`, without the details behind the next colon, which repeat what was sent.
fn quotable(description: &str) -> String {
    let parts: Vec<_> = description.splitn(3, ':').take(2).collect();
    parts.join(":").chars().filter(|char| !char.is_control()).take(QUOTABLE_CHARS).collect()
}

impl Error {
    /// The effect of the call, as far as it is known.
    pub fn certainty(&self) -> Certainty {
        match self {
            Self::NotSent(_) | Self::TooManyRequests { .. } => Certainty::NotDone,
            Self::Unknown(_) | Self::Unavailable { .. } => Certainty::MaybeDone,
            Self::Unreadable | Self::TopicNotModified | Self::MessageNotModified => Certainty::Done,
            Self::Migrated { .. }
            | Self::ThreadNotFound
            | Self::TopicClosed
            | Self::MessageNotFound
            | Self::NotAForum
            | Self::NoRights(_)
            | Self::ChatNotFound
            | Self::Kicked(_)
            | Self::BadToken
            | Self::Refused { .. } => Certainty::Refused,
        }
    }

    /// The outcome by which the table of waits and ends judges the failure.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NotSent(_) => Outcome::NotSent,
            Self::TooManyRequests { retry_after } => Outcome::Limited(*retry_after),
            Self::Unknown(_) => Outcome::AnswerLost,
            Self::Unavailable { .. } => Outcome::Unknown,
            Self::Unreadable
            | Self::Migrated { .. }
            | Self::ThreadNotFound
            | Self::TopicClosed
            | Self::TopicNotModified
            | Self::MessageNotModified
            | Self::MessageNotFound
            | Self::NotAForum
            | Self::NoRights(_)
            | Self::ChatNotFound
            | Self::Kicked(_)
            | Self::BadToken
            | Self::Refused { .. } => Outcome::Refused,
        }
    }

    /// The time after which the same call may succeed. `None`: waiting alone does not help.
    pub fn retry_in(&self) -> Option<Duration> {
        match self.outcome() {
            Outcome::NotSent | Outcome::AnswerLost | Outcome::Unknown => Some(USUAL_PAUSE),
            Outcome::Limited(wait) => Some(wait),
            Outcome::Refused | Outcome::OurFault => None,
        }
    }

    /// The error of a call that ended without a whole answer.
    pub(super) fn from_transport(error: reqwest::Error) -> Self {
        let error = error.without_url(); // the address contains the token
        if error.is_connect() || error.is_builder() { Self::NotSent(error.into()) } else { Self::Unknown(Some(error)) }
    }

    /// The error of an answer that is no success.
    pub(super) fn from_answer(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let body = json::read(body).unwrap_or(Value::Null);
        match body["description"].as_str() {
            Some(description) => {
                let code = body["error_code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(status);
                let parameters = Parameters {
                    retry_after: body["parameters"]["retry_after"]
                        .as_u64()
                        .map(Duration::from_secs)
                        .or(retry_after)
                        .map(ordered),
                    migrate_to_chat_id: body["parameters"]["migrate_to_chat_id"].as_i64(),
                };
                Self::refusal(code, description, parameters)
            }
            None if status == 429 => Self::TooManyRequests { retry_after: retry_after.map_or(USUAL_PAUSE, ordered) },
            None if status == 413 => Self::Refused { code: status, description: "Request Entity Too Large".to_owned() },
            // The gateway gave up waiting; the server behind it may have handled the call.
            None if status == 504 => Self::Unknown(None),
            None => Self::Unavailable { status },
        }
    }

    /// The meaning of a code and a description. Descriptions change now and then, so the code searches for parts of
    /// them.
    pub(super) fn refusal(code: u16, description: &str, parameters: Parameters) -> Self {
        if let Some(to_chat_id) = parameters.migrate_to_chat_id {
            return Self::Migrated { to_chat_id };
        }
        let said = description.to_lowercase();
        let says = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
        match code {
            429 => Self::TooManyRequests { retry_after: parameters.retry_after.unwrap_or(USUAL_PAUSE) },
            400 | 403 if says(NO_RIGHTS) => Self::NoRights(description.to_owned()),
            400 if says(THREAD_NOT_FOUND) => Self::ThreadNotFound,
            400 if says(&["topic_closed"]) => Self::TopicClosed,
            400 if says(&["topic_not_modified"]) => Self::TopicNotModified,
            400 if says(&["message is not modified"]) => Self::MessageNotModified,
            400 if says(MESSAGE_NOT_FOUND) => Self::MessageNotFound,
            400 if says(&["not a forum", "channel_forum_missing"]) => Self::NotAForum,
            400 if says(&["chat not found"]) => Self::ChatNotFound,
            403 => Self::Kicked(description.to_owned()),
            401 => Self::BadToken,
            404 if !says(&["method not found"]) => Self::BadToken,
            500.. => Self::Unavailable { status: code },
            _ => Self::Refused { code, description: description.to_owned() },
        }
    }
}

/// Cuts a wait that Telegram orders.
fn ordered(wait: Duration) -> Duration {
    limits::cut("retry_after", wait, &limits::WAIT)
}

/// The parameters beside a description.
#[derive(Clone, Copy, Default)]
pub(super) struct Parameters {
    pub(super) retry_after: Option<Duration>,
    pub(super) migrate_to_chat_id: Option<i64>,
}

const NO_RIGHTS: &[&str] = &[
    "not enough rights",
    "have no rights",
    "chat_admin_required",
    "need administrator rights",
    "chat_write_forbidden",
    "admin rights",
];

const THREAD_NOT_FOUND: &[&str] = &["message thread not found", "topic_deleted", "topic_id_invalid"];

const MESSAGE_NOT_FOUND: &[&str] = &[
    "message to edit not found",
    "message to delete not found",
    "message to pin not found",
    "message to react not found",
    "message to be replied not found",
    "replied message not found",
    "message not found",
    "message_id_invalid",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn name(error: &Error) -> &'static str {
        match error {
            Error::NotSent(_) => "not sent",
            Error::Unknown(_) => "unknown",
            Error::Unreadable => "unreadable",
            Error::TooManyRequests { .. } => "too many",
            Error::Migrated { .. } => "migrated",
            Error::ThreadNotFound => "no thread",
            Error::TopicClosed => "closed",
            Error::TopicNotModified => "same topic",
            Error::MessageNotModified => "same message",
            Error::MessageNotFound => "no message",
            Error::NotAForum => "no forum",
            Error::NoRights(_) => "no rights",
            Error::ChatNotFound => "no chat",
            Error::Kicked(_) => "kicked",
            Error::BadToken => "token",
            Error::Refused { .. } => "refused",
            Error::Unavailable { .. } => "unavailable",
        }
    }

    #[test]
    fn every_known_description_has_its_meaning() {
        let table = [
            (429, "Too Many Requests: retry after 35", "too many"),
            (400, "Bad Request: message thread not found", "no thread"),
            (400, "Bad Request: TOPIC_DELETED", "no thread"),
            (400, "Bad Request: TOPIC_ID_INVALID", "no thread"),
            (400, "Bad Request: TOPIC_CLOSED", "closed"),
            (400, "Bad Request: TOPIC_NOT_MODIFIED", "same topic"),
            (400, "Bad Request: message is not modified: specified new message content is the same", "same message"),
            (400, "Bad Request: message to be replied not found", "no message"),
            (400, "Bad Request: message to edit not found", "no message"),
            (400, "Bad Request: not enough rights to create a topic", "no rights"),
            (400, "Bad Request: not enough rights to send text messages to the chat", "no rights"),
            (400, "Bad Request: CHAT_ADMIN_REQUIRED", "no rights"),
            (400, "Bad Request: the chat is not a forum", "no forum"),
            (400, "Bad Request: chat not found", "no chat"),
            (400, "Bad Request: can't parse entities: Unsupported start tag \"b\"", "refused"),
            (400, "Bad Request: message is too long", "refused"),
            (400, "Bad Request: REACTION_INVALID", "refused"),
            (400, "Bad Request: group chat was upgraded to a supergroup chat", "refused"),
            (403, "Forbidden: bot was blocked by the user", "kicked"),
            (403, "Forbidden: user is deactivated", "kicked"),
            (403, "Forbidden: bot was kicked from the supergroup chat", "kicked"),
            (403, "Forbidden: bot can't initiate conversation with a user", "kicked"),
            (403, "Forbidden: not enough rights", "no rights"),
            (401, "Unauthorized", "token"),
            (404, "Not Found", "token"),
            (404, "Not Found: method not found", "refused"),
            (409, "Conflict: can't use getUpdates method while webhook is active", "refused"),
            (413, "Request Entity Too Large", "refused"),
            (500, "Internal Server Error", "unavailable"),
            (502, "Bad Gateway", "unavailable"),
        ];
        for (code, description, meaning) in table {
            let error = Error::refusal(code, description, Parameters::default());
            assert_eq!(name(&error), meaning, "{code} {description}");
        }
    }

    #[test]
    fn the_error_of_a_migrated_group_has_its_new_id() {
        let body = br#"{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat","parameters":{"migrate_to_chat_id":-1001234567890}}"#;
        let error = Error::from_answer(400, None, body);
        assert!(matches!(error, Error::Migrated { to_chat_id: -1_001_234_567_890 }));
    }

    #[test]
    fn a_long_rate_limit_is_read_to_the_second() {
        let body = br#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 86400","parameters":{"retry_after":86400}}"#;
        assert_eq!(Error::from_answer(429, None, body).retry_in(), Some(Duration::from_hours(24)));
        let seven = Some(Duration::from_secs(7));
        assert_eq!(Error::from_answer(429, seven, b"<html>").retry_in(), seven);
    }

    #[test]
    fn a_page_in_place_of_json_is_an_outage_and_after_a_gateway_timeout_the_outcome_is_unknown() {
        for status in [200, 301, 403, 404, 500, 502, 503] {
            let error = Error::from_answer(status, None, b"<html><h1>Bad Gateway</h1>");
            assert!(matches!(error, Error::Unavailable { .. }), "{status}");
            assert_eq!(error.certainty(), Certainty::MaybeDone, "{status}");
        }
        let error = Error::from_answer(504, None, b"");
        assert!(matches!(error, Error::Unknown(_)) && error.certainty() == Certainty::MaybeDone);
    }

    #[test]
    fn a_printed_error_does_not_repeat_what_was_sent() {
        let description = "Bad Request: can't parse entities: Unsupported start tag \"секрет\"";
        let error = Error::refusal(400, description, Parameters::default());
        assert_eq!(format!("{error}"), "Telegram refused the call (400): Bad Request: can't parse entities");
        assert!(!format!("{error:?}").contains("секрет"));
    }
}
