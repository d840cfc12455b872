//! Cursors of chats: the state in which Avito's list showed each chat when it was last dealt with, and the message up to
//! which it was read. Beside them stand the chats that cannot be read for now, with the time of the next attempt.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::{
    account::{PollError, PolledAccount},
    times,
};
use crate::{
    App, avito,
    bridge::common::{
        texts::{self, Language},
        wakeups::WAKEUPS,
    },
    platform::{
        db::{DbError, Scope, Statement, get},
        endings::Duty,
        limits,
    },
    tenancy::accounts,
};

/// The state of a chat in Avito's list: its time, its newest message, and that message's kind, which changes when its
/// writer deletes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) updated: Option<i64>,
    pub(super) message_id: Option<String>,
    pub(super) kind: Option<String>,
}

impl Listed {
    /// The state of a listed chat. A time that cannot be is left out: it would differ in every list.
    pub(super) fn of(chat: &avito::Chat, now: i64) -> Self {
        let last = chat.last_message.as_ref();
        let updated = chat.updated.filter(|updated| times::is_possible(*updated, now));
        if updated != chat.updated {
            limits::count("updated");
        }
        Self {
            updated,
            message_id: last.map(|message| message.id.clone()),
            kind: last.map(|message| message.kind.as_str().to_owned()),
        }
    }
}

/// The failures of a chat that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failures {
    pub(super) attempts: i32,
    /// None: it is read again only after it changed.
    pub(super) due_at: Option<Timestamp>,
}

/// The row of a chat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) listed: Listed,
    /// The newest message that was read with all before it.
    pub(super) synced: Option<String>,
    pub(super) failures: Option<Failures>,
    /// True if the last poll broke off in this chat: it had too many messages for the calls that were left.
    pub(super) is_begun: bool,
}

impl Cursor {
    /// Reads a row of `chat_polls`.
    pub(super) fn read(row: &Row) -> Result<Self, DbError> {
        let due_at = get(row, "due_at")?;
        let has_failed = get::<Option<Timestamp>>(row, "failed_since")?.is_some();
        Ok(Self {
            listed: Listed {
                updated: get(row, "listed_updated")?,
                message_id: get(row, "listed_message_id")?,
                kind: get(row, "listed_kind")?,
            },
            synced: get(row, "synced_message_id")?,
            failures: has_failed.then_some(Failures { attempts: get(row, "attempts")?, due_at }),
            is_begun: !has_failed && due_at.is_some(),
        })
    }
}

/// Reads the rows of these chats, and of the chats that are due.
pub(super) async fn read(
    app: &App,
    account: &PolledAccount,
    chat_ids: Vec<String>,
) -> Result<HashMap<String, Cursor>, PollError> {
    let statement = Statement::new(
        "SELECT avito_chat_id, listed_updated, listed_message_id, listed_kind, synced_message_id, attempts, failed_since, due_at
         FROM chat_polls WHERE avito_account_id = $1 AND (avito_chat_id = ANY($2) OR due_at <= now())",
    );
    let statement = statement.bind(account.keys.account_id).bind(chat_ids);
    let rows = app.db().query(Scope::Tenant(account.keys.client_id), statement).await?;
    Ok(rows.iter().map(|row| Ok((get(row, "avito_chat_id")?, Cursor::read(row)?))).collect::<Result<_, DbError>>()?)
}

/// Stores the cursors of chats that the list alone tells enough about.
pub(super) fn store_listed(account_id: i64, chats: &[(&str, Listed)]) -> Statement {
    let chats: Vec<Value> = chats
        .iter()
        .map(|(id, listed)| {
            json!({ "id": id, "updated": listed.updated, "message_id": listed.message_id, "kind": listed.kind })
        })
        .collect();
    Statement::call("store_listed_cursors").arg("account_id", account_id).arg("chats", Value::Array(chats))
}

/// Stores the cursor of a chat that was read up to `synced`.
pub(super) fn store(account_id: i64, chat_id: &str, listed: Listed, synced: Option<String>) -> Statement {
    Statement::call("store_chat_cursor")
        .arg("account_id", account_id)
        .arg("avito_chat_id", chat_id.to_owned())
        .arg("listed_updated", listed.updated)
        .arg("listed_message_id", listed.message_id)
        .arg("listed_kind", listed.kind)
        .arg("synced_message_id", synced)
}

/// Notes that a chat could not be read; `attempts` counts the failures before.
pub(super) fn fail(account_id: i64, chat_id: &str, listed: Listed, attempts: i32, error: &PollError) -> Statement {
    let wait = accounts::wait(Duty::ChatPoll, attempts);
    Statement::call("fail_chat_poll")
        .arg("account_id", account_id)
        .arg("avito_chat_id", chat_id.to_owned())
        .arg("listed_updated", listed.updated)
        .arg("listed_message_id", listed.message_id)
        .arg("listed_kind", listed.kind)
        .arg("error", error.to_string())
        .arg("wait_seconds", wait.as_secs_f64())
}

/// Notes what the list shows of a chat whose next attempt is not due yet.
pub(super) fn note_listed(account_id: i64, chat_id: &str, listed: Listed) -> Statement {
    Statement::new(
        "UPDATE chat_polls SET listed_updated = $3, listed_message_id = $4, listed_kind = $5
         WHERE avito_account_id = $1 AND avito_chat_id = $2",
    )
    .bind(account_id)
    .bind(chat_id.to_owned())
    .bind(listed.updated)
    .bind(listed.message_id)
    .bind(listed.kind)
}

/// Notes that the poll broke off in this chat, so that the next one begins with it.
pub(super) fn begin_with(account_id: i64, chat_id: &str) -> Statement {
    Statement::new(
        "INSERT INTO chat_polls AS c (avito_account_id, avito_chat_id, client_id, due_at)
         VALUES ($1, $2, current_client_id(), now())
         ON CONFLICT (avito_account_id, avito_chat_id) DO UPDATE SET due_at = now() WHERE c.failed_since IS NULL",
    )
    .bind(account_id)
    .bind(chat_id.to_owned())
}

/// Locks the dialog of a chat, first of all that a transaction does with it.
pub(super) fn lock_dialog(account_id: i64, chat_id: &str) -> Statement {
    Statement::call("lock_dialog_of_chat").arg("account_id", account_id).arg("avito_chat_id", chat_id.to_owned())
}

/// Puts the notice that only the newest message of a chat could be read.
pub(super) fn notify_unread(account_id: i64, chat_id: &str) -> Statement {
    Statement::call("notify_unread_chat")
        .arg("account_id", account_id)
        .arg("avito_chat_id", chat_id.to_owned())
        .arg("text", texts::chats::chat_not_read(Language::Russian))
        .labelled(WAKEUPS)
}

/// Puts the notice that messages before `oldest_message_id` are not shown.
pub(super) fn notify_skipped(account_id: i64, chat_id: &str, oldest_message_id: String) -> Statement {
    Statement::call("notify_skipped_messages")
        .arg("account_id", account_id)
        .arg("avito_chat_id", chat_id.to_owned())
        .arg("oldest_message_id", oldest_message_id)
        .arg("text", texts::chats::messages_skipped(Language::Russian))
        .labelled(WAKEUPS)
}

/// Marks the deleted ones of known messages. `messages` is the JSON of incoming messages.
pub(super) fn mark_deleted(account_id: i64, chat_id: &str, messages: Value) -> Statement {
    Statement::call("mark_listed_deleted")
        .arg("account_id", account_id)
        .arg("avito_chat_id", chat_id.to_owned())
        .arg("messages", messages)
        .arg("deleted_text", texts::deleted_by_writer(Language::Russian))
}
