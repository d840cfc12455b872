//! The poll: the second source of the same messages, for what no webhook told. One call lists an account's chats; a chat
//! whose newest message is that of its last sync is no news, any other is read back to the newest message that the poll
//! has seen with all before it, never merely to our last row: a lost webhook followed by a good one hides a gap.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio_postgres::Row;

use super::{
    BridgeError,
    avito_webhook::heard,
    receipts,
    record::{Hearing, Synced, Woken, record},
    tasks::{PollTask, TelegramTask},
    topics::snapshot,
};
use crate::{
    App, avito,
    platform::{
        config::var,
        db::{DbError, Scope, Statement, get},
        secrets::Secret,
    },
    tenancy::accounts::{self, Keys, TokenError},
};

/// Accounts in one task.
const TASK_ACCOUNTS: usize = 50;
/// Accounts polled at the same time by one process.
const AT_ONCE: usize = 16;
/// What one schedule's round covers, seconds.
const ROUND: i64 = 60;
/// A task this late is dropped: the next round has its accounts again.
const TOO_LATE: i64 = 60;
/// A refused account is tried this often, seconds.
const REFUSED_INTERVAL: f64 = 3600.0;
/// Chats and messages of one page (Avito's maximum).
const PAGE: u16 = 100;
/// The highest offset Avito serves.
const LAST_OFFSET: u16 = 1000;
/// `updated` may be this much out of order, seconds.
const DISORDER: i64 = 120;
/// What was unread when an account was connected is shown if it is not older, seconds.
const UNREAD_LIFE: i64 = 48 * 3600;

/// The statement that begins an account's polling.
pub fn start(account_id: i64) -> Statement {
    Statement::new(
        "INSERT INTO account_polls (avito_account_id, client_id)
         SELECT avito_account_id, client_id FROM account_routes WHERE avito_account_id = $1
         ON CONFLICT DO NOTHING",
    )
    .bind(account_id)
}

/// Enqueues the polls of the coming minute: a task per fifty accounts and round. Answers how many tasks.
pub async fn schedule(app: &App) -> Result<usize, BridgeError> {
    let interval = app.config().number(var::POLL_INTERVAL_SECONDS).unwrap_or(ROUND).clamp(1, ROUND);
    let rows = app
        .db()
        .query(
            Scope::Service,
            Statement::new(
                "SELECT p.avito_account_id, greatest(0, ceil(extract(epoch FROM p.next_poll_at - now())))::bigint AS due_in
                 FROM account_polls p JOIN account_routes a ON a.avito_account_id = p.avito_account_id
                 WHERE a.monitoring_enabled AND a.suspended_at IS NULL AND p.next_poll_at <= now() + make_interval(secs => $1)
                 ORDER BY p.avito_account_id",
            )
            .bind(60.0),
        )
        .await?;
    let due: Vec<(i64, i64)> = rows
        .iter()
        .map(|row| Ok((get(row, "avito_account_id")?, get(row, "due_in")?)))
        .collect::<Result<_, DbError>>()?;
    let now = Timestamp::now();
    let mut sent = 0;
    for offset in (0..ROUND).step_by(usize::try_from(interval).unwrap_or(1)) {
        let ids: Vec<i64> = due.iter().filter(|(_, due_in)| *due_in <= offset).map(|(id, _)| *id).collect();
        let due = now.checked_add(jiff::SignedDuration::from_secs(offset)).unwrap_or(now);
        let tasks: Vec<PollTask> =
            ids.chunks(TASK_ACCOUNTS).map(|ids| PollTask::V1 { account_ids: ids.to_vec(), due }).collect();
        let delay = Duration::from_secs(offset.unsigned_abs());
        match app.send_many(&tasks, delay).await {
            Ok(()) => sent += tasks.len(),
            Err(error) => tracing::warn!(%error, "a round of polls was not enqueued; the next one has its accounts"),
        }
    }
    Ok(sent)
}

