//! Wake-ups: the bots and dialogs that a transaction made due, and the auto-replies that it scheduled. They are read from its
//! result sets and sent after its commit. A wake-up that is lost is repaired by the sweep.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::queue_tasks::{AutoReplyTask, AvitoTask, TelegramTask};
use crate::{
    App,
    platform::{
        config::var,
        db::{DbError, ResultSets, get},
    },
};

/// The label of statements that return wake-ups: rows of `bot_id`, `dialog_id`, `wait_seconds` and `auto_reply_at`. A row has a bot
/// or a dialog; a dialog with `auto_reply_at` has an auto-reply scheduled for that time.
pub const WAKEUPS: &str = "wakeups";

/// The tasks to send, by the whole seconds of their delays.
#[derive(Debug, Default)]
pub struct Wakeups {
    bots: BTreeMap<u64, Vec<TelegramTask>>,
    dialogs: BTreeMap<u64, Vec<AvitoTask>>,
    auto_replies: Vec<AutoReplyTask>,
}

impl Wakeups {
    /// Reads the result sets labelled [`WAKEUPS`].
    pub fn read(results: &ResultSets) -> Result<Self, DbError> {
        let mut wakeups = Self::default();
        for row in results.labelled(WAKEUPS) {
            let wait = get::<Option<i64>>(row, "wait_seconds")?.unwrap_or_default().unsigned_abs();
            let scheduled_at: Option<Timestamp> = get(row, "auto_reply_at")?;
            match (get(row, "bot_id")?, get(row, "dialog_id")?, scheduled_at) {
                (Some(bot_id), _, _) => wakeups.bots.entry(wait).or_default().push(TelegramTask::V1 { bot_id }),
                (None, Some(dialog_id), Some(scheduled_at)) => {
                    wakeups.auto_replies.push(AutoReplyTask::V1 { dialog_id, scheduled_at });
                }
                (None, Some(dialog_id), None) => {
                    wakeups.dialogs.entry(wait).or_default().push(AvitoTask::V1 { dialog_id });
                }
                (None, None, _) => {}
            }
        }
        Ok(wakeups)
    }

    /// Sends them all.
    pub async fn wake(&self, app: &App) {
        let bots = Box::pin(async {
            for (seconds, tasks) in &self.bots {
                app.wake_many(tasks, Duration::from_secs(*seconds)).await;
            }
        });
        let dialogs = Box::pin(async {
            for (seconds, tasks) in &self.dialogs {
                app.wake_many(tasks, Duration::from_secs(*seconds)).await;
            }
        });
        let auto_replies = Box::pin(async {
            // Only functions that schedule auto-replies declare the variable of the delay.
            if !self.auto_replies.is_empty() {
                app.wake_many(&self.auto_replies, auto_reply_delay(app)).await;
            }
        });
        tokio::join!(bots, dialogs, auto_replies);
    }
}

/// The time that people have to answer before the auto-reply does.
pub fn auto_reply_delay(app: &App) -> Duration {
    let seconds = app.config().number(var::AUTO_REPLY_DELAY_SECONDS);
    Duration::from_secs(seconds.and_then(|seconds| seconds.try_into().ok()).unwrap_or_default())
}
