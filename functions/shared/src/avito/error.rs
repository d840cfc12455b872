//! Failures of calls to Avito. They say if the call may have been done, if it may be repeated, and when.
//! No error prints an address, a body or Avito's own words: those may quote what people wrote.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use reqwest::StatusCode;
use serde_json::Value;

use crate::platform::{certainty::Certainty, endings::Outcome, json};

/// The reason that a call gave no usable answer.
#[derive(thiserror::Error)]
pub enum Error {
    /// No connection came about: Avito has certainly not handled the call.
    #[error("Avito was not reached")]
    NotSent(#[source] reqwest::Error),
    /// The call was sent and its answer was lost, late or unreadable: Avito may have handled it.
    #[error("Avito's answer was lost")]
    Unknown(#[source] Option<reqwest::Error>),
    /// Too many calls.
    #[error("Avito asks to wait {} s", retry_after.as_secs())]
    RateLimited {
        /// The time to wait.
        retry_after: Duration,
    },
    /// The token has expired (401, as often 403) or may not do this (403 again after a renewal).
    #[error("Avito does not accept the token ({status})")]
    Unauthorized {
        /// 401 or 403.
        status: u16,
        /// Avito's words, for the account's owner.
        message: String,
    },
    /// The account's tariff does not include this.
    #[error("Avito asks for payment")]
    PaymentRequired {
        /// Avito's words, for the account's owner.
        message: String,
    },
    /// The call itself is wrong; repeating it changes nothing.
    #[error("Avito refused the call ({status})")]
    Refused {
        /// The HTTP status, or the one named in the body of a 200.
        status: u16,
        /// The code in the body.
        code: Option<i64>,
        /// Avito's words, for the account's owner.
        message: String,
    },
    /// Avito is out of order, or something before it answered in its place.
    #[error("Avito is out of order ({status})")]
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
const MESSAGE_CHARS: usize = 200;

impl Error {
    /// The effect of the call, as far as it is known.
    pub fn certainty(&self) -> Certainty {
        match self {
            Self::NotSent(_) | Self::RateLimited { .. } => Certainty::NotDone,
            Self::Unknown(_) | Self::Unavailable { .. } => Certainty::MaybeDone,
            Self::Unauthorized { .. } | Self::PaymentRequired { .. } | Self::Refused { .. } => Certainty::Refused,
        }
    }

    /// True if Avito may refuse the whole account, not only this call.
    pub fn may_concern_account(&self) -> bool {
        matches!(self, Self::Unauthorized { .. } | Self::PaymentRequired { .. })
    }

    /// True if a new token may be accepted where this one was not.
    pub fn is_about_token(&self) -> bool {
        matches!(self, Self::Unauthorized { status: 401, .. })
    }

    /// The outcome by which the table of waits and ends judges the failure.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NotSent(_) => Outcome::NotSent,
            Self::RateLimited { retry_after } => Outcome::Limited(*retry_after),
            Self::Unknown(_) => Outcome::AnswerLost,
            Self::Unavailable { .. } => Outcome::Unknown,
            Self::Unauthorized { .. } | Self::PaymentRequired { .. } | Self::Refused { .. } => Outcome::Refused,
        }
    }

    /// Returns Avito's message about its refusal, for people. None: the failure has no message, or an empty one.
    pub fn vendor_message(&self) -> Option<&str> {
        match self {
            Self::Unauthorized { message, .. } | Self::PaymentRequired { message } | Self::Refused { message, .. } => {
                Some(message.as_str()).filter(|message| !message.is_empty())
            }
            _ => None,
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
        let error = error.without_url();
        if error.is_connect() || error.is_builder() { Self::NotSent(error) } else { Self::Unknown(Some(error)) }
    }

    /// The error of an answer that is no success.
    pub(super) fn from_answer(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let said = Said::read(body);
        let number = status.as_u16();
        match number {
            429 => Self::RateLimited { retry_after: retry_after.unwrap_or_else(until_next_minute) },
            402 => Self::PaymentRequired { message: said.message },
            // A page instead of JSON comes from the gateway before Avito and says nothing about the token.
            401 | 403 if !said.is_html => Self::Unauthorized { status: number, message: said.message },
            // The gateway gave up waiting; the server behind it may have handled the call.
            504 => Self::Unknown(None),
            408 => Self::Unavailable { status: number },
            400..=499 if said.is_json => Self::Refused { status: number, code: said.code, message: said.message },
            _ => Self::Unavailable { status: number },
        }
    }

    /// The failure that a body reports under a status of success. None: it reports none.
    pub(super) fn hidden_in(status: StatusCode, body: &Value) -> Option<Self> {
        let failed = body.get("error").is_some_and(|error| !error.is_null())
            || body.pointer("/result/status") == Some(&Value::Bool(false))
            || body.get("ok") == Some(&Value::Bool(false));
        if !failed {
            return None;
        }
        let said = Said::of(body);
        let named = said.code.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code));
        Some(match named.and_then(|code| StatusCode::from_u16(code).ok()) {
            Some(named) => Self::from_answer(named, None, body.to_string().as_bytes()),
            None => Self::Refused { status: status.as_u16(), code: said.code, message: said.message },
        })
    }
}