/// An account to poll.
struct Account {
    keys: Keys,
    started: i64,
    watermark: Option<i64>,
    digest: Option<Vec<u8>>,
    working: bool,
}

/// Polls those of the accounts that are due. What fails for one account leaves it as it was, for its next turn.
pub async fn poll(app: &App, task: &PollTask) -> Result<(), BridgeError> {
    let PollTask::V1 { account_ids, due } = task;
    if Timestamp::now().duration_since(*due).as_secs() > TOO_LATE {
        metrics::counter!("polls_dropped").increment(1);
        return Ok(());
    }
    let accounts = claim(app, account_ids.clone()).await?;
    metrics::counter!("accounts_polled").increment(accounts.len() as u64);
    stream::iter(&accounts)
        .for_each_concurrent(AT_ONCE, |account| async move {
            if let Err(error) = poll_account(app, account).await {
                metrics::counter!("polls_failed").increment(1);
                tracing::warn!(account_id = account.keys.account_id, %error, "an account was not polled");
            }
        })
        .await;
    Ok(())
}

/// Takes the accounts that are due, and sets when they are due next: one round trip for all of them.
async fn claim(app: &App, account_ids: Vec<i64>) -> Result<Vec<Account>, BridgeError> {
    let interval = app.config().number(var::POLL_INTERVAL_SECONDS).unwrap_or(ROUND);
    // A little less than the interval, so that a round that comes a moment early is not skipped.
    #[expect(clippy::cast_precision_loss, reason = "an interval is a small number of seconds")]
    let pause = interval as f64 * 0.9;
    let statement = Statement::new(
        "UPDATE account_polls p
         SET next_poll_at = now() + make_interval(secs => CASE WHEN a.status = 'active' THEN $2 ELSE $3 END)
         FROM account_routes a
         WHERE p.avito_account_id = ANY($1) AND a.avito_account_id = p.avito_account_id AND p.next_poll_at <= now()
           AND a.monitoring_enabled AND a.suspended_at IS NULL
         RETURNING p.started_at, p.watermark, p.page_digest, a.client_id, a.avito_account_id, a.user_id, a.api_client_id,
                   a.api_client_secret, a.access_token, a.token_expires_at, a.status",
    );
    let rows = app.db().query(Scope::Service, statement.bind(account_ids).bind(pause).bind(REFUSED_INTERVAL)).await?;
    Ok(rows.iter().map(Account::read).collect::<Result<_, _>>()?)
}

impl Account {
    fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            keys: Keys::read(row)?,
            started: get::<Timestamp>(row, "started_at")?.as_second(),
            watermark: get(row, "watermark")?,
            digest: get(row, "page_digest")?,
            working: get::<String>(row, "status")? == "active",
        })
    }
}

/// Why an account was not polled.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Avito(#[from] avito::Error),
    #[error("Avito asks for a tariff with access to its API")]
    Tariff,
}

async fn poll_account(app: &App, account: &Account) -> Result<(), PollError> {
    let outcome = match accounts::access_token(app, &account.keys).await {
        Ok(token) => match sync(app, account, &token).await {
            Err(PollError::Avito(avito::Error::Unauthorized { .. })) => {
                let token = accounts::renewed_token(app, &account.keys, &token).await?;
                sync(app, account, &token).await
            }
            outcome => outcome,
        },
        Err(error) => Err(error.into()),
    };
    let Some((status, reason)) = outcome.as_ref().err().and_then(refusal) else { return outcome };
    metrics::counter!("accounts_refused").increment(1);
    let refused = accounts::mark_refused(account.keys.account_id, status, reason);
    app.db().query(Scope::Tenant(account.keys.client_id), refused).await?;
    outcome
}

/// The state and the reason of an account that Avito does not let in.
fn refusal(error: &PollError) -> Option<(&'static str, String)> {
    match error {
        PollError::Token(TokenError::Refused(reason)) => Some(("expired", reason.clone())),
        PollError::Avito(avito::Error::Unauthorized { message, .. } | avito::Error::PaymentRequired { message }) => {
            Some(("blocked", message.clone()))
        }
        PollError::Tariff => Some(("blocked", error.to_string())),
        PollError::Db(_) | PollError::Token(_) | PollError::Avito(_) => None,
    }
}

