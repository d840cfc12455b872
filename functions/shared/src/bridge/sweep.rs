//! Finds, once a minute, committed work for which no worker was woken: its wake-up was lost, or the worker died.

use std::time::Duration;

use crate::{
    App,
    bridge::{
        common::queue_tasks::{AutoReplyTask, AvitoTask, TelegramTask},
        error::BridgeError,
    },
    platform::db::{DbError, Scope, Statement, get},
};

/// The most wake-ups of each kind in one sweep; the next one goes on.
const SWEEP_BATCH: i64 = 1000;

/// The findings of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepReport {
    /// Bots woken.
    pub bots: usize,
    /// Dialogs woken.
    pub dialogs: usize,
    /// Overdue auto-replies, woken.
    pub auto_replies: usize,
}

/// Wakes every outbox and dialog that is overdue and has no valid lease, and every overdue auto-reply.
pub async fn sweep(app: &App) -> Result<SweepReport, BridgeError> {
    let outboxes = Statement::new(
        "SELECT bot_id AS id FROM bot_outboxes
         WHERE due_at <= now() - interval '5 seconds' AND (lease_until IS NULL OR lease_until < now())
         ORDER BY due_at LIMIT $1",
    );
    let dialogs = Statement::new(
        "SELECT id FROM dialogs
         WHERE (send_at <= now() - interval '5 seconds' OR mark_read_at <= now())
           AND (lease_until IS NULL OR lease_until < now())
         ORDER BY least(send_at, mark_read_at) LIMIT $1",
    );
    let auto_replies = Statement::new(
        "SELECT id, auto_reply_scheduled_at FROM dialogs WHERE auto_reply_scheduled_at <= now() - interval '2 minutes'
         ORDER BY auto_reply_scheduled_at LIMIT $1",
    );
    let statements = vec![outboxes.bind(SWEEP_BATCH), dialogs.bind(SWEEP_BATCH), auto_replies.bind(SWEEP_BATCH)];
    let found = app.db().run(Scope::Service, statements).await?;
    let ids = |index: usize| -> Result<Vec<i64>, DbError> {
        found.get(index).into_iter().flatten().map(|row| get(row, "id")).collect()
    };
    let bots: Vec<_> = ids(0)?.into_iter().map(|bot_id| TelegramTask::V1 { bot_id }).collect();
    let dialogs: Vec<_> = ids(1)?.into_iter().map(|dialog_id| AvitoTask::V1 { dialog_id }).collect();
    let auto_replies = found.get(2).into_iter().flatten().map(|row| {
        Ok(AutoReplyTask::V1 { dialog_id: get(row, "id")?, scheduled_at: get(row, "auto_reply_scheduled_at")? })
    });
    let auto_replies = auto_replies.collect::<Result<Vec<_>, DbError>>()?;
    let sent = [
        app.send_many(&bots, Duration::ZERO).await,
        app.send_many(&dialogs, Duration::ZERO).await,
        app.send_many(&auto_replies, Duration::ZERO).await,
    ];
    for error in sent.into_iter().filter_map(Result::err) {
        tracing::warn!(%error, "a sweep could not send all wake-ups; the next one does");
    }
    Ok(SweepReport { bots: bots.len(), dialogs: dialogs.len(), auto_replies: auto_replies.len() })
}
