//! How a look of a worker ends: at a bot's outbox ([`super::work`]) and at a dialog's way to Avito ([`super::outbox`]).

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};

use crate::platform::db::{self, DbError, ResultSets};

/// How a look ended.
pub enum Look<T> {
    /// There is something to do, and what was looked at is ours.
    Found(Box<T>),
    /// Nothing is to be done now, and it was let go.
    Idle {
        /// How long the first thing waits that waits for its time, if a wake-up is to be sent for it.
        wake_in: Option<Duration>,
    },
    /// Nothing is to be done now, it was let go, and what waits is due in this short while: nobody is booked for that.
    Soon(Duration),
    /// Somebody else has it.
    Held,
    /// It is not there, or nothing of it is due.
    Gone,
}

/// What a look answers.
#[derive(Deserialize)]
struct Answer<T> {
    ends: Option<Ends>,
    /// Seconds.
    wake_in: Option<f64>,
    bot_id: Option<i64>,
    work: Option<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ends {
    Work,
    Idle,
    Soon,
    Held,
}

impl<T: DeserializeOwned> Look<T> {
    /// Reads the answer to a transaction that looks last, `{ends, wake_in, bot_id, work}`: how it ended, and the bot to wake.
    pub(super) fn read(results: &ResultSets) -> Result<(Self, Option<i64>), DbError> {
        let Answer { ends, wake_in, bot_id, work } = db::returned(results)?;
        let wake_in = wake_in.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
        let look = match ends {
            None => Self::Gone,
            Some(Ends::Held) => Self::Held,
            Some(Ends::Idle) => Self::Idle { wake_in },
            Some(Ends::Soon) => Self::Soon(wake_in.unwrap_or_default()),
            Some(Ends::Work) => Self::Found(Box::new(work.ok_or(DbError::Shape)?)),
        };
        Ok((look, bot_id))
    }
}
