//! Wakes the bots and dialogs that a transaction made due.

use std::time::Duration;

use super::queue_tasks::{AvitoTask, TelegramTask};
use crate::{
    App,
    platform::db::{DbError, ResultSets, get},
};

/// Wakes the bots and dialogs that the statements returned, as `bot_to_wake` and `dialog_to_wake`.
pub async fn wake(app: &App, results: &ResultSets) -> Result<(), DbError> {
    let ids = |name: &'static str| {
        let named = move |row: &&tokio_postgres::Row| row.columns().iter().any(|column| column.name() == name);
        results.iter().flatten().filter(named).map(move |row| get::<i64>(row, name)).collect::<Result<Vec<_>, _>>()
    };
    for bot_id in ids("bot_to_wake")? {
        app.wake(&TelegramTask::V1 { bot_id }, Duration::ZERO).await;
    }
    let dialogs: Vec<_> = ids("dialog_to_wake")?.into_iter().map(|dialog_id| AvitoTask::V1 { dialog_id }).collect();
    if let Err(error) = app.send_many(&dialogs, Duration::ZERO).await {
        tracing::warn!(%error, "dialogs could not be woken; the sweep finds them");
    }
    Ok(())
}
