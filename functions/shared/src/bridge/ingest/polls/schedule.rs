//! Schedules polls: the accounts of the coming minute, by its rounds.

use std::time::Duration;

use jiff::Timestamp;

use super::account::{make_polls_due, with_intervals};
use crate::{
    App,
    bridge::{common::queue_tasks::PollTask, error::BridgeError},
    platform::{
        config::var,
        db::{DbError, Scope, Statement, get},
    },
};

/// The most accounts in one task.
const TASK_ACCOUNTS: usize = 50;
/// The time that the rounds of one schedule cover, seconds.
const MINUTE: i32 = 60;
/// The set in Redis of accounts that lost a webhook. The schedule of the polls empties it.
pub(in crate::bridge) const LOST_WEBHOOKS: &str = "avito-webhooks-lost";
/// The most entries of that set: in an outage a caller without a valid secret can add accounts to it.
pub(in crate::bridge) const MAX_LOST: i64 = 10_000;
pub(in crate::bridge) const LOST_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// An account that is due within the minute.
struct Due {
    account_id: i64,
    /// The time until it is due, seconds.
    wait: f64,
    /// The time from one poll to the next, seconds.
    interval: f64,
}

/// Enqueues the polls of the coming minute: a task per fifty accounts and round. Returns the number of tasks.
pub async fn schedule(app: &App) -> Result<usize, BridgeError> {
    make_lost_accounts_due(app).await?;
    let due_polls = Statement::call("due_polls").arg("within_seconds", f64::from(MINUTE));
    let rows = app.db().query(Scope::Service, with_intervals(app, due_polls)).await?;
    let mut due: Vec<Due> = rows
        .iter()
        .map(|row| {
            Ok(Due {
                account_id: get(row, "avito_account_id")?,
                wait: get(row, "wait_seconds")?,
                interval: get(row, "interval_seconds")?,
            })
        })
        .collect::<Result<_, DbError>>()?;
    let round = app.config().number(var::POLL_INTERVAL_SECONDS).and_then(|seconds| i32::try_from(seconds).ok());
    let round = round.unwrap_or(MINUTE).clamp(1, MINUTE);
    let now = Timestamp::now();
    let mut sent = 0;
    for offset in (0..MINUTE).step_by(usize::try_from(round).unwrap_or(1)) {
        let seconds = i64::from(offset);
        let due_at = now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now);
        let tasks: Vec<PollTask> = take_due(&mut due, f64::from(offset))
            .chunks(TASK_ACCOUNTS)
            .map(|ids| PollTask::V1 { account_ids: ids.to_vec(), due: due_at })
            .collect();
        match app.send_many(&tasks, Duration::from_secs(seconds.unsigned_abs())).await {
            Ok(()) => sent += tasks.len(),
            Err(error) => tracing::warn!(%error, "a round of polls was not enqueued; the next one has its accounts"),
        }
    }
    Ok(sent)
}

/// Makes the accounts due that lost a webhook. An entry is removed after the account's row was updated, and before that
/// account is polled.
async fn make_lost_accounts_due(app: &App) -> Result<(), DbError> {
    let lost = match app.cache().members(LOST_WEBHOOKS).await {
        Ok(lost) if lost.is_empty() => return Ok(()),
        Ok(lost) => lost,
        Err(error) => {
            tracing::warn!(%error, "it is not known whether webhooks were lost");
            return Ok(());
        }
    };
    let ids = lost.iter().filter_map(|id| id.parse().ok()).collect();
    app.db().query(Scope::Service, make_polls_due(ids)).await?;
    if app.cache().remove(LOST_WEBHOOKS, &lost).await.is_err() {
        tracing::warn!("Redis did not remove the lost-webhook entries; their accounts are polled once more");
    }
    Ok(())
}

/// Takes the accounts of the round that begins `offset` seconds from now. They are due again after their interval.
fn take_due(due: &mut [Due], offset: f64) -> Vec<i64> {
    let now_due = due.iter_mut().filter(|account| account.wait <= offset);
    now_due
        .map(|account| {
            account.wait = offset + account.interval;
            account.account_id
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_in_every_round_that_begins_after_its_interval_and_in_no_other() {
        let account = |account_id, wait, interval| Due { account_id, wait, interval };
        let mut due = [account(1, 0.0, 27.0), account(2, 0.0, 270.0), account(3, 30.4, 27.0)];
        let rounds: Vec<_> = [0.0, 30.0].map(|offset| take_due(&mut due, offset)).to_vec();
        assert_eq!(rounds, [vec![1, 2], vec![1]]);
        let mut due = [account(1, 0.0, 4.5), account(3, 30.4, 27.0)];
        let rounds: Vec<_> = [0.0, 5.0, 30.0, 35.0].map(|offset| take_due(&mut due, offset)).to_vec();
        assert_eq!(rounds, [vec![1], vec![1], vec![1], vec![1, 3]]);
    }
}
