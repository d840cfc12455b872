//! Syncs the chats of an account. One call lists them; a chat whose newest message is that of its last sync is
//! unchanged. Any other is read back to the newest message that the poll has read together with all before it. Our
//! newest row is no such limit: a lost webhook followed by a good one hides a gap.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use tokio_postgres::Row;

use super::{
    account::{PollError, PolledAccount},
    pages::{MAX_OFFSET, list, messages},
};
use crate::{
    App, avito,
    bridge::{
        common::{avito_call::AvitoCaller, chat_snapshot::snapshot, wakeups::Wakeups},
        ingest::{
            incoming::{IncomingBatch, PolledChat, incoming_message},
            record::record,
        },
        rows::{account_work, receipts},
    },
    platform::db::{DbError, Scope, Statement, get},
    tenancy::accounts,
};

/// `updated` may be this much out of order, seconds.
const UPDATED_MARGIN: i64 = 120;
/// Messages that were unread when an account was connected are posted if they are not older than this, seconds.
const MAX_UNREAD_AGE: i64 = 48 * 3600;

/// The findings of a sync, chat by chat.
#[derive(Default)]
struct SyncFindings {
    /// Own messages that the buyer has read, the newest of each chat.
    read: Vec<String>,
    /// Messages that were read back.
    seen: Vec<String>,
}

/// Finds new messages and records them. The cursors are stored last, so that nothing is skipped after a failure.
pub(super) async fn sync(app: &App, account: &PolledAccount, caller: &AvitoCaller<'_>) -> Result<(), PollError> {
    let first = list(caller, false, 0).await?;
    if avito::shows_tariff_placeholders(&first.chats, account.keys.user_id) {
        return Err(PollError::Tariff);
    }
    let newest = first.chats.iter().filter_map(|chat| chat.updated).max();
    let page_digest = digest(&first.chats);
    let last_messages = first.chats.iter().filter_map(|chat| chat.last_message.as_ref());
    let mut findings = SyncFindings {
        read: last_messages.filter_map(|message| read_by_buyer(message, account)).collect(),
        ..SyncFindings::default()
    };
    let has_changes = !account.is_active || account.digest.as_ref() != Some(&page_digest);
    let mut chats = if has_changes { changed_chats(account, caller, first).await? } else { Vec::new() };
    let mut unread_digest = account.unread_digest.clone();
    if account.list_unread {
        let unread = unread_chats(account, caller).await?;
        let seen = digest(&unread);
        if unread_digest.as_ref() != Some(&seen) {
            let others = unread.into_iter().filter(|unread| !chats.iter().any(|chat| chat.id == unread.id));
            chats.extend(others.collect::<Vec<_>>());
            unread_digest = Some(seen);
        }
    }
    if has_changes || unread_digest != account.unread_digest {
        let cursors = read_cursors(app, account, &chats).await?;
        for chat in chats.iter().filter(|chat| cursors.get(&chat.id).is_none_or(|cursor| *cursor != cursor_of(chat))) {
            let synced = cursors.get(&chat.id).and_then(|cursor| cursor.1.as_deref());
            sync_chat(app, account, caller, chat, synced, &mut findings).await?;
        }
        store_cursor(app, account, AccountCursor { newest, page_digest, unread_digest }, findings).await?;
    }
    Ok(())
}

/// The state of a sync that an account's row stores.
struct AccountCursor {
    newest: Option<i64>,
    page_digest: Vec<u8>,
    unread_digest: Option<Vec<u8>>,
}

async fn store_cursor(
    app: &App,
    account: &PolledAccount,
    cursor: AccountCursor,
    findings: SyncFindings,
) -> Result<(), PollError> {
    let account_id = account.keys.account_id;
    let done = Statement::new(
        "UPDATE account_polls SET watermark = greatest(watermark, $2), page_digest = $3, unread_digest = $4
         WHERE avito_account_id = $1",
    );
    let done = done.bind(account_id).bind(cursor.newest).bind(cursor.page_digest).bind(cursor.unread_digest);
    let mut statements = Vec::new();
    if !account.is_active {
        statements.push(account_work::resume_dialogs(account_id));
        statements.push(accounts::mark_working(account_id));
    }
    statements.extend([done, note_unreported(account_id, findings.seen)]);
    statements.push(receipts::put_read_receipts(account_id, findings.read));
    let results = app.db().run(Scope::Tenant(account.keys.client_id), statements).await?;
    Wakeups::read(&results)?.wake(app).await;
    Ok(())
}

/// Notes the time if the poll found messages before the webhook reported them. `judge_webhook` judges that a minute
/// later.
fn note_unreported(account_id: i64, avito_message_ids: Vec<String>) -> Statement {
    Statement::new(
        "UPDATE account_polls p SET unreported_since = least(p.unreported_since, unreported.since)
         FROM (SELECT min(m.created_at) AS since FROM messages m
               JOIN tenancy_webhooks w ON w.avito_account_id = m.avito_account_id
               WHERE m.avito_account_id = $1 AND m.avito_message_id = ANY($2) AND m.webhook_reported_at IS NULL
                 AND m.origin = 'buyer' AND m.avito_created > w.webhook_registered_at
                 AND m.created_at > now() - interval '10 minutes') AS unreported
         WHERE p.avito_account_id = $1 AND unreported.since IS NOT NULL",
    )
    .bind(account_id)
    .bind(avito_message_ids)
}

