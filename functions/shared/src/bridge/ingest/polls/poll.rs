//! Polls accounts: the second source of the same messages, for those that no webhook reported. An account whose
//! webhooks report every message is polled rarely, any other account often, and one that Avito refuses ever more
//! rarely.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    account::{PollError, PolledAccount, usual_interval, with_intervals},
    sync,
};
use crate::{
    App,
    bridge::{
        common::{avito_call::AvitoCaller, queue_tasks::PollTask, telegram_budget::time_since},
        error::BridgeError,
    },
    platform::{
        db::{ClientId, Scope, Statement, get},
        endings::{Duty, ORDERED, spread},
    },
    tenancy::accounts::{self, AccountStatus, TokenError, webhooks},
};

/// Accounts polled at the same time by one process.
const MAX_CONCURRENT_POLLS: usize = 16;
/// A task this late, in seconds, is dropped: the next round has its accounts again.
const MAX_TASK_AGE: i64 = 60;

/// Polls those of the accounts that are due, until `stop` at the latest. A poll that breaks off is continued by the next
/// one. One that fails is repeated at growing intervals; its owners are notified when others are read meanwhile.
pub async fn poll(app: &App, task: &PollTask, stop: Instant) -> Result<(), BridgeError> {
    let PollTask::V1 { account_ids, due } = task;
    if Timestamp::now().duration_since(*due).as_secs() > MAX_TASK_AGE {
        metrics::counter!("polls_dropped").increment(1);
        return Ok(());
    }
    let accounts = claim(app, account_ids.clone()).await?;
    metrics::counter!("accounts_polled").increment(accounts.len() as u64);
    let failures: Vec<Value> = stream::iter(&accounts)
        .map(|account| async move {
            let polled = tokio::time::timeout_at(stop.into(), poll_account(app, account, stop)).await;
            let error = polled.unwrap_or(Err(PollError::TooLong)).err()?;
            tracing::warn!(account_id = account.keys.account_id, %error, "an account was not polled");
            if refusal(&error).is_some() {
                return None;
            }
            metrics::counter!("polls_failed").increment(1);
            account.is_active().then(|| failure(app, account, &error))
        })
        .buffer_unordered(MAX_CONCURRENT_POLLS)
        .filter_map(std::future::ready)
        .collect()
        .await;
    if failures.is_empty() {
        return Ok(());
    }
    let fail = Statement::call("fail_polls").arg("failures", Value::Array(failures));
    for row in app.db().query(Scope::Service, fail).await? {
        let (client_id, account_id) = (ClientId(get(&row, "client_id")?), get(&row, "avito_account_id")?);
        let notice = accounts::notify_not_read(account_id, get(&row, "failed_since")?);
        app.db().query(Scope::Tenant(client_id), notice).await?;
    }
    Ok(())
}

/// Returns a failed poll as `fail_polls` takes it, with the wait before the next one. A wait that was ordered is obeyed, and
/// counts as no attempt.
fn failure(app: &App, account: &PolledAccount, error: &PollError) -> Value {
    let usual = Duration::from_secs_f64(usual_interval(app));
    let wait = usual.max(accounts::wait(Duty::AccountPoll, account.attempts));
    let wait = error.ordered_wait().map_or(wait, |ordered| wait.max(ordered.clamp(ORDERED.0, ORDERED.1)));
    json!({ "account_id": account.keys.account_id, "wait_seconds": wait.as_secs_f64(), "error": error.to_string(),
            "is_attempt": !error.is_limit() })
}

/// Claims the accounts that are due, and sets their next due times: one round trip for all of them.
async fn claim(app: &App, account_ids: Vec<i64>) -> Result<Vec<PolledAccount>, BridgeError> {
    let claim = Statement::call("claim_due_polls").arg("account_ids", account_ids);
    let rows = app.db().query(Scope::Service, with_intervals(app, claim)).await?;
    Ok(rows.iter().map(PolledAccount::read).collect::<Result<_, _>>()?)
}

async fn poll_account(app: &App, account: &PolledAccount, stop: Instant) -> Result<(), PollError> {
    let outcome = sync::sync(app, account, &AvitoCaller::new(app, &account.keys), stop).await;
    let scope = || Scope::Tenant(account.keys.client_id);
    if account.judge_webhook {
        let judged = app.db().query(scope(), judge_webhook(account.keys.account_id)).await?;
        let is_missed = judged.first().map(|row| get::<Option<bool>>(row, "judge_webhook")).transpose()?.flatten();
        if is_missed == Some(true) {
            // Another product may have taken the webhook.
            app.db().query(scope(), webhooks::make_check_due(account.keys.account_id)).await?;
        }
    }
    let Some((status, reason)) = outcome.as_ref().err().and_then(refusal) else { return outcome };
    metrics::counter!("accounts_refused").increment(1);
    let refused = accounts::mark_refused(account.keys.account_id, status, reason);
    app.db().run(scope(), vec![refused, postpone_refused_poll(account)]).await?;
    outcome
}

/// Postpones the next poll of a refused account: it asks if Avito accepts the account again, ever more rarely.
fn postpone_refused_poll(account: &PolledAccount) -> Statement {
    let failing_for = time_since(account.refused_since, Timestamp::now());
    let wait = spread(Duty::AccountRefused.wait_while_failing(failing_for));
    Statement::new(
        "UPDATE account_polls SET next_poll_at = now() + make_interval(secs => $2) WHERE avito_account_id = $1",
    )
    .bind(account.keys.account_id)
    .bind(wait.as_secs_f64())
}

/// Judges the webhook by messages that polls found first: those that it has not reported after a minute are missed.
fn judge_webhook(account_id: i64) -> Statement {
    Statement::call("judge_webhook").arg("account_id", account_id)
}

/// The status and the reason of an account that Avito refuses. None: the error is no refusal of the account.
fn refusal(error: &PollError) -> Option<(AccountStatus, String)> {
    match error {
        PollError::Refused(status, reason) => Some((*status, reason.clone())),
        PollError::Token(TokenError::Refused(reason)) => Some((AccountStatus::Expired, reason.clone())),
        PollError::Tariff => Some((AccountStatus::Blocked, error.to_string())),
        PollError::Db(_) | PollError::Token(_) | PollError::Avito(_) | PollError::NoChat | PollError::TooLong => None,
    }
}
