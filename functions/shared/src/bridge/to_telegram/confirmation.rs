//! Avito's confirmation of a new chat: a webhook could be forged. Until Avito confirms the chat, it has no topic.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    sender::{TelegramSender, TelegramStep},
    work::{BotWork, ClaimedDialog},
};
use crate::{
    avito,
    bridge::{
        common::{
            avito_call::{AvitoCaller, CallError},
            avito_rate_limit::CallPriority,
            chat_snapshot,
            telegram_budget::time_since,
            texts::{self, Language},
        },
        rows::posts,
    },
    platform::{
        db::Statement,
        endings::{Duty, History, Outcome, Verdict, spread},
        secrets::Secret,
    },
    tenancy::accounts::TokenError,
};

/// A chat about which Avito could not be asked for this time is shown without its confirmation.
const PROVISIONAL_AFTER: Duration = Duration::from_secs(15 * 60);
/// The longest that the outbox of a bot waits for one answer about a chat: the words of other buyers wait meanwhile.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// The most dialogs that are held, or released, with one of their account.
const HOLD_BATCH: i64 = 500;

/// A chat as Avito describes it.
pub(super) struct Context {
    pub(super) buyer: Option<Value>,
    pub(super) item: Option<Value>,
}

/// The reason for which a chat is not confirmed.
pub(super) enum NotConfirmed {
    /// Avito knows no such chat, or does not show it: the webhook that reported it was forged, or came too early.
    Unknown,
    /// Avito could not be asked, or did not answer.
    Later(Outcome),
}

/// Asks Avito about the chat of a dialog.
pub(super) async fn ask_avito(sender: &TelegramSender<'_>, dialog: &ClaimedDialog) -> Result<Context, NotConfirmed> {
    let (keys, chat_id) = (&dialog.keys, &dialog.avito_chat_id);
    let ask = async |avito: &avito::Client, token: &Secret| avito.chat(token, keys.user_id, chat_id).await;
    let caller = AvitoCaller::new(sender.app, keys);
    let asked = tokio::time::timeout(ASK_TIMEOUT, caller.call(CallPriority::Reply, None, ask)).await;
    let Ok(answer) = asked else { return Err(NotConfirmed::Later(Outcome::Unknown)) };
    match answer {
        Ok(chat) => {
            let (buyer, item) = chat_snapshot::snapshot(&chat, keys.user_id);
            Ok(Context { buyer, item })
        }
        Err(CallError::Avito(error)) if error.outcome() == Outcome::Refused => Err(NotConfirmed::Unknown),
        Err(error) => {
            tracing::warn!(dialog_id = dialog.id, %error, "Avito could not be asked about a chat");
            Err(NotConfirmed::Later(match error {
                CallError::Avito(error) => error.outcome(),
                CallError::Token(TokenError::Unavailable(wait)) => Outcome::Limited(wait),
                _ => Outcome::Unknown,
            }))
        }
    }
}

/// Asks Avito if the chat exists, and with which buyer, in a group without topics.
pub(super) async fn confirm_chat(sender: &TelegramSender<'_>, work: &BotWork, dialog: &ClaimedDialog) -> TelegramStep {
    match ask_avito(sender, dialog).await {
        Ok(context) => TelegramStep::Commit(after_confirmation(dialog, &context)),
        Err(not_confirmed) => after_no_confirmation(dialog, &not_confirmed, work.outbox.now),
    }
}

/// Returns the statements that follow when Avito has confirmed a chat.
pub(super) fn after_confirmation(dialog: &ClaimedDialog, context: &Context) -> Vec<Statement> {
    vec![store_confirmation(dialog.id, context), release_unconfirmed(dialog.keys.account_id)]
}

/// Stores that Avito has confirmed the chat, and how it describes it.
fn store_confirmation(dialog_id: i64, context: &Context) -> Statement {
    Statement::new(
        "UPDATE dialogs SET buyer = coalesce($2, buyer), item = coalesce($3, item), confirmed_at = coalesce(confirmed_at, now())
         WHERE id = $1",
    )
    .bind(dialog_id)
    .bind(context.buyer.clone())
    .bind(context.item.clone())
}

