//! Confirms provisional messages. A message that only a webhook reported is provisional: Avito signs nothing. A poll
//! that finds the message confirms it. If a poll read the chat back past the message's time without finding it, a
//! notice in the topic says so, once.

use tokio_postgres::Row;

use super::{
    account::{PollError, PolledAccount},
    chats::ChatReader,
    cursors::Cursor,
    pages,
};
use crate::{
    App, avito,
    bridge::{
        common::{
            texts::{self, Language},
            wakeups::{WAKEUPS, Wakeups},
        },
        ingest::{
            incoming::{IncomingMessage, incoming_message},
            record,
        },
        rows::bot_outbox,
    },
    platform::db::{DbError, ResultSets, Scope, Statement, get},
};

/// The most chats that one poll reads for this.
const MAX_CHATS: i64 = 10;
/// The chat is read back this much further than the message's time, seconds.
const READ_BACK_MARGIN: i64 = 5;

/// The label of the rows of [`select_provisional`].
const PROVISIONAL: &str = "provisional";

/// A chat with messages that only a webhook reported.
pub(super) struct ProvisionalChat {
    chat_id: String,
    /// The time of the first of these messages, seconds.
    since: i64,
    cursor: Cursor,
}

impl ProvisionalChat {
    /// Reads the rows of [`select_provisional`].
    pub(super) fn read_all(results: &ResultSets) -> Result<Vec<Self>, PollError> {
        let read = |row: &Row| {
            Ok(Self { chat_id: get(row, "avito_chat_id")?, since: get(row, "since")?, cursor: Cursor::read(row)? })
        };
        Ok(results.labelled(PROVISIONAL).map(read).collect::<Result<_, DbError>>()?)
    }
}

/// Selects the chats with messages that are still provisional after a minute, unless they wait to be read again.
pub(super) fn select_provisional(account_id: i64) -> Statement {
    Statement::new(
        "SELECT d.avito_chat_id, p.since, c.listed_updated, c.listed_message_id, c.listed_kind, c.synced_message_id,
                coalesce(c.attempts, 0) AS attempts, c.failed_since, c.due_at
         FROM (SELECT m.dialog_id, extract(epoch FROM min(m.avito_created))::bigint AS since
               FROM messages m
               WHERE m.avito_account_id = $1 AND m.confirmed_at IS NULL AND m.not_found_at IS NULL
                 AND m.avito_message_id IS NOT NULL
                 AND m.created_at BETWEEN now() - interval '2 days' AND now() - interval '1 minute'
               GROUP BY 1) AS p
         JOIN dialogs d ON d.id = p.dialog_id
         LEFT JOIN chat_polls c ON c.avito_account_id = d.avito_account_id AND c.avito_chat_id = d.avito_chat_id
         WHERE c.failed_since IS NULL OR c.due_at <= now()
         ORDER BY p.since LIMIT $2",
    )
    .bind(account_id)
    .bind(MAX_CHATS)
    .labelled(PROVISIONAL)
}

/// Confirms messages that are still provisional, or marks them as not found. A chat that cannot be read is noted, and
/// the others go on; it waits for its next attempt.
pub(super) async fn confirm_provisional(
    app: &App,
    account: &PolledAccount,
    reader: &mut ChatReader<'_>,
    chats: &[ProvisionalChat],
) -> Result<(), PollError> {
    for ProvisionalChat { chat_id, since, cursor } in chats {
        match read_past(reader, chat_id, *since).await {
            Ok(Read::Messages(messages)) => judge(app, account, chat_id.clone(), *since, &messages).await?,
            Ok(Read::TooFar) => {}
            Ok(Read::BrokeOff) => break,
            Err(error) if error.is_limit() => break,
            Err(error) => reader.note_failure(chat_id, cursor, error).await?,
        }
    }
    if chats.is_empty() {
        return Ok(());
    }
    // The calls that these took are missing in what the poll has stored.
    let calls = Statement::new("UPDATE account_polls SET message_calls = $2 WHERE avito_account_id = $1");
    reader.run(vec![calls.bind(account.keys.account_id).bind(reader.calls())]).await?;
    Ok(())
}

/// The messages of a chat back to a time.
enum Read {
    /// All of them.
    Messages(Vec<avito::Message>),
    /// Avito does not serve that many.
    TooFar,
    /// The poll has no time or no calls left for them.
    BrokeOff,
}

/// Reads a chat's messages back to `since`.
async fn read_past(reader: &mut ChatReader<'_>, chat_id: &str, since: i64) -> Result<Read, PollError> {
    let mut messages = Vec::new();
    for offset in (0..=pages::MAX_OFFSET).step_by(usize::from(avito::MAX_PAGE_SIZE)) {
        let page = match reader.page(chat_id, offset).await {
            Err(PollError::Avito(avito::Error::Refused { status: 404, .. })) => return Ok(Read::Messages(messages)),
            page => page?,
        };
        let Some(page) = page else { return Ok(Read::BrokeOff) };
        let whole = page.len() == usize::from(avito::MAX_PAGE_SIZE);
        let is_past =
            |message: &avito::Message| message.created.is_some_and(|created| created < since - READ_BACK_MARGIN);
        let reaches_back = page.iter().any(is_past);
        messages.extend(page);
        if !whole || reaches_back {
            return Ok(Read::Messages(messages));
        }
    }
    Ok(Read::TooFar)
}

async fn judge(
    app: &App,
    account: &PolledAccount,
    chat_id: String,
    since: i64,
    messages: &[avito::Message],
) -> Result<(), PollError> {
    let (account_id, user_id) = (account.keys.account_id, account.keys.user_id);
    let incoming: Vec<IncomingMessage> = (0..)
        .zip(messages.iter().rev())
        .map(|(position, message)| incoming_message(message, user_id, position))
        .collect();
    let ids: Vec<String> = messages.iter().map(|message| message.id.clone()).collect();
    let mut statements = vec![
        record::correct_texts(account_id, user_id, &chat_id, &incoming),
        confirm(account_id, &chat_id, ids.clone()),
        bot_outbox::make_due_for_messages(account_id, ids),
    ];
    if !messages.is_empty() {
        statements.push(record::show_withheld(account_id, &chat_id, Vec::new()));
    }
    statements.push(mark_not_found(account_id, chat_id, since));
    let results = app.db().run(Scope::Tenant(account.keys.client_id), statements).await?;
    metrics::counter!("messages_not_found").increment(results.labelled(NOT_FOUND).count() as u64);
    Wakeups::read(&results)?.wake(app).await;
    Ok(())
}

fn confirm(account_id: i64, chat_id: &str, avito_message_ids: Vec<String>) -> Statement {
    Statement::new(
        "UPDATE messages m SET confirmed_at = now() FROM dialogs d
         WHERE d.avito_account_id = $1 AND d.avito_chat_id = $2 AND m.dialog_id = d.id
           AND m.avito_message_id = ANY($3) AND m.confirmed_at IS NULL",
    )
    .bind(account_id)
    .bind(chat_id.to_owned())
    .bind(avito_message_ids)
}

/// The label of the wake-ups for messages that were not found.
const NOT_FOUND: &str = "not_found";

/// Puts a notice for each posted message that is still provisional. One that is not posted yet waits for the next poll.
fn mark_not_found(account_id: i64, chat_id: String, since: i64) -> Statement {
    Statement::call("mark_not_found")
        .arg("account_id", account_id)
        .arg("avito_chat_id", chat_id)
        .arg("since", since)
        .arg("text", texts::not_confirmed(Language::Russian))
        .labelled(WAKEUPS)
        .labelled(NOT_FOUND)
}