/// The time until the next minute: Avito counts calls by the minute.
fn until_next_minute() -> Duration {
    let into_minute = Timestamp::now().as_second().rem_euclid(60);
    Duration::from_secs(60 - into_minute.unsigned_abs())
}

/// A body's report of a failure, in any of the shapes that Avito uses.
#[derive(Default)]
struct Said {
    is_json: bool,
    is_html: bool,
    code: Option<i64>,
    message: String,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        match json::read(body) {
            Ok(body) => Self::of(&body),
            Err(_) => Self { is_html: body.trim_ascii_start().starts_with(b"<"), ..Self::default() },
        }
    }

    fn of(body: &Value) -> Self {
        let shapes = ["/error/message", "/error_description", "/result/message", "/message", "/error"];
        let message = shapes.iter().find_map(|shape| body.pointer(shape)?.as_str()).unwrap_or_default();
        let code = ["/error/code", "/code"].iter().find_map(|shape| body.pointer(shape)?.as_i64());
        Self { is_json: true, is_html: false, code, message: one_line(message) }
    }
}

/// Removes control characters and shortens the text.
fn one_line(text: &str) -> String {
    let line: String =
        text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(MESSAGE_CHARS).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Error {
        Error::from_answer(StatusCode::from_u16(status).expect("a status"), None, body.as_bytes())
    }

    fn message(error: &Error) -> &str {
        error.vendor_message().unwrap_or_default()
    }

    #[test]
    fn the_message_is_found_in_every_known_shape() {
        let shapes = [
            r#"{"error":{"code":400,"message":"why"}}"#,
            r#"{"error":{"code":400,"message":"why","fields":{"a":"b"}}}"#,
            r#"{"result":{"status":false,"message":"why"}}"#,
            r#"{"message":"why"}"#,
            r#"{"error":"invalid","error_description":"why"}"#,
            r#"{"error":"why"}"#,
        ];
        for shape in shapes {
            assert_eq!(message(&of(400, shape)), "why", "{shape}");
        }
    }

    #[test]
    fn a_message_is_one_short_line() {
        let long = format!(r#"{{"message":"a\n\u0007{}"}}"#, "я".repeat(500));
        let error = of(400, &long);
        assert!(message(&error).chars().count() == 200 && !message(&error).contains(char::is_control));
    }

    #[test]
    fn a_status_says_whether_waiting_helps() {
        let body = r#"{"error":{"code":1,"message":"m"}}"#;
        assert!(matches!(of(401, body), Error::Unauthorized { status: 401, .. }));
        assert!(matches!(of(403, body), Error::Unauthorized { status: 403, .. }));
        assert!(matches!(of(402, body), Error::PaymentRequired { .. }));
        assert!(matches!(of(404, body), Error::Refused { status: 404, code: Some(1), .. }));
        assert!(matches!(of(500, body), Error::Unavailable { status: 500 }));
        assert!(of(429, body).retry_in().is_some_and(|pause| (1..=60).contains(&pause.as_secs())));
        for status in [401, 402, 403, 404] {
            assert_eq!((of(status, body).retry_in(), of(status, body).certainty()), (None, Certainty::Refused));
        }
        for status in [302, 408, 500, 502, 503, 504] {
            assert!(of(status, body).retry_in().is_some());
            assert_eq!(matches!(of(status, body), Error::Unknown(_)), status == 504);
            assert_eq!(of(status, body).certainty(), Certainty::MaybeDone);
        }
    }

    #[test]
    fn a_page_or_nothing_in_place_of_json_is_an_outage() {
        for (status, body) in [(400, ""), (404, "<html>"), (403, " <!DOCTYPE html>"), (401, "<html>"), (502, "<html>")]
        {
            assert!(matches!(of(status, body), Error::Unavailable { .. }), "{status} {body}");
        }
        assert!(matches!(of(403, ""), Error::Unauthorized { .. }));
    }

    #[test]
    fn a_failure_under_status_200_is_seen() {
        let hidden = |body: &str| Error::hidden_in(StatusCode::OK, &serde_json::from_str(body).expect("JSON"));
        assert!(matches!(hidden(r#"{"error":{"code":402,"message":"m"}}"#), Some(Error::PaymentRequired { .. })));
        assert!(matches!(hidden(r#"{"ok":false}"#), Some(Error::Refused { status: 200, .. })));
        assert!(matches!(hidden(r#"{"result":{"status":false,"message":"m"}}"#), Some(Error::Refused { .. })));
        assert!(hidden(r#"{"ok":true,"error":null}"#).is_none() && hidden("[]").is_none());
    }

    #[test]
    fn a_printed_error_does_not_quote_avito() {
        let error = of(400, r#"{"message":"привет, Анна"}"#);
        assert!(!format!("{error} {error:?}").contains("Анна"));
    }
}