/// Finds what is new and records it; the marks are written last, so that a failure on the way costs nothing.
async fn sync(app: &App, account: &Account, token: &Secret) -> Result<(), PollError> {
    let first = chats(app, account, token, 0).await?;
    let digest = digest(&first.chats);
    if account.working && account.digest.as_ref() == Some(&digest) {
        return Ok(());
    }
    let newest = first.chats.iter().filter_map(|chat| chat.updated).max();
    let last_messages = first.chats.iter().filter_map(|chat| chat.last_message.as_ref());
    let mut read: Vec<String> = last_messages.filter_map(|message| read_by_buyer(message, account)).collect();
    let fresh = fresh_chats(app, account, token, first).await?;
    let marks = marks(app, account, &fresh).await?;
    for chat in fresh.iter().filter(|chat| marks.get(&chat.id).is_none_or(|mark| *mark != mark_of(chat))) {
        let synced = marks.get(&chat.id).and_then(|mark| mark.1.as_deref());
        read.extend(sync_chat(app, account, token, chat, synced).await?);
    }
    let done = Statement::new(
        "UPDATE account_polls SET watermark = greatest(watermark, $2), page_digest = $3 WHERE avito_account_id = $1",
    );
    let mut flight = vec![done.bind(account.keys.account_id).bind(newest).bind(digest)];
    if !account.working {
        flight.push(accounts::mark_working(account.keys.account_id));
    }
    flight.push(receipts::read(account.keys.account_id, read));
    let answers = app.db().run(Scope::Tenant(account.keys.client_id), flight).await?;
    for row in answers.last().into_iter().flatten() {
        app.wake(&TelegramTask::V1 { bot_id: get(row, "read_bot_id")? }, Duration::ZERO).await;
    }
    Ok(())
}

/// The id of a message that the account wrote and the other side has read.
fn read_by_buyer(message: &avito::Message, account: &Account) -> Option<String> {
    (message.read.is_some() && message.is_own(account.keys.user_id)).then(|| message.id.clone())
}

async fn chats(app: &App, account: &Account, token: &Secret, offset: u16) -> Result<avito::ChatsPage, PollError> {
    let query = avito::ChatsQuery { limit: PAGE, offset, ..avito::ChatsQuery::default() };
    Ok(accounts::avito(app).chats(token, account.keys.user_id, &query).await?.value)
}

/// A page without news has the same digest as before: ids, times, newest messages, and whether they were read.
fn digest(chats: &[avito::Chat]) -> Vec<u8> {
    let mut digest = Sha256::new();
    for chat in chats {
        let last = chat.last_message.as_ref();
        digest.update(format!(
            "{:?}{:?}{:?}{:?};",
            chat.id,
            chat.updated,
            last.map(|message| &message.id),
            last.and_then(|message| message.read)
        ));
    }
    digest.finalize().to_vec()
}

/// The chats in which something may have happened since the watermark, the first page's and those behind it.
async fn fresh_chats(
    app: &App,
    account: &Account,
    token: &Secret,
    first: avito::ChatsPage,
) -> Result<Vec<avito::Chat>, PollError> {
    let floor = account.watermark.map_or(account.started - UNREAD_LIFE, |watermark| watermark - DISORDER);
    let is_fresh = |chat: &avito::Chat| chat.updated.is_none_or(|updated| updated >= floor);
    let mut fresh = Vec::new();
    let (mut page, mut offset) = (first, 0);
    loop {
        let whole = page.chats.len() == usize::from(PAGE) && page.has_more != Some(false);
        let reaches_back = page.chats.last().is_none_or(|chat| !is_fresh(chat));
        fresh.extend(page.chats.into_iter().filter(is_fresh));
        offset += PAGE;
        if !whole || reaches_back || offset > LAST_OFFSET {
            return Ok(fresh);
        }
        page = chats(app, account, token, offset).await?;
    }
}

