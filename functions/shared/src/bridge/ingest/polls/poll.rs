//! Polls accounts: the second source of the same messages, for those that no webhook reported. An account whose
//! webhooks report every message is polled rarely, any other account often, and one that Avito refuses once an hour.

use std::time::Instant;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use super::{
    account::{PollError, PolledAccount, REFUSED_INTERVAL, usual_interval, with_intervals},
    confirm, sync,
};
use crate::{
    App, avito,
    bridge::{
        common::{avito_call::AvitoCaller, queue_tasks::PollTask},
        error::BridgeError,
    },
    platform::db::{Scope, Statement},
    tenancy::accounts::{self, AccountStatus, TokenError},
};

/// Accounts polled at the same time by one process.
const MAX_CONCURRENT_POLLS: usize = 16;
/// A task this late, in seconds, is dropped: the next round has its accounts again.
const MAX_TASK_AGE: i64 = 60;

/// Polls those of the accounts that are due, until `stop` at the latest. A failed poll leaves its account's cursor as
/// it was, for the next poll.
pub async fn poll(app: &App, task: &PollTask, stop: Instant) -> Result<(), BridgeError> {
    let PollTask::V1 { account_ids, due } = task;
    if Timestamp::now().duration_since(*due).as_secs() > MAX_TASK_AGE {
        metrics::counter!("polls_dropped").increment(1);
        return Ok(());
    }
    let accounts = claim(app, account_ids.clone()).await?;
    metrics::counter!("accounts_polled").increment(accounts.len() as u64);
    let failed: Vec<i64> = stream::iter(&accounts)
        .map(|account| async move {
            let polled = tokio::time::timeout_at(stop.into(), poll_account(app, account)).await;
            let error = polled.unwrap_or(Err(PollError::TooLong)).err()?;
            tracing::warn!(account_id = account.keys.account_id, %error, "an account was not polled");
            if refusal(&error).is_none() {
                metrics::counter!("polls_failed").increment(1);
            }
            (account.is_active && error.may_pass()).then_some(account.keys.account_id)
        })
        .buffer_unordered(MAX_CONCURRENT_POLLS)
        .filter_map(std::future::ready)
        .collect()
        .await;
    if !failed.is_empty() {
        app.db().query(Scope::Service, retry_polls(app, failed)).await?;
    }
    Ok(())
}

/// Claims the accounts that are due, and sets their next due times: one round trip for all of them.
async fn claim(app: &App, account_ids: Vec<i64>) -> Result<Vec<PolledAccount>, BridgeError> {
    let claim = Statement::call("claim_due_polls").arg("account_ids", account_ids);
    let rows = app.db().query(Scope::Service, with_intervals(app, claim)).await?;
    Ok(rows.iter().map(PolledAccount::read).collect::<Result<_, _>>()?)
}

async fn poll_account(app: &App, account: &PolledAccount) -> Result<(), PollError> {
    let outcome = sync_and_confirm(app, account, &AvitoCaller::new(app, &account.keys)).await;
    let scope = || Scope::Tenant(account.keys.client_id);
    if account.judge_webhook {
        app.db().query(scope(), judge_webhook(account.keys.account_id)).await?;
    }
    let Some((status, reason)) = outcome.as_ref().err().and_then(refusal) else { return outcome };
    metrics::counter!("accounts_refused").increment(1);
    let refused = accounts::mark_refused(account.keys.account_id, status, reason);
    app.db().run(scope(), vec![refused, postpone_refused_poll(account.keys.account_id)]).await?;
    outcome
}

/// Syncs the account's chats. Where the chats with unread messages are listed as well, confirms provisional messages then.
async fn sync_and_confirm(app: &App, account: &PolledAccount, caller: &AvitoCaller<'_>) -> Result<(), PollError> {
    sync::sync(app, account, caller).await?;
    if account.list_unread {
        confirm::confirm_provisional(app, account, caller).await?;
    }
    Ok(())
}

/// Polls accounts again after the usual interval, even with a trusted webhook: the reason of the failure may pass.
fn retry_polls(app: &App, account_ids: Vec<i64>) -> Statement {
    Statement::new(
        "UPDATE account_polls SET next_poll_at = least(next_poll_at, now() + make_interval(secs => $2))
         WHERE avito_account_id = ANY($1)",
    )
    .bind(account_ids)
    .bind(usual_interval(app))
}

/// Postpones the next poll of a refused account now. Otherwise the long interval would begin only with the next claim.
fn postpone_refused_poll(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE account_polls SET next_poll_at = now() + make_interval(secs => $2) WHERE avito_account_id = $1",
    )
    .bind(account_id)
    .bind(REFUSED_INTERVAL)
}

/// Judges the webhook by messages that polls found first: those that it has not reported after a minute are missed.
fn judge_webhook(account_id: i64) -> Statement {
    Statement::call("judge_webhook").arg("account_id", account_id)
}

/// The status and the reason of an account that Avito refuses. None: the error is no refusal.
fn refusal(error: &PollError) -> Option<(AccountStatus, String)> {
    match error {
        PollError::Token(TokenError::Refused(reason)) => Some((AccountStatus::Expired, reason.clone())),
        PollError::Avito(avito::Error::Unauthorized { message, .. } | avito::Error::PaymentRequired { message }) => {
            Some((AccountStatus::Blocked, message.clone()))
        }
        PollError::Tariff => Some((AccountStatus::Blocked, error.to_string())),
        PollError::Db(_) | PollError::Token(_) | PollError::Avito(_) | PollError::TooLong => None,
    }
}
