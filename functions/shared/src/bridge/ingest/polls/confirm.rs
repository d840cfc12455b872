//! Confirms provisional messages. A message that only a webhook reported is provisional: Avito signs nothing. A poll
//! that finds the message confirms it. If a poll read the chat back past the message's time without finding it, a
//! notice in the topic says so, once.

use super::{
    account::{PollError, PolledAccount},
    pages,
};
use crate::{
    App, avito,
    bridge::{
        common::{
            avito_call::AvitoCaller,
            texts::{self, Language},
            wakeups::{WAKEUPS, Wakeups},
        },
        ingest::{
            incoming::{IncomingMessage, incoming_message},
            record,
        },
        rows::bot_outbox,
    },
    platform::db::{DbError, Scope, Statement, get},
};

/// The most chats that one poll reads for this.
const MAX_CHATS: i64 = 10;
/// The chat is read back this much further than the message's time, seconds.
const READ_BACK_MARGIN: i64 = 5;

/// Confirms messages that are still provisional after a minute, or marks them as not found.
pub(super) async fn confirm_provisional(
    app: &App,
    account: &PolledAccount,
    caller: &AvitoCaller<'_>,
) -> Result<(), PollError> {
    let statement = Statement::new(
        "SELECT d.avito_chat_id, extract(epoch FROM min(m.avito_created))::bigint AS since
         FROM messages m JOIN dialogs d ON d.id = m.dialog_id
         WHERE m.avito_account_id = $1 AND m.confirmed_at IS NULL AND m.not_found_at IS NULL AND m.avito_message_id IS NOT NULL
           AND m.created_at BETWEEN now() - interval '2 days' AND now() - interval '1 minute'
         GROUP BY 1 ORDER BY 2 LIMIT $2",
    );
    let scope = Scope::Tenant(account.keys.client_id);
    let rows = app.db().query(scope, statement.bind(account.keys.account_id).bind(MAX_CHATS)).await?;
    let chats: Vec<(String, i64)> =
        rows.iter().map(|row| Ok((get(row, "avito_chat_id")?, get(row, "since")?))).collect::<Result<_, DbError>>()?;
    for (chat_id, since) in chats {
        if let Some(messages) = read_past(caller, &chat_id, since).await? {
            judge(app, account, chat_id, since, &messages).await?;
        }
    }
    Ok(())
}

/// Reads a chat's messages back to `since`. None: Avito does not serve that many.
async fn read_past(
    caller: &AvitoCaller<'_>,
    chat_id: &str,
    since: i64,
) -> Result<Option<Vec<avito::Message>>, PollError> {
    let mut messages = Vec::new();
    for offset in (0..=pages::MAX_OFFSET).step_by(usize::from(avito::MAX_PAGE_SIZE)) {
        let page = match pages::messages(caller, chat_id, offset).await {
            Err(PollError::Avito(avito::Error::Refused { status: 404, .. })) => return Ok(Some(messages)),
            page => page?,
        };
        let whole = page.len() == usize::from(avito::MAX_PAGE_SIZE);
        let is_past =
            |message: &avito::Message| message.created.is_some_and(|created| created < since - READ_BACK_MARGIN);
        let reaches_back = page.iter().any(is_past);
        messages.extend(page);
        if !whole || reaches_back {
            return Ok(Some(messages));
        }
    }
    Ok(None)
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
    let statements = vec![
        record::correct_texts(account_id, user_id, &chat_id, &incoming),
        confirm(account_id, &chat_id, ids.clone()),
        bot_outbox::make_due_for_messages(account_id, ids),
        mark_not_found(account_id, chat_id, since),
    ];
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
