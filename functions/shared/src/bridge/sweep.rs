//! Finds, once a minute, committed work for which no worker was woken: its wake-up was lost, or the worker died. Measures
//! the state of the whole, for the alarms.

use std::time::Duration;

use crate::{
    App,
    bridge::{
        common::queue_tasks::{AutoReplyTask, AvitoTask, TelegramTask},
        error::BridgeError,
    },
    platform::db::{Db, DbError, FUNCTIONS_SCHEMA, Scope, Statement, get},
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
         WHERE send_at <= now() - interval '5 seconds' AND (lease_until IS NULL OR lease_until < now())
         ORDER BY send_at LIMIT $1",
    );
    let auto_replies = Statement::new(
        "SELECT id, auto_reply_scheduled_at FROM dialogs WHERE auto_reply_scheduled_at <= now() - interval '2 minutes'
         ORDER BY auto_reply_scheduled_at LIMIT $1",
    );
    // With a limit of their own, and behind the answers: a thousand quiet chats hide no answer.
    let quiet = Statement::new(
        "SELECT id FROM dialogs
         WHERE mark_read_at <= now() AND coalesce(send_at > now(), true) AND (lease_until IS NULL OR lease_until < now())
         ORDER BY mark_read_at LIMIT $1",
    );
    let statements = [outboxes, dialogs, auto_replies, quiet].map(|statement| statement.bind(SWEEP_BATCH)).into();
    let found = app.db().run(Scope::Service, statements).await?;
    let ids = |index: usize| -> Result<Vec<i64>, DbError> {
        found.get(index).into_iter().flatten().map(|row| get(row, "id")).collect()
    };
    let bots: Vec<_> = ids(0)?.into_iter().map(|bot_id| TelegramTask::V1 { bot_id }).collect();
    let (dialogs, quiet) = (ids(1)?, ids(3)?);
    let dialogs: Vec<_> = dialogs.into_iter().chain(quiet).map(|dialog_id| AvitoTask::V1 { dialog_id }).collect();
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

/// The state of the whole at one time. An alarm on a state ends with it, and does not grow with the number of attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gauges {
    /// The age of the oldest work for Telegram that is due and that no worker took, seconds.
    pub telegram_due_seconds: f64,
    /// The same for Avito.
    pub avito_due_seconds: f64,
    /// The same for polls of accounts that should be read.
    pub poll_due_seconds: f64,
    /// Bots.
    pub bots: i64,
    /// Those that cannot work in their groups.
    pub bots_in_error: i64,
    /// Accounts that should be read.
    pub accounts: i64,
    /// Those that Avito refuses.
    pub accounts_refused: i64,
    /// Those whose messages Avito sends to another product now.
    pub accounts_taken_over: i64,
    /// 1 if the schema with the stored functions of this code is missing, else 0.
    pub sql_schema_missing: i64,
}

/// Reads the gauges.
pub async fn read_gauges(db: &Db) -> Result<Gauges, DbError> {
    let statement = Statement::new(
        "SELECT (SELECT coalesce(extract(epoch FROM now() - min(due_at)), 0)::float8 FROM bot_outboxes
                 WHERE due_at <= now() AND (lease_until IS NULL OR lease_until < now())) AS telegram_due_seconds,
                (SELECT coalesce(extract(epoch FROM now() - min(send_at)), 0)::float8 FROM dialogs
                 WHERE send_at <= now() AND (lease_until IS NULL OR lease_until < now())) AS avito_due_seconds,
                (SELECT coalesce(greatest(extract(epoch FROM now() - min(p.next_poll_at)), 0), 0)::float8
                 FROM account_polls p JOIN tenancy_accounts a ON a.avito_account_id = p.avito_account_id
                 WHERE a.monitoring_enabled AND a.suspended_at IS NULL AND a.status = 'active') AS poll_due_seconds,
                b.all_bots, b.bots_in_error, a.accounts, a.accounts_refused, a.accounts_taken_over, (to_regnamespace($1) IS NULL)::int::bigint AS missing
         FROM (SELECT count(*) AS all_bots, count(*) FILTER (WHERE status <> 'active') AS bots_in_error
               FROM tenancy_bots WHERE suspended_at IS NULL) AS b,
              (SELECT count(*) AS accounts, count(*) FILTER (WHERE status <> 'active') AS accounts_refused,
                      count(*) FILTER (WHERE is_taken_over) AS accounts_taken_over
               FROM tenancy_accounts JOIN tenancy_webhooks USING (avito_account_id)
               WHERE monitoring_enabled AND suspended_at IS NULL) AS a",
    );
    let rows = db.query(Scope::Service, statement.bind(FUNCTIONS_SCHEMA)).await?;
    let row = rows.first().ok_or(DbError::Shape)?;
    Ok(Gauges {
        telegram_due_seconds: get(row, "telegram_due_seconds")?,
        avito_due_seconds: get(row, "avito_due_seconds")?,
        poll_due_seconds: get(row, "poll_due_seconds")?,
        bots: get(row, "all_bots")?,
        bots_in_error: get(row, "bots_in_error")?,
        accounts: get(row, "accounts")?,
        accounts_refused: get(row, "accounts_refused")?,
        accounts_taken_over: get(row, "accounts_taken_over")?,
        sql_schema_missing: get(row, "missing")?,
    })
}

impl Gauges {
    /// Hands them to the metrics.
    #[expect(clippy::cast_precision_loss, reason = "counts of bots and accounts are far below 2^52")]
    pub fn record(&self) {
        metrics::gauge!("telegram_due_seconds").set(self.telegram_due_seconds);
        metrics::gauge!("avito_due_seconds").set(self.avito_due_seconds);
        metrics::gauge!("poll_due_seconds").set(self.poll_due_seconds);
        metrics::gauge!("bots").set(self.bots as f64);
        metrics::gauge!("bots_in_error").set(self.bots_in_error as f64);
        metrics::gauge!("accounts").set(self.accounts as f64);
        metrics::gauge!("accounts_refused").set(self.accounts_refused as f64);
        metrics::gauge!("accounts_taken_over").set(self.accounts_taken_over as f64);
        metrics::gauge!("sql_schema_missing").set(self.sql_schema_missing as f64);
    }
}
