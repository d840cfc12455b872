//! What Avito's webhook brings: recorded in one flight, or kept in the intake queue while Postgres is away.
//! Nothing is acknowledged before one of the two has it.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    record::{Heard, Hearing, Woken, record},
    tasks::IntakeTask,
    text,
};
use crate::{
    App, avito,
    platform::{
        db::{DbError, Scope},
        secrets::{Secret, same},
    },
    tenancy::accounts,
};

/// What became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is recorded, or there was nothing to record.
    Done,
    /// The secret is not the account's.
    WrongSecret,
    /// Nothing durable could take it.
    NotTaken,
}

/// Avito waits 2 s in all: Postgres gets a part of that, the second way the rest.
const POSTGRES_PART: Duration = Duration::from_millis(1000);
/// How long a secret's hash is known without Postgres.
const SECRET_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

static SECRETS_SEEN: LazyLock<Mutex<HashMap<i64, [u8; 32]>>> = LazyLock::new(Mutex::default);

/// Takes a webhook of the account, whose address ends in `secret`. `payload` is JSON of any shape.
pub async fn accept(app: &App, account_id: i64, secret: &Secret, payload: &serde_json::Value) -> Accepted {
    let hash = secret.hash();
    let hearing = avito::webhook::Notification::from_value(payload.clone())
        .and_then(|notification| hearing(account_id, &notification));
    match tokio::time::timeout(POSTGRES_PART, hear(app, account_id, hash, hearing.as_ref())).await {
        Ok(Ok(Some(woken))) => {
            remember_secret(app, account_id, hash).await;
            woken.wake(app).await;
            Accepted::Done
        }
        Ok(Ok(None)) => {
            tracing::warn!(account_id, "an Avito webhook came with a wrong secret");
            Accepted::WrongSecret
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "Postgres did not take a webhook");
            keep(app, account_id, hash, hearing.as_ref(), payload).await
        }
        Err(_) => {
            tracing::error!("Postgres took too long for a webhook");
            keep(app, account_id, hash, hearing.as_ref(), payload).await
        }
    }
}

/// Records a webhook that waited in the intake queue. Its secret was checked when it came.
pub async fn record_kept(app: &App, account_id: i64, payload: &str) -> Result<(), DbError> {
    let Some(hearing) = serde_json::from_str(payload)
        .ok()
        .and_then(avito::webhook::Notification::from_value)
        .and_then(|notification| hearing(account_id, &notification))
    else {
        return Ok(());
    };
    let answers = app.db().run(Scope::TenantOf(accounts::tenant_of(account_id)), record(app, &hearing)).await?;
    Woken::read(&answers)?.wake(app).await;
    Ok(())
}

/// Checks the secret and records, in one flight. None: a wrong secret. Otherwise whom to wake.
async fn hear(app: &App, account_id: i64, hash: [u8; 32], hearing: Option<&Hearing>) -> Result<Option<Woken>, DbError> {
    let scope = Scope::TenantOf(accounts::tenant_by_webhook_secret(account_id, hash.to_vec()));
    let answers = app.db().run(scope, hearing.map(|hearing| record(app, hearing)).unwrap_or_default()).await?;
    if answers.first().is_none_or(Vec::is_empty) {
        return Ok(None);
    }
    if hearing.is_some() { Woken::read(&answers).map(Some) } else { Ok(Some(Woken::default())) }
}

/// What a notification says, as a hearing of one message.
fn hearing(account_id: i64, notification: &avito::webhook::Notification) -> Option<Hearing> {
    let message = &notification.message;
    Some(Hearing {
        account_id,
        user_id: notification.user_id,
        chat_id: notification.chat_id.clone(),
        messages: vec![heard(message, notification.user_id, 0)?],
        synced: None,
    })
}

/// A message of Avito's as it is recorded; none when it does not say when it was written.
pub(super) fn heard(message: &avito::Message, own_user_id: i64, place: i32) -> Option<Heard> {
    let system = message.is_system();
    let text = message.content.text.as_deref().map(|text| text.replace('\0', ""));
    Some(Heard {
        id: message.id.clone(),
        own: !system && message.is_own(own_user_id),
        system,
        kind: if system { "system".to_owned() } else { message.kind.as_str().to_owned() },
        text_key: text.as_deref().map(text::key),
        text,
        attachments: serde_json::from_str(&serde_json::to_string(&attachments(message)?).ok()?.replace("\\u0000", ""))
            .ok()?,
        created: Timestamp::from_second(message.created?).ok()?,
        place,
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

/// So that the secret can be checked while Postgres is away. Redis is told once per process and account.
async fn remember_secret(app: &App, account_id: i64, hash: [u8; 32]) {
    let news = SECRETS_SEEN.lock().is_ok_and(|mut seen| seen.insert(account_id, hash) != Some(hash));
    if news && app.cache().set(&secret_key(account_id), &hex::encode(hash), SECRET_LIFE).await.is_err() {
        tracing::warn!("Redis did not take a secret's hash");
    }
}

fn secret_key(account_id: i64) -> String {
    format!("avito-webhook-secret:{account_id}")
}

/// The way past Postgres: the secret's hash from memory or Redis, the payload into the intake queue.
async fn keep(
    app: &App,
    account_id: i64,
    hash: [u8; 32],
    hearing: Option<&Hearing>,
    payload: &serde_json::Value,
) -> Accepted {
    let in_memory = SECRETS_SEEN.lock().ok().and_then(|seen| seen.get(&account_id).copied());
    let known = match in_memory {
        Some(known) => Some(known.to_vec()),
        None => match app.cache().get(&secret_key(account_id)).await {
            Ok(text) => text.and_then(|text| hex::decode(text).ok()),
            Err(_) => None,
        },
    };
    match known {
        None => return Accepted::NotTaken,
        Some(known) if !same(&known, &hash) => return Accepted::WrongSecret,
        Some(_) => {}
    }
    let Some(hearing) = hearing else { return Accepted::Done };
    let task = IntakeTask::V1 { account_id, payload: payload.to_string() };
    // An id may be any text; a group's and a deduplication's name may not.
    let group = hex::encode(&Sha256::digest(format!("{account_id}/{}", hearing.chat_id))[..16]);
    let once = hex::encode(Sha256::digest(payload.to_string()));
    match app.send_in_order(&task, &group, &once).await {
        Ok(()) => {
            metrics::counter!("webhooks_kept").increment(1);
            Accepted::Done
        }
        Err(error) => {
            tracing::error!(%error, "nothing took a webhook");
            Accepted::NotTaken
        }
    }
}
