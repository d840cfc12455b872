//! An account that is polled, and its intervals: when it is due again, as webhooks report everything or not, and while
//! Avito refuses it.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::{
    App, avito,
    bridge::common::avito_call::CallError,
    platform::{
        config::{Variable, var},
        db::{DbError, Statement, get, get_variant},
    },
    tenancy::accounts::{AccountStatus, Keys, TokenError},
};

/// The interval until the next poll of a refused account, seconds, if the one that is due now does not end.
const REFUSED_INTERVAL: f64 = 3600.0;
/// Messages that were unread when an account was connected are posted if they are not older than this, seconds.
const MAX_UNREAD_AGE: i64 = 48 * 3600;
/// `updated` of chats may be this much out of order, seconds.
const UPDATED_MARGIN: i64 = 120;
/// Shortens the configured intervals a little, so that a round that comes a moment early does not skip an account.
const INTERVAL_FACTOR: f64 = 0.9;

/// Adds the intervals of `sql.poll_interval` to a call.
pub(super) fn with_intervals(app: &App, call: Statement) -> Statement {
    let usual = usual_interval(app);
    let trusted = interval(app, var::WEBHOOK_POLL_INTERVAL_SECONDS).map_or(usual, |seconds| seconds * INTERVAL_FACTOR);
    call.arg("usual_seconds", usual).arg("trusted_seconds", trusted.max(usual)).arg("refused_seconds", REFUSED_INTERVAL)
}

pub(super) fn usual_interval(app: &App) -> f64 {
    interval(app, var::POLL_INTERVAL_SECONDS).unwrap_or(REFUSED_INTERVAL) * INTERVAL_FACTOR
}

fn interval(app: &App, variable: Variable) -> Option<f64> {
    app.config().number(variable).and_then(|seconds| u32::try_from(seconds).ok()).map(f64::from)
}

/// Starts the polls of the account that has this id at Avito; if it is polled already, makes it due now.
pub fn start_polling(user_id: i64) -> Statement {
    Statement::new(
        "INSERT INTO account_polls AS p (avito_account_id, client_id)
         SELECT avito_account_id, client_id FROM tenancy_accounts WHERE user_id = $1
         ON CONFLICT (avito_account_id) DO UPDATE SET next_poll_at = least(p.next_poll_at, now())",
    )
    .bind(user_id)
}

/// Makes accounts due now, except those that Avito refuses.
pub(in crate::bridge::ingest) fn make_polls_due(account_ids: Vec<i64>) -> Statement {
    Statement::new(
        "UPDATE account_polls p SET next_poll_at = now() FROM tenancy_accounts a
         WHERE p.avito_account_id = ANY($1) AND a.avito_account_id = p.avito_account_id AND a.status = 'active'
           AND p.next_poll_at > now()",
    )
    .bind(account_ids)
}

/// An account to poll.
pub(super) struct PolledAccount {
    pub(super) keys: Keys,
    pub(super) started: i64,
    pub(super) watermark: Option<i64>,
    pub(super) digest: Option<Vec<u8>>,
    pub(super) unread_digest: Option<Vec<u8>>,
    pub(super) status: AccountStatus,
    /// True if the chats with unread messages are listed as well.
    pub(super) list_unread: bool,
    /// True if it is time to judge if webhooks reported what polls found.
    pub(super) judge_webhook: bool,
    /// True if a chat that could not be read is to be tried again, or the last poll broke off in one.
    pub(super) has_due_chats: bool,
    /// The times of the last calls for messages, seconds since 1970.
    pub(super) message_calls: Vec<i64>,
    /// The failures of its polls in a row.
    pub(super) attempts: i32,
    /// The time since which Avito refuses it. None: it is accepted.
    pub(super) refused_since: Option<Timestamp>,
}

impl PolledAccount {
    pub(super) fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            keys: Keys::read(row)?,
            started: get::<Timestamp>(row, "started_at")?.as_second(),
            watermark: get(row, "watermark")?,
            digest: get(row, "page_digest")?,
            unread_digest: get(row, "unread_digest")?,
            status: get_variant(row, "status")?,
            list_unread: get(row, "list_unread")?,
            judge_webhook: get(row, "judge_webhook")?,
            has_due_chats: get(row, "has_due_chats")?,
            message_calls: get(row, "message_calls")?,
            attempts: get(row, "attempts")?,
            refused_since: get(row, "refused_since")?,
        })
    }

    /// True if Avito accepts the account.
    pub(super) fn is_active(&self) -> bool {
        self.status.is_active()
    }

    /// The time of the oldest unread messages that are posted, seconds.
    pub(super) fn oldest_unread(&self) -> i64 {
        self.started - MAX_UNREAD_AGE
    }

    /// The time down to which chats are listed, seconds.
    pub(super) fn floor(&self) -> i64 {
        self.watermark.map_or(self.oldest_unread(), |watermark| watermark - UPDATED_MARGIN)
    }
}

/// The reason for which an account was not polled.
#[derive(Debug, thiserror::Error)]
pub(super) enum PollError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Avito(#[from] avito::Error),
    /// Avito refuses the account: the probe says so, or its keys are not accepted.
    #[error("Avito refuses the account")]
    Refused(AccountStatus, String),
    #[error("Avito asks for a tariff with access to its API")]
    Tariff,
    #[error("so many chats in a row could not be read that it is not about the chats")]
    NoChat,
    #[error("it took too long")]
    TooLong,
}

impl From<CallError> for PollError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Token(error) => Self::Token(error),
            CallError::Avito(error) => Self::Avito(error),
            CallError::AccountRefused(status, reason) => Self::Refused(status, reason),
            CallError::Undecided => Self::Avito(avito::Error::Unavailable { status: 403 }),
            CallError::TooLate => Self::TooLong,
        }
    }
}

/// The scale of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// One chat cannot be read; the others can.
    Chat,
    /// Nothing of the account can be read now.
    Account,
}

impl PollError {
    /// The scale of a failure that happened while one chat was read.
    pub(super) fn scale(&self) -> Scale {
        match self {
            Self::Avito(avito::Error::NotSent(_) | avito::Error::RateLimited { .. })
            | Self::Db(DbError::Unavailable(_))
            | Self::Token(_)
            | Self::Refused(..)
            | Self::Tariff
            | Self::NoChat
            | Self::TooLong => Scale::Account,
            Self::Avito(
                avito::Error::Unknown(_)
                | avito::Error::Unauthorized { .. }
                | avito::Error::PaymentRequired { .. }
                | avito::Error::Refused { .. }
                | avito::Error::Unavailable { .. },
            )
            | Self::Db(DbError::Constraint { .. } | DbError::Statement(_) | DbError::Shape) => Scale::Chat,
        }
    }

    /// True if Avito, or our own count of calls, allows no further call for now.
    pub(super) fn is_limit(&self) -> bool {
        matches!(self, Self::Avito(avito::Error::RateLimited { .. }))
    }

    /// The wait that Avito, or our own count of calls, orders. None: it orders none.
    pub(super) fn ordered_wait(&self) -> Option<Duration> {
        match self {
            Self::Avito(avito::Error::RateLimited { retry_after }) => Some(*retry_after),
            Self::Token(TokenError::Unavailable(pause)) => Some(*pause),
            Self::Db(_)
            | Self::Token(_)
            | Self::Avito(_)
            | Self::Refused(..)
            | Self::Tariff
            | Self::NoChat
            | Self::TooLong => None,
        }
    }
}