/// Decides what follows when Avito did not confirm a chat. A refusal may mean «not yet»; it ends with the chat hidden.
pub(super) fn after_no_confirmation(
    dialog: &ClaimedDialog,
    not_confirmed: &NotConfirmed,
    now: Timestamp,
) -> TelegramStep {
    let history = History {
        attempts: dialog.confirm_attempts.unsigned_abs(),
        failing_for: time_since(dialog.confirm_failed_since, now),
        ..History::default()
    };
    let outcome = match not_confirmed {
        NotConfirmed::Unknown => Outcome::Refused,
        NotConfirmed::Later(outcome) => *outcome,
    };
    TelegramStep::Commit(match Duty::Confirmation.after(outcome, history) {
        Verdict::Wait { .. } if outcome != Outcome::Refused && history.failing_for >= PROVISIONAL_AFTER => {
            show_provisionally(dialog.id)
        }
        Verdict::Wait { wait, counts, .. } if outcome == Outcome::Refused => {
            vec![note_confirmation_failure(dialog.id, counts, spread(wait).as_secs_f64())]
        }
        Verdict::Wait { wait, counts, .. } => {
            let left = PROVISIONAL_AFTER.saturating_sub(history.failing_for);
            let wait = spread(wait).min(left).as_secs_f64();
            vec![
                note_confirmation_failure(dialog.id, counts, wait),
                hold_unconfirmed(dialog.keys.account_id, dialog.id, wait),
            ]
        }
        Verdict::Plainer | Verdict::End => {
            metrics::counter!("chats_unconfirmed").increment(1);
            vec![hide_unknown_chat(dialog.id)]
        }
    })
}

/// Notes that Avito did not confirm the chat, and holds the dialog until it is asked again.
fn note_confirmation_failure(dialog_id: i64, is_attempt: bool, wait_seconds: f64) -> Statement {
    Statement::new(
        "UPDATE dialogs
         SET confirm_attempts = confirm_attempts + CASE WHEN $2 THEN 1 ELSE 0 END,
             confirm_failed_since = coalesce(confirm_failed_since, now()), hold_until = now() + make_interval(secs => $3)
         WHERE id = $1",
    )
    .bind(dialog_id)
    .bind(is_attempt)
    .bind(wait_seconds)
}

/// Holds the other unconfirmed dialogs of an account as well: Avito answers for none of them, and one question at a time finds out
/// when it does.
fn hold_unconfirmed(account_id: i64, dialog_id: i64, wait_seconds: f64) -> Statement {
    Statement::new(
        "UPDATE dialogs SET confirm_failed_since = coalesce(confirm_failed_since, now()),
                hold_until = greatest(hold_until, now() + make_interval(secs => $3))
         WHERE id IN (SELECT id FROM dialogs
                      WHERE avito_account_id = $1 AND confirmed_at IS NULL AND provisional_since IS NULL AND id <> $2
                      LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED)",
    )
    .bind(account_id)
    .bind(dialog_id)
    .bind(wait_seconds)
    .bind(HOLD_BATCH)
}

/// Releases the unconfirmed dialogs of an account that were held with another one: Avito answers again.
pub(super) fn release_unconfirmed(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE dialogs SET hold_until = NULL
         WHERE id IN (SELECT id FROM dialogs
                      WHERE avito_account_id = $1 AND confirmed_at IS NULL AND confirm_attempts = 0 AND hold_until > now()
                      LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)",
    )
    .bind(account_id)
    .bind(HOLD_BATCH)
}

/// Shows a dialog although Avito could not be asked about its chat. A notice says so.
fn show_provisionally(dialog_id: i64) -> Vec<Statement> {
    vec![
        Statement::new("UPDATE dialogs SET provisional_since = now(), hold_until = NULL WHERE id = $1").bind(dialog_id),
        Statement::new(
            "INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
             SELECT client_id, bot_id, id, 'notice', $2, 'provisional:' || id FROM dialogs WHERE id = $1
             ON CONFLICT (bot_id, dedup_key) DO NOTHING",
        )
        .bind(dialog_id)
        .bind(posts::notice(texts::chat_not_confirmed(Language::Russian), None)),
    ]
}

/// Filters the messages of a chat that Avito does not know: they stay stored, and are not posted, until a poll lists the
/// chat after all (`sql.show_withheld`). One that a poll has confirmed meanwhile is not filtered.
fn hide_unknown_chat(dialog_id: i64) -> Statement {
    Statement::new(
        "WITH unconfirmed AS (SELECT id FROM dialogs WHERE id = $1 AND confirmed_at IS NULL FOR NO KEY UPDATE)
         UPDATE messages m SET needs_post = false, status = 'filtered', error = 'Avito knows no such chat'
         FROM unconfirmed WHERE m.dialog_id = unconfirmed.id AND m.needs_post AND m.post_id IS NULL",
    )
    .bind(dialog_id)
}
