//! The tasks in the bridge's queues: they name rows, never what to do with them. Bodies are versioned, because some are
//! still in a queue while a new version of the code starts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::platform::{
    config::{Variable, var},
    queue::Task,
};

/// Delivers what a bot has to post.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "v")]
pub enum TelegramTask {
    /// The first version.
    #[serde(rename = "1")]
    V1 {
        /// The row in `bots`.
        bot_id: i64,
    },
}

impl Task for TelegramTask {
    const QUEUE: Variable = var::TELEGRAM_QUEUE_URL;
}

/// Delivers what a dialog has to send to Avito.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "v")]
pub enum AvitoTask {
    /// The first version.
    #[serde(rename = "1")]
    V1 {
        /// The row in `dialogs`.
        dialog_id: i64,
    },
}

impl Task for AvitoTask {
    const QUEUE: Variable = var::AVITO_QUEUE_URL;
}

/// Polls these accounts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "v")]
pub enum PollTask {
    /// The first version.
    #[serde(rename = "1")]
    V1 {
        /// Rows in `avito_accounts`, at most fifty.
        account_ids: Vec<i64>,
        /// The time at which they are due. A task that is a minute late is dropped: the next round has them again.
        due: Timestamp,
    },
}

impl Task for PollTask {
    const QUEUE: Variable = var::POLL_QUEUE_URL;
}

/// Records a webhook that came while Postgres was away.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "v")]
pub enum IntakeTask {
    /// The first version.
    #[serde(rename = "1")]
    V1 {
        /// The row in `avito_accounts`, whose secret the webhook knew.
        account_id: i64,
        /// The webhook's body, as it came.
        payload: String,
    },
}

impl Task for IntakeTask {
    const QUEUE: Variable = var::INTAKE_QUEUE_URL;
}

/// A task of the intake queue whose webhook Postgres refuses in any form. Nothing reads it but people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IntakeDeadLetter(pub IntakeTask);

impl Task for IntakeDeadLetter {
    const QUEUE: Variable = var::INTAKE_DEAD_LETTERS_URL;
}

/// Sends a dialog's auto-reply, unless an answer came first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "v")]
pub enum AutoReplyTask {
    /// The first version.
    #[serde(rename = "1")]
    V1 {
        /// The row in `dialogs`.
        dialog_id: i64,
        /// The time for which the auto-reply is scheduled. If the dialog has another time or none, nothing is sent.
        scheduled_at: Timestamp,
    },
}

impl Task for AutoReplyTask {
    const QUEUE: Variable = var::AUTO_REPLY_QUEUE_URL;
}
