//! What Avito's webhook brings: recorded in one transaction, or kept in the intake queue while Postgres is away.
//! Nothing is acknowledged before one of the two has it.

use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    order, polls,
    record::{IncomingBatch, IncomingMessage, Wakeups, record},
    tasks::IntakeTask,
    text,
};
use crate::{
    App, avito,
    platform::{
        db::{DbError, Scope},
        secrets::{Secret, same},
    },
    tenancy::{account_webhooks, accounts},
};

/// What became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookResult {
    /// It is recorded, or there was nothing to record.
    Done,
    /// The secret is not the account's.
    WrongSecret,
    /// Nothing durable could take it.
    NotStored,
}

/// Avito waits 2 s in all: Postgres gets a part of that, the second way the rest.
const POSTGRES_TIMEOUT: Duration = Duration::from_millis(1000);
/// Between two tries to record what was kept.
const INTAKE_RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long a secret's hash is known without Postgres.
const SECRET_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// Hashes known of one account: its secret is renewed monthly.
const MAX_SECRETS: i64 = 8;
/// The accounts of which a webhook could not be taken: a set in Redis, which the poll's schedule empties.
const LOST_WEBHOOKS: &str = "avito-webhooks-lost";
/// Whoever asks us in an outage can have accounts marked, so there is a most of them.
const MAX_LOST: i64 = 10_000;
const LOST_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// An account and the hash of its secret.
type AccountSecret = (i64, [u8; 32]);

static SECRETS_SEEN: LazyLock<Mutex<HashSet<AccountSecret>>> = LazyLock::new(Mutex::default);

/// Takes a webhook of the account, whose address ends in `secret`. `payload` is JSON of any shape.
pub async fn receive_avito_webhook(
    app: &App,
    account_id: i64,
    secret: &Secret,
    payload: &serde_json::Value,
) -> WebhookResult {
    let hash = secret.hash();
    let batch = avito::webhook::Notification::from_value(payload.clone())
        .and_then(|notification| incoming_batch(account_id, &notification));
    match tokio::time::timeout(POSTGRES_TIMEOUT, record_webhook(app, account_id, hash, batch.as_ref())).await {
        Ok(Ok(Some(wakeups))) => {
            remember_secret(app, account_id, hash).await;
            wakeups.wake(app).await;
            WebhookResult::Done
        }
        Ok(Ok(None)) => {
            tracing::warn!(account_id, "an Avito webhook came with a wrong secret");
            WebhookResult::WrongSecret
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "Postgres did not take a webhook");
            buffer_in_intake(app, account_id, hash, batch.as_ref(), payload).await
        }
        Err(_) => {
            tracing::error!("Postgres took too long for a webhook");
            buffer_in_intake(app, account_id, hash, batch.as_ref(), payload).await
        }
    }
}

/// Records a webhook that waited in the intake queue. Its secret was checked when it came. While Postgres is away it is
/// tried again until `deadline`: given back, it would wait longer than those behind it that need no queue any more.
pub async fn record_from_intake(app: &App, account_id: i64, payload: &str, deadline: Instant) -> Result<(), DbError> {
    let Some(batch) = serde_json::from_str(payload)
        .ok()
        .and_then(avito::webhook::Notification::from_value)
        .and_then(|notification| incoming_batch(account_id, &notification))
    else {
        return Ok(());
    };
    let tries = async {
        loop {
            match app.db().run(Scope::TenantOf(accounts::find_tenant_of_account(account_id)), record(app, &batch)).await
            {
                Err(DbError::Unavailable(_)) => tokio::time::sleep(INTAKE_RETRY_DELAY).await,
                outcome => return outcome,
            }
        }
    };
    let too_long = || DbError::Unavailable("it is still away");
    let results = tokio::time::timeout_at(deadline.into(), tries).await.map_err(|_| too_long())??;
    Wakeups::read(&results)?.wake(app).await;
    Ok(())
}