/// The id of a message that the account wrote and the buyer has read. None: one of the two is not so.
fn read_by_buyer(message: &avito::Message, account: &PolledAccount) -> Option<String> {
    (message.read.is_some() && message.is_own(account.keys.user_id)).then(|| message.id.clone())
}

/// Lists the chats with unread messages, in case Avito's order of all chats is not the one that was observed.
async fn unread_chats(account: &PolledAccount, caller: &AvitoCaller<'_>) -> Result<Vec<avito::Chat>, PollError> {
    let mut unread = list(caller, true, 0).await?.chats;
    unread.retain(|chat| chat.updated.is_none_or(|updated| updated >= account.started - MAX_UNREAD_AGE));
    Ok(unread)
}

/// A digest of ids, times, newest messages and their read times. A page without changes has the same digest as before.
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

/// The chats that may have changed since the watermark, from the first page and those after it.
async fn changed_chats(
    account: &PolledAccount,
    caller: &AvitoCaller<'_>,
    first: avito::ChatsPage,
) -> Result<Vec<avito::Chat>, PollError> {
    let floor = account.watermark.map_or(account.started - MAX_UNREAD_AGE, |watermark| watermark - UPDATED_MARGIN);
    let is_changed = |chat: &avito::Chat| chat.updated.is_none_or(|updated| updated >= floor);
    let mut changed = Vec::new();
    let (mut page, mut offset) = (first, 0);
    loop {
        let is_full = page.chats.len() == usize::from(avito::MAX_PAGE_SIZE) && page.has_more != Some(false);
        let reaches_back = page.chats.last().is_none_or(|chat| !is_changed(chat));
        changed.extend(page.chats.into_iter().filter(is_changed));
        offset += avito::MAX_PAGE_SIZE;
        if !is_full || reaches_back || offset > MAX_OFFSET {
            return Ok(changed);
        }
        page = list(caller, false, offset).await?;
    }
}

/// The cursor of a chat: `updated` and newest message at its last sync.
type ChatCursor = (Option<i64>, Option<String>);

fn cursor_of(chat: &avito::Chat) -> ChatCursor {
    (chat.updated, chat.last_message.as_ref().map(|message| message.id.clone()))
}

async fn read_cursors(
    app: &App,
    account: &PolledAccount,
    chats: &[avito::Chat],
) -> Result<HashMap<String, ChatCursor>, PollError> {
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
    account: &PolledAccount,
    caller: &AvitoCaller<'_>,
    chat: &avito::Chat,
    synced: Option<&str>,
    findings: &mut SyncFindings,
) -> Result<(), PollError> {
    let user_id = account.keys.user_id;
    let (unseen, read) = read_back(account, caller, chat, synced).await?;
    findings.read.extend(read);
    if unseen.is_empty() && synced.is_none() {
        return Ok(()); // a chat from before the account was connected
    }
    let messages = (0..)
        .zip(unseen.iter().rev())
        .map(|(position, message)| incoming_message(message, user_id, position))
        .collect();
    let (buyer, item) = snapshot(chat, user_id);
    let batch = IncomingBatch {
        account_id: account.keys.account_id,
        user_id,
        chat_id: chat.id.clone(),
        messages,
        polled: Some(PolledChat {
            buyer: buyer.unwrap_or_default(),
            item: item.unwrap_or_default(),
            last_message_id: unseen.first().map(|message| message.id.clone()).or(cursor_of(chat).1),
            updated: chat.updated.unwrap_or_default(),
        }),
    };
    let results = app.db().run(Scope::Tenant(account.keys.client_id), vec![record(app, &batch)]).await?;
    Wakeups::read(&results)?.wake(app).await;
    findings.seen.extend(unseen.into_iter().map(|message| message.id));
    Ok(())
}

/// Reads the messages after `synced`, newest first: those since the account was connected, and those still unread then.
/// Also returns the newest own message that the buyer has read, among the pages that were read.
async fn read_back(
    account: &PolledAccount,
    caller: &AvitoCaller<'_>,
    chat: &avito::Chat,
    synced: Option<&str>,
) -> Result<(Vec<avito::Message>, Option<String>), PollError> {
    let (mut unseen, mut read) = (Vec::new(), None);
    for offset in (0..=MAX_OFFSET).step_by(usize::from(avito::MAX_PAGE_SIZE)) {
        let page = messages(caller, &chat.id, offset).await?;
        let last_page = page.len() < usize::from(avito::MAX_PAGE_SIZE);
        read = read.or_else(|| page.iter().find_map(|message| read_by_buyer(message, account)));
        for message in page {
            if synced == Some(message.id.as_str()) {
                return Ok((unseen, read));
            }
            let created = message.created.unwrap_or_default();
            if created < account.started - MAX_UNREAD_AGE {
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
