//! How a look of a worker ends: at a bot's outbox ([`super::work`]) and at a dialog's way to Avito ([`super::outbox`]).

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};

use crate::platform::db::{self, DbError, ResultSets};

/// How a look ended.
pub enum Claim<T> {
    /// There is something to do, and what was looked at is ours.
    Claimed(Box<T>),
    /// Nothing is to be done now, and it was let go.
    Idle {
        /// How long the first thing waits that waits for its time, if a wake-up is to be sent for it.
        wake_in: Option<Duration>,
    },
    /// Nothing is to be done now, it was let go, and what waits is due in this short while: nobody is booked for that.
    DueSoon(Duration),
    /// Somebody else has it.
    LeaseTaken,
    /// It is not there, or nothing of it is due.
    NothingDue,
}

/// What a look answers.
#[derive(Deserialize)]
struct Returned<T> {
    outcome: Option<Outcome>,
    /// Seconds.
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
    /// Reads the answer to a transaction that looks last, `{ends, wake_in, bot_id, work}`: how it ended, and the bot to wake.
    pub(super) fn read(results: &ResultSets) -> Result<(Self, Option<i64>), DbError> {
        let Returned { outcome, wake_in, bot_id, work } = db::returned(results)?;
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
