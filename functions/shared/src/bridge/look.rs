//! How a look of a worker ends: at a bot's lane ([`super::work`]) and at a dialog's way to Avito ([`super::outbox`]).

use std::time::Duration;

use tokio_postgres::Row;

use crate::platform::db::{Answers, DbError, get};

/// How a look ended.
pub enum Look<T> {
    /// There is something to do, and what was looked at is ours.
    Found(Box<T>),
    /// Nothing is to be done now, and it was let go.
    Idle {
        /// How long the first thing waits that waits for its time, if a wake-up is to be sent for it.
        wake_in: Option<Duration>,
    },
    /// Somebody else has it.
    Held,
    /// It is not there, or nothing of it is due.
    Gone,
}

/// The row in which a look answers, the last of its flight.
pub(super) fn row(answers: &Answers) -> Result<&Row, DbError> {
    answers.last().and_then(|rows| rows.first()).ok_or(DbError::Shape)
}

impl<T> Look<T> {
    /// Reads the columns `ends` and `wake_in` (seconds), and by `found` the others.
    pub(super) fn read(row: &Row, found: impl FnOnce(&Row) -> Result<T, DbError>) -> Result<Self, DbError> {
        Ok(match get::<Option<&str>>(row, "ends")? {
            None => Self::Gone,
            Some("held") => Self::Held,
            Some("idle") => Self::Idle {
                wake_in: get::<Option<f64>>(row, "wake_in")?
                    .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()),
            },
            Some(_) => Self::Found(Box::new(found(row)?)),
        })
    }
}
