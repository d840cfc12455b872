//! The result of a worker's claim, of a bot's outbox or of a dialog, and the end of its run.

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};

use crate::platform::db::{DbError, ResultSets};

/// The result of a claim.
pub enum Claim<T> {
    /// There is work, and this worker holds the lease.
    Claimed(Box<T>),
    /// Nothing is due now, and the lease is released.
    Idle {
        /// The delay of the wake-up to send for the first work that is due later. None: no wake-up is needed.
        wake_in: Option<Duration>,
    },
    /// Nothing is due now, and the lease is released. Work is due after this short time, and no wake-up is sent for it.
    DueSoon(Duration),
    /// Another worker holds the lease.
    LeaseTaken,
    /// The row does not exist, or nothing of it is due.
    NothingDue,
}

/// The end of a worker's run for one bot or dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerOutcome {
    /// Nothing is left to do now. Work that is due later has its wake-up.
    Done,
    /// Another worker holds the lease.
    LeaseTaken,
}

/// The JSON that a claim returns.
#[derive(Deserialize)]
struct Returned<T> {
    outcome: Option<Outcome>,
    /// Seconds until the first work that is due later.
    wake_in: Option<f64>,
    bot_id: Option<i64>,
    work: Option<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Claimed,
    Idle,
    DueSoon,
    LeaseTaken,
}

impl<T: DeserializeOwned> Claim<T> {
    /// Reads the result of a transaction whose last statement claims, `{outcome, wake_in, bot_id, work}`: the claim and
    /// the bot to wake.
    pub(in crate::bridge) fn read(results: &ResultSets) -> Result<(Self, Option<i64>), DbError> {
        let Returned { outcome, wake_in, bot_id, work } = results.json()?;
        let wake_in = wake_in.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
        let claim = match outcome {
            None => Self::NothingDue,
            Some(Outcome::LeaseTaken) => Self::LeaseTaken,
            Some(Outcome::Idle) => Self::Idle { wake_in },
            Some(Outcome::DueSoon) => Self::DueSoon(wake_in.unwrap_or_default()),
            Some(Outcome::Claimed) => Self::Claimed(Box::new(work.ok_or(DbError::Shape)?)),
        };
        Ok((claim, bot_id))
    }
}