/// `updated` and newest message of a chat: what its last sync wrote down.
type Mark = (Option<i64>, Option<String>);

fn mark_of(chat: &avito::Chat) -> Mark {
    (chat.updated, chat.last_message.as_ref().map(|message| message.id.clone()))
}

async fn marks(app: &App, account: &Account, chats: &[avito::Chat]) -> Result<HashMap<String, Mark>, PollError> {
    let ids: Vec<String> = chats.iter().map(|chat| chat.id.clone()).collect();
    let statement = Statement::new(
        "SELECT avito_chat_id, synced_updated, synced_message_id FROM dialogs
         WHERE avito_account_id = $1 AND avito_chat_id = ANY($2)",
    );
    let rows = app
        .db()
        .query(Scope::Tenant(account.keys.client_id), statement.bind(account.keys.account_id).bind(ids))
        .await?;
    let read =
        |row: &Row| Ok((get(row, "avito_chat_id")?, (get(row, "synced_updated")?, get(row, "synced_message_id")?)));
    Ok(rows.iter().map(read).collect::<Result<_, DbError>>()?)
}

async fn sync_chat(
    app: &App,
    account: &Account,
    token: &Secret,
    chat: &avito::Chat,
    synced: Option<&str>,
) -> Result<Option<String>, PollError> {
    let user_id = account.keys.user_id;
    let (unseen, read) = read_back(app, account, token, chat, synced).await?;
    if unseen.iter().filter_map(|message| message.content.text.as_deref()).any(avito::is_tariff_placeholder) {
        return Err(PollError::Tariff);
    }
    if unseen.is_empty() && synced.is_none() {
        return Ok(read); // a chat from before the account was connected
    }
    let messages =
        (0..).zip(unseen.iter().rev()).filter_map(|(place, message)| heard(message, user_id, place)).collect();
    let (buyer, item) = snapshot(chat, user_id);
    let hearing = Hearing {
        account_id: account.keys.account_id,
        user_id,
        chat_id: chat.id.clone(),
        messages,
        synced: Some(Synced {
            buyer: buyer.unwrap_or_default(),
            item: item.unwrap_or_default(),
            last_message_id: unseen.first().map(|message| message.id.clone()).or(mark_of(chat).1),
            updated: chat.updated.unwrap_or_default(),
        }),
    };
    let answers = app.db().run(Scope::Tenant(account.keys.client_id), record(app, &hearing)).await?;
    Woken::read(&answers)?.wake(app).await;
    Ok(read)
}

/// The messages behind `synced`, newest first: those since the account was connected, and what was still unread then.
/// And the newest own message that the other side has read, among those looked at.
async fn read_back(
    app: &App,
    account: &Account,
    token: &Secret,
    chat: &avito::Chat,
    synced: Option<&str>,
) -> Result<(Vec<avito::Message>, Option<String>), PollError> {
    let (mut unseen, mut read) = (Vec::new(), None);
    for offset in (0..=LAST_OFFSET).step_by(usize::from(PAGE)) {
        let page = accounts::avito(app).messages(token, account.keys.user_id, &chat.id, PAGE, offset).await?.value;
        let last_page = page.len() < usize::from(PAGE);
        read = read.or_else(|| page.iter().find_map(|message| read_by_buyer(message, account)));
        for message in page {
            if synced == Some(message.id.as_str()) {
                return Ok((unseen, read));
            }
            let created = message.created.unwrap_or_default();
            if created < account.started - UNREAD_LIFE {
                return Ok((unseen, read));
            }
            if created >= account.started || is_unread(&message, account.keys.user_id) {
                unseen.push(message);
            }
        }
        if last_page {
            break;
        }
    }
    Ok((unseen, read))
}

fn is_unread(message: &avito::Message, own_user_id: i64) -> bool {
    message.is_read == Some(false) && !message.is_own(own_user_id) && !message.is_system()
}
