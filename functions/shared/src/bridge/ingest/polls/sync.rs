//! Syncs the chats of an account, in this order: the unread chats are listed, then all down to the watermark; those that
//! changed are read; the watermark moves to the point below which every chat was dealt with. A chat is read back to the
//! newest message that a poll has read together with all before it. Our newest row is no such limit: a lost webhook
//! followed by a good one hides a gap.

use std::{collections::HashSet, time::Instant};

use jiff::Timestamp;

use super::{
    account::{PollError, PolledAccount, usual_interval},
    chats::{ChatReader, Outcome},
    confirm::{self, ProvisionalChat},
    cursors,
    lists::Lists,
    plan::{self, Moment, Plan},
};
use crate::{
    App, avito,
    bridge::{
        common::{avito_call::AvitoCaller, wakeups::Wakeups},
        rows::{account_work, receipts},
    },
    platform::db::{Scope, Statement},
    tenancy::accounts,
};

/// Finds new messages and records them, until `stop`. What it could not reach is left to the next poll.
pub(super) async fn sync(
    app: &App,
    account: &PolledAccount,
    caller: &AvitoCaller<'_>,
    stop: Instant,
) -> Result<(), PollError> {
    let mut lists = Lists::fetch(account, caller).await;
    let mut error = lists.error.take();
    let is_idle = lists.is_unchanged(account) && !account.has_due_chats;
    if is_idle && (error.is_some() || (!account.list_unread && account.attempts == 0)) {
        return error.map_or(Ok(()), Err);
    }
    let mut reader = ChatReader::new(app, account, caller, stop);
    let mut left = Left::default();
    if !is_idle {
        let read = read_chats(app, account, &lists, &mut reader, &mut left).await;
        error = error.or(read.err());
    }
    let provisional = store_progress(app, account, &lists, left, &mut reader, error.is_none()).await?;
    let confirmed = confirm::confirm_provisional(app, account, &mut reader, &provisional).await;
    error.map_or(confirmed, Err)
}

/// The chats that a poll planned to read and did not.
#[derive(Default)]
struct Left {
    chat_ids: HashSet<String>,
}

/// Reads the chats of the plan. Error: not all could be tried.
async fn read_chats(
    app: &App,
    account: &PolledAccount,
    lists: &Lists,
    reader: &mut ChatReader<'_>,
    left: &mut Left,
) -> Result<(), PollError> {
    let listed = || lists.unread.iter().flatten().chain(&lists.chats);
    left.chat_ids = listed().map(|chat| chat.id.clone()).collect();
    let known = cursors::read(app, account, listed().map(|chat| chat.id.clone()).collect()).await?;
    let moment = Moment { user_id: account.keys.user_id, started: account.started, now: Timestamp::now() };
    let plan = Plan::new(moment, lists, &known);
    if !plan.from_list.is_empty() {
        reader.run(vec![cursors::store_listed(account.keys.account_id, &plan.from_list)]).await?;
    }
    left.chat_ids = plan.to_read.iter().map(|chat| chat.id.to_owned()).collect();
    for (chat, listed) in plan.waiting {
        reader.record_listed(chat, listed).await?;
    }
    for chat in &plan.to_read {
        // A chat in which the last poll broke off would break off again, and use up the calls that it waits for.
        if !reader.may_call() || chat.is_begun && !reader.may_read_any() {
            return Ok(());
        }
        match reader.read(chat).await {
            Ok(Outcome::Done) => left.chat_ids.remove(chat.id),
            Ok(Outcome::BrokeOff) if chat.is_begun || chat.attempts > 0 => {
                // It needs more time than a poll has: the others go before it.
                reader.set_aside(chat, &PollError::TooLong).await?;
                left.chat_ids.remove(chat.id)
            }
            Ok(Outcome::BrokeOff) => {
                reader.run(vec![cursors::begin_with(account.keys.account_id, chat.id)]).await?;
                return Ok(());
            }
            // A wait that Avito orders, or our own count of calls, is no failure: the next poll goes on.
            Err(error) if error.is_limit() => return Ok(()),
            Err(error) => return Err(error),
        };
    }
    Ok(())
}

/// Stores what the poll reached: the watermark, the digests of the lists, the receipts, and the chats that are left.
/// Returns the chats whose messages are still provisional.
async fn store_progress(
    app: &App,
    account: &PolledAccount,
    lists: &Lists,
    left: Left,
    reader: &mut ChatReader<'_>,
    has_succeeded: bool,
) -> Result<Vec<ProvisionalChat>, PollError> {
    let account_id = account.keys.account_id;
    let now = Timestamp::now().as_second();
    let left: HashSet<&str> = left.chat_ids.iter().map(String::as_str).collect();
    let is_through = left.is_empty() && lists.is_complete;
    let count = |chats: usize| i32::try_from(chats).unwrap_or(i32::MAX);
    let done = Statement::new(
        "UPDATE account_polls p
         SET watermark = greatest(p.watermark, $2),
             page_digest = CASE WHEN $3 THEN $4::bytea END, unread_digest = CASE WHEN $3 THEN $5::bytea END, message_calls = $6,
             chats_read = CASE WHEN $7 = 0 THEN 0 ELSE p.chats_read + $8 END,
             chats_to_read = CASE WHEN $7 = 0 THEN 0 ELSE p.chats_read + $8 + $7 END,
             unread_list_at = CASE WHEN $7 = 0 THEN p.unread_list_at ELSE now() END,
             next_poll_at = CASE WHEN $7 = 0 AND $11 THEN p.next_poll_at
                                 ELSE least(p.next_poll_at, now() + make_interval(secs => $9)) END,
             attempts = CASE WHEN $10 THEN 0 ELSE p.attempts END,
             failed_since = CASE WHEN $10 THEN NULL ELSE p.failed_since END,
             error = CASE WHEN $10 THEN NULL ELSE p.error END
         WHERE p.avito_account_id = $1",
    );
    let done = done
        .bind(account_id)
        .bind(plan::watermark(lists, &left, now))
        .bind(is_through)
        .bind(lists.page_digest.clone())
        .bind(lists.unread_digest.clone())
        .bind(reader.calls())
        .bind(count(left.len()))
        .bind(count(reader.findings.chats_read))
        .bind(usual_interval(app))
        .bind(has_succeeded)
        .bind(account.is_active());
    let findings = std::mem::take(&mut reader.findings);
    let mut statements = Vec::new();
    if !account.is_active() && has_succeeded {
        statements.push(account_work::resume_dialogs(account_id));
        statements.push(accounts::mark_working(account_id));
    }
    if lists.is_cut {
        statements.push(accounts::notify_chats_skipped(account_id));
    }
    statements.extend([done, note_unreported(account_id, findings.seen)]);
    let last_messages = lists.chats.iter().filter_map(|chat| chat.last_message.as_ref());
    let is_read = |message: &&avito::Message| message.read.is_some() && message.is_own(account.keys.user_id);
    let read = findings.read.into_iter().chain(last_messages.filter(is_read).map(|message| message.id.clone()));
    statements.push(receipts::put_read_receipts(account_id, read.collect()));
    statements.push(confirm::select_provisional(account_id));
    let results = app.db().run(Scope::Tenant(account.keys.client_id), statements).await?;
    Wakeups::read(&results)?.wake(app).await;
    ProvisionalChat::read_all(&results)
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
