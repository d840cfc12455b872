//! Receives Avito's webhooks: records them in one transaction, or buffers them in the intake queue while Postgres is
//! away. No webhook is acknowledged before one of the two has it.

use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{
    incoming::{IncomingBatch, incoming_batch},
    polls::{
        account::make_polls_due,
        schedule::{LOST_TTL, LOST_WEBHOOKS, MAX_LOST},
    },
    record::record,
    reorder_window,
};
use crate::{
    App, avito,
    bridge::common::{queue_tasks::IntakeTask, wakeups::Wakeups},
    platform::{
        db::{DbError, Scope},
        queue::{QueueError, Task},
        secrets::{Secret, same},
    },
    tenancy::accounts::webhooks,
};

/// The result of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookResult {
    /// It is recorded or buffered, or there was nothing to record.
    Done,
    /// The secret is not the account's.
    WrongSecret,
    /// Neither Postgres nor the intake queue has it.
    NotStored,
}

/// Avito waits 2 s in all: Postgres gets half of that, the intake queue the other half.
const POSTGRES_TIMEOUT: Duration = Duration::from_millis(1000);
/// The time for which a secret can be checked without Postgres.
const SECRET_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most hashes that Redis stores of one account: its secret is renewed monthly.
const MAX_SECRETS: i64 = 8;

/// An account and the hash of its secret.
type AccountSecret = (i64, [u8; 32]);

static SECRETS_SEEN: LazyLock<Mutex<HashSet<AccountSecret>>> = LazyLock::new(Mutex::default);

/// The content of a webhook.
pub(super) enum Content {
    /// A message of one chat.
    Message(IncomingBatch),
    /// Something else than a message, or a probe.
    Other,
    /// Nothing that can be read: the account is polled at once instead.
    Unreadable,
}

impl Content {
    pub(super) fn read(account_id: i64, body: &[u8]) -> Self {
        match avito::webhook::Notification::read(body) {
            Ok(Some(notification)) => Self::Message(incoming_batch(account_id, &notification)),
            Ok(None) => Self::Other,
            Err(error) => {
                metrics::counter!("webhooks_unreadable").increment(1);
                tracing::warn!(account_id, bytes = body.len(), %error, "an Avito webhook could not be read");
                Self::Unreadable
            }
        }
    }
}

/// Receives a webhook of the account, whose address ends in `secret`. `body` has any bytes: no body is refused.
pub async fn receive_avito_webhook(app: &App, account_id: i64, secret: &Secret, body: &[u8]) -> WebhookResult {
    let hash = secret.hash();
    let content = Content::read(account_id, body);
    match tokio::time::timeout(POSTGRES_TIMEOUT, record_webhook(app, account_id, hash, &content)).await {
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
            buffer_in_intake(app, account_id, hash, &content, body).await
        }
        Err(_) => {
            tracing::error!("Postgres took too long for a webhook");
            buffer_in_intake(app, account_id, hash, &content, body).await
        }
    }
}

/// Checks the secret and records the message, in one transaction. None: the secret is wrong.
async fn record_webhook(
    app: &App,
    account_id: i64,
    hash: [u8; 32],
    content: &Content,
) -> Result<Option<Wakeups>, DbError> {
    let scope = Scope::TenantOf(webhooks::find_tenant_by_secret(account_id, hash.to_vec()));
    let statements = match content {
        Content::Message(batch) => vec![record(app, batch)],
        Content::Other => Vec::new(),
        Content::Unreadable => vec![make_polls_due(vec![account_id])],
    };
    let results = app.db().run(scope, statements).await?;
    if results.first().is_none_or(Vec::is_empty) {
        return Ok(None);
    }
    Wakeups::read(&results).map(Some)
}

/// Remembers a secret's hash, so that the secret can be checked while Postgres is away. Redis gets it once per process
/// and secret.
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

/// True if a secret is the account's, checked without Postgres. None: no secret of the account is known.
async fn is_known(app: &App, account_id: i64, hash: [u8; 32]) -> Option<bool> {
    if SECRETS_SEEN.lock().is_ok_and(|seen| seen.contains(&(account_id, hash))) {
        return Some(true);
    }
    let known = app.cache().members(&secrets_key(account_id)).await.unwrap_or_default();
    let fits = |known: &String| hex::decode(known).is_ok_and(|known| same(&known, &hash));
    (!known.is_empty()).then(|| known.iter().any(fits))
}

/// Stores a webhook without Postgres: checks the secret's hash in memory or Redis, and sends the payload to the intake
/// queue. Otherwise a poll must find the message, even if the secret seems wrong: Redis may not have a new secret yet.
async fn buffer_in_intake(app: &App, account_id: i64, hash: [u8; 32], content: &Content, body: &[u8]) -> WebhookResult {
    let result = match (is_known(app, account_id, hash).await, content) {
        (Some(true), Content::Message(batch)) => send_to_intake(app, batch, body).await,
        (Some(true), Content::Other | Content::Unreadable) => WebhookResult::Done,
        (Some(false), _) => WebhookResult::WrongSecret,
        (None, _) => WebhookResult::NotStored,
    };
    if (result != WebhookResult::Done || matches!(content, Content::Unreadable))
        && app.cache().add(LOST_WEBHOOKS, &account_id.to_string(), MAX_LOST, LOST_TTL).await.is_err()
    {
        tracing::warn!(account_id, "Redis did not take a lost-webhook entry; the next regular poll finds the message");
    }
    result
}

async fn send_to_intake(app: &App, batch: &IncomingBatch, body: &[u8]) -> WebhookResult {
    let task = IntakeTask::V1 { account_id: batch.account_id, payload: String::from_utf8_lossy(body).into_owned() };
    match send_in_chat_order(app, &task, batch, body).await {
        Ok(()) => {
            metrics::counter!("webhooks_buffered").increment(1);
            reorder_window::LAST_BUFFERED.note();
            WebhookResult::Done
        }
        Err(error) => {
            tracing::error!(%error, "the intake queue did not take a webhook");
            WebhookResult::NotStored
        }
    }
}

/// Sends a task of a webhook to a FIFO queue: in order within its chat, once per body.
pub(super) async fn send_in_chat_order<T: Task>(
    app: &App,
    task: &T,
    batch: &IncomingBatch,
    body: &[u8],
) -> Result<(), QueueError> {
    // An id may be any text, but SQS does not allow any text as the id of a group or for deduplication.
    let group = hex::encode(&Sha256::digest(format!("{}/{}", batch.account_id, batch.chat_id))[..16]);
    app.send_in_order(task, &group, &hex::encode(Sha256::digest(body))).await
}
