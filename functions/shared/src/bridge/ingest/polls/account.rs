//! An account that is polled, and its intervals: when it is due again, as webhooks report everything or not, and while
//! Avito refuses it.

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

/// The interval between two polls of a refused account, seconds.
pub(super) const REFUSED_INTERVAL: f64 = 3600.0;
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

/// Starts the polls of an account; if it is polled already, makes it due now.
pub fn start_polling(account_id: i64) -> Statement {
    Statement::new(
        "INSERT INTO account_polls AS p (avito_account_id, client_id)
         SELECT avito_account_id, client_id FROM tenancy_accounts WHERE avito_account_id = $1
         ON CONFLICT (avito_account_id) DO UPDATE SET next_poll_at = least(p.next_poll_at, now())",
    )
    .bind(account_id)
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
    pub(super) is_active: bool,
    /// True if the chats with unread messages are listed as well.
    pub(super) list_unread: bool,
    /// True if it is time to judge if webhooks reported what polls found.
    pub(super) judge_webhook: bool,
}

impl PolledAccount {
    pub(super) fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            keys: Keys::read(row)?,
            started: get::<Timestamp>(row, "started_at")?.as_second(),
            watermark: get(row, "watermark")?,
            digest: get(row, "page_digest")?,
            unread_digest: get(row, "unread_digest")?,
            is_active: get_variant::<AccountStatus>(row, "status")?.is_active(),
            list_unread: get(row, "list_unread")?,
            judge_webhook: get(row, "judge_webhook")?,
        })
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
    #[error("Avito asks for a tariff with access to its API")]
    Tariff,
    #[error("it took too long")]
    TooLong,
}

impl From<CallError> for PollError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Token(error) => Self::Token(error),
            CallError::Avito(error) => Self::Avito(error),
            CallError::AccountRefused(AccountStatus::Expired, reason) => Self::Token(TokenError::Refused(reason)),
            CallError::AccountRefused(_, message) => Self::Avito(avito::Error::Unauthorized { status: 403, message }),
            CallError::Undecided => Self::Avito(avito::Error::Unavailable { status: 403 }),
            CallError::TooLate => Self::TooLong,
        }
    }
}

impl PollError {
    /// True if the next poll may succeed although nothing was changed.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Db(_) | Self::TooLong | Self::Token(TokenError::Db(_) | TokenError::Unavailable(_)) => true,
            Self::Avito(error) => error.retry_in().is_some(),
            Self::Token(TokenError::Refused(_) | TokenError::Secrets(_)) | Self::Tariff => false,
        }
    }
}
