//! A reply that a person writes through the API: it goes to Avito like an operator's answer, and is posted in the topic
//! under its writer's name. It is accepted once per `Idempotency-Key`, decided in the transaction that stores it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::Row;

use super::history::{self, Message};
use crate::{
    App,
    bridge::common::{
        queue_tasks::{AvitoTask, TelegramTask},
        text_split,
    },
    platform::{
        db::{ClientId, DbError, Scope, Statement, get},
        http::{Problem, text as sentence},
    },
    tenancy::idempotency::{self, KeyOutcome, Request},
};

/// The most characters of a reply: as many as fit in one message of a topic (Bot API, `sendMessage`).
pub const MAX_LENGTH: usize = 4096;
/// The name under which its keys are stored.
const ROUTE: &str = "POST /api/dialogs/{dialog_id}/messages";

/// A reply to a buyer.
pub struct Reply {
    /// The row in `dialogs`.
    pub dialog_id: i64,
    /// Its text.
    pub text: String,
    /// The user who wrote it.
    pub user_id: i64,
    /// The writer's name in the topic.
    pub author: String,
    /// The `Idempotency-Key`. None: the request has none.
    pub key: Option<String>,
}

/// The reason for which a reply is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// The organisation has no such dialog.
    #[error("there is no such dialog")]
    NoSuchDialog,
    /// The buyer is blocked, or about to be.
    #[error("the buyer is blocked")]
    Blocked,
    /// Avito has not confirmed the chat yet.
    #[error("Avito has not confirmed the chat")]
    Unconfirmed,
    /// Avito refuses the dialog's account.
    #[error("Avito refuses the account")]
    AccountRefused,
    /// The account's chats are not followed.
    #[error("the account is not followed")]
    NotFollowed,
    /// The organisation is suspended.
    #[error("the organisation is suspended")]
    Suspended,
    /// The key came with another reply.
    #[error("the key was used for another reply")]
    OtherRequest,
    /// Postgres failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<ReplyError> for Problem {
    fn from(error: ReplyError) -> Self {
        match error {
            ReplyError::NoSuchDialog => Self::not_found(),
            ReplyError::Blocked => {
                Self::conflict("dialog_blocked", sentence("Покупатель заблокирован.", "The buyer is blocked."))
            }
            ReplyError::Unconfirmed => Self::conflict(
                "dialog_unconfirmed",
                sentence(
                    "Avito ещё не подтвердил этот чат. Попробуйте через минуту.",
                    "Avito has not confirmed this chat yet. Try again in a minute.",
                ),
            ),
            ReplyError::AccountRefused => Self::conflict(
                "account_refused",
                sentence(
                    "Авито не пускает этот аккаунт: проверьте его ключи и тариф.",
                    "Avito refuses this account: check its keys and its tariff.",
                ),
            ),
            ReplyError::NotFollowed => Self::conflict(
                "account_not_monitored",
                sentence(
                    "Чаты этого аккаунта не отслеживаются. Включите их, чтобы отвечать.",
                    "This account's chats are not followed. Switch that on to reply.",
                ),
            ),
            ReplyError::Suspended => {
                Self::conflict("suspended", sentence("Организация приостановлена.", "The organisation is suspended."))
            }
            ReplyError::OtherRequest => idempotency::other_request(),
            ReplyError::Db(error) => error.into(),
        }
    }
}

/// Locks the dialog, before anything else as in every transaction, and returns what prevents a reply.
const LOCK_DIALOG: &str = "
    SELECT d.bot_id, d.state = 'blocked' OR d.block_requested_at IS NOT NULL AS blocked, a.status <> 'active' AS refused,
           d.confirmed_at IS NULL AS unconfirmed, NOT a.monitoring_enabled AS unfollowed, a.suspended_at IS NOT NULL AS suspended
    FROM dialogs d JOIN tenancy_accounts a ON a.avito_account_id = d.avito_account_id
    WHERE d.id = $1
    FOR NO KEY UPDATE OF d";

/// The parameters of `insert_reply`.
struct InsertReply {
    dialog_id: i64,
    text: String,
    author_name: String,
    user_id: i64,
    parts: Value,
}

impl InsertReply {
    fn statement(self) -> Statement {
        let Self { dialog_id, text, author_name, user_id, parts } = self;
        Statement::call("insert_reply")
            .arg("dialog_id", dialog_id)
            .arg("text", text)
            .arg("author_name", author_name)
            .arg("user_id", user_id)
            .arg("parts", parts)
    }
}

/// Makes the outbox due of the bot of the message that the transaction created, unless the message has its post.
const MAKE_OUTBOX_DUE: &str = "
    SELECT outbox.bot_id FROM messages m CROSS JOIN LATERAL sql.make_outbox_due(m.bot_id, m.client_id, now()) AS outbox
    WHERE m.id = nullif(current_setting('app.result_id', true), '')::bigint AND m.needs_post AND m.post_id IS NULL";

/// Accepts a reply, and returns it as it was accepted: the same key gets the same answer.
pub async fn reply(app: &App, client: ClientId, reply: Reply) -> Result<Message, ReplyError> {
    let Reply { dialog_id, text, user_id, author, key } = reply;
    let request = Request::new(user_id, ROUTE, key, &format!("{dialog_id} {text}"));
    let parts = text_split::parts_of(&text, 0);
    let insert = InsertReply { dialog_id, text, author_name: author, user_id, parts: json!(parts) };
    let mut statements = vec![Statement::new(LOCK_DIALOG).bind(dialog_id), request.claim(), insert.statement()];
    statements.extend(request.store_result());
    let key_index = statements.len() - 1;
    statements.extend([Statement::new(MAKE_OUTBOX_DUE), history::select_created()]);
    let results = app.db().run(Scope::Tenant(client), statements).await?;
    let dialog = results.first().and_then(|rows| rows.first()).ok_or(ReplyError::NoSuchDialog)?;
    match request.read(&results, key_index)? {
        KeyOutcome::OtherRequest => return Err(ReplyError::OtherRequest),
        KeyOutcome::Nothing => return Err(rejection(dialog)?),
        KeyOutcome::Created(_) => {}
    }
    let row = results.last().and_then(|rows| rows.first()).ok_or(DbError::Shape)?;
    let message = Message::read(row)?.when_taken();
    let (avito, telegram) = (AvitoTask::V1 { dialog_id }, TelegramTask::V1 { bot_id: get(dialog, "bot_id")? });
    tokio::join!(app.wake(&avito, Duration::ZERO), app.wake(&telegram, Duration::ZERO));
    Ok(message)
}

fn rejection(dialog: &Row) -> Result<ReplyError, DbError> {
    Ok(if get(dialog, "suspended")? {
        ReplyError::Suspended
    } else if get(dialog, "blocked")? {
        ReplyError::Blocked
    } else if get(dialog, "refused")? {
        ReplyError::AccountRefused
    } else if get(dialog, "unfollowed")? {
        ReplyError::NotFollowed
    } else {
        ReplyError::Unconfirmed
    })
}