/// Checks the secret and records, in one transaction. None: a wrong secret. Otherwise whom to wake.
async fn record_webhook(
    app: &App,
    account_id: i64,
    hash: [u8; 32],
    batch: Option<&IncomingBatch>,
) -> Result<Option<Wakeups>, DbError> {
    let scope = Scope::TenantOf(account_webhooks::find_tenant_by_secret(account_id, hash.to_vec()));
    let results = app.db().run(scope, batch.map(|batch| record(app, batch)).unwrap_or_default()).await?;
    if results.first().is_none_or(Vec::is_empty) {
        return Ok(None);
    }
    if batch.is_some() { Wakeups::read(&results).map(Some) } else { Ok(Some(Wakeups::default())) }
}

/// What a notification says, as a hearing of one message. None for what Avito never sends and Postgres cannot hold.
fn incoming_batch(account_id: i64, notification: &avito::webhook::Notification) -> Option<IncomingBatch> {
    let message = &notification.message;
    if notification.chat_id.contains('\0') {
        return None;
    }
    Some(IncomingBatch {
        account_id,
        user_id: notification.user_id,
        chat_id: notification.chat_id.clone(),
        messages: vec![incoming_message(message, notification.user_id, 0)?],
        polled: None,
    })
}

/// A message of Avito's as it is recorded; none when it does not say when it was written, or Postgres cannot hold its id.
pub(super) fn incoming_message(message: &avito::Message, own_user_id: i64, position: i32) -> Option<IncomingMessage> {
    let created = message.created.filter(|second| *second >= 0)?;
    if message.id.contains('\0') || message.kind.as_str().contains('\0') {
        return None;
    }
    let system = message.is_system();
    let text = message.content.text.as_deref().map(|text| text.replace('\0', ""));
    Some(IncomingMessage {
        id: message.id.clone(),
        own: !system && message.is_own(own_user_id),
        system,
        kind: if system { "system".to_owned() } else { message.kind.as_str().to_owned() },
        text_key: text.as_deref().map(text::key),
        text,
        attachments: serde_json::from_str(&serde_json::to_string(&attachments(message)?).ok()?.replace("\\u0000", ""))
            .ok()?,
        created: Timestamp::from_second(created).ok()?,
        position,
    })
}

/// What a message holds, with what it answers: `{id, kind, text}` under `quote`.
fn attachments(message: &avito::Message) -> Option<serde_json::Value> {
    let mut attachments = serde_json::to_value(&message.content).ok()?;
    if let Some(quote) = &message.quote {
        attachments["quote"] =
            serde_json::json!({ "id": quote.id, "kind": quote.kind.as_str(), "text": quote.content.text });
    }
    Some(attachments)
}

/// So that the secret can be checked while Postgres is away. Redis is told once per process and secret.
async fn remember_secret(app: &App, account_id: i64, hash: [u8; 32]) {
    let is_new = SECRETS_SEEN.lock().is_ok_and(|mut seen| seen.insert((account_id, hash)));
    let key = secrets_key(account_id);
    if is_new && app.cache().add(&key, &hex::encode(hash), MAX_SECRETS, SECRET_TTL).await.is_err() {
        tracing::warn!("Redis did not take a secret's hash");
    }
}

fn secrets_key(account_id: i64) -> String {
    format!("avito-webhook-secrets:{account_id}")
}

/// What is known of a secret without Postgres. None: nothing is known of the account.
async fn is_known(app: &App, account_id: i64, hash: [u8; 32]) -> Option<bool> {
    if SECRETS_SEEN.lock().is_ok_and(|seen| seen.contains(&(account_id, hash))) {
        return Some(true);
    }
    let known = app.cache().members(&secrets_key(account_id)).await.unwrap_or_default();
    let fits = |known: &String| hex::decode(known).is_ok_and(|known| same(&known, &hash));
    (!known.is_empty()).then(|| known.iter().any(fits))
}

/// The way past Postgres: the secret's hash from memory or Redis, the payload into the intake queue. What was not taken
/// is left to the poll: a new secret may be one that nobody has written down yet.
async fn buffer_in_intake(
    app: &App,
    account_id: i64,
    hash: [u8; 32],
    batch: Option<&IncomingBatch>,
    payload: &serde_json::Value,
) -> WebhookResult {
    let result = match is_known(app, account_id, hash).await {
        Some(true) => send_to_intake(app, account_id, batch, payload).await,
        Some(false) => WebhookResult::WrongSecret,
        None => WebhookResult::NotStored,
    };
    if result != WebhookResult::Done
        && app.cache().add(LOST_WEBHOOKS, &account_id.to_string(), MAX_LOST, LOST_TTL).await.is_err()
    {
        tracing::warn!(account_id, "nothing remembers that a webhook was lost; the poll finds it in its turn");
    }
    result
}

async fn send_to_intake(
    app: &App,
    account_id: i64,
    batch: Option<&IncomingBatch>,
    payload: &serde_json::Value,
) -> WebhookResult {
    let Some(batch) = batch else { return WebhookResult::Done };
    let task = IntakeTask::V1 { account_id, payload: payload.to_string() };
    // An id may be any text; a group's and a deduplication's name may not.
    let group = hex::encode(&Sha256::digest(format!("{account_id}/{}", batch.chat_id))[..16]);
    let deduplication = hex::encode(Sha256::digest(payload.to_string()));
    match app.send_in_order(&task, &group, &deduplication).await {
        Ok(()) => {
            metrics::counter!("webhooks_buffered").increment(1);
            order::LAST_BUFFERED.note();
            WebhookResult::Done
        }
        Err(error) => {
            tracing::error!(%error, "nothing took a webhook");
            WebhookResult::NotStored
        }
    }
}

/// Makes the accounts due of which a webhook was lost. A mark goes once the row knows, and before anybody polls by it.
pub(super) async fn make_lost_accounts_due(app: &App) -> Result<(), DbError> {
    let lost = match app.cache().members(LOST_WEBHOOKS).await {
        Ok(lost) if lost.is_empty() => return Ok(()),
        Ok(lost) => lost,
        Err(error) => {
            tracing::warn!(%error, "it is not known whether webhooks were lost");
            return Ok(());
        }
    };
    let ids = lost.iter().filter_map(|id| id.parse().ok()).collect();
    app.db().query(Scope::Service, polls::make_polls_due(ids)).await?;
    if app.cache().remove(LOST_WEBHOOKS, &lost).await.is_err() {
        tracing::warn!("Redis forgot no lost webhooks; their accounts are polled once more");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// What is heard of a notification whose value has this at `place`.
    fn batch_with(place: &str, value: Value) -> Option<IncomingBatch> {
        let mut payload = json!({ "payload": { "type": "message", "value": {
            "id": "m-1", "chat_id": "u2i-1", "user_id": 1, "author_id": 2, "chat_type": "u2i", "type": "text",
            "content": { "text": "Здравствуйте" }, "created": 1_700_000_000,
        } } });
        payload["payload"]["value"][place] = value;
        avito::webhook::Notification::from_value(payload).and_then(|notification| incoming_batch(1, &notification))
    }

    #[test]
    fn what_postgres_cannot_hold_is_not_recorded() {
        assert!(batch_with("id", json!("m-1")).is_some());
        for place in ["id", "chat_id", "type"] {
            assert!(batch_with(place, json!("a\0b")).is_none(), "{place}");
        }
        assert!(batch_with("created", json!(-300_000_000_000_i64)).is_none());
    }

    #[test]
    fn a_text_that_postgres_cannot_hold_is_recorded_without_what_it_cannot() {
        let heard = batch_with("content", json!({ "text": "Куп\0лю" }));
        let texts: Vec<_> = heard.into_iter().flat_map(|batch| batch.messages).map(|message| message.text).collect();
        assert_eq!(texts, [Some("Куплю".to_owned())]);
    }
}
