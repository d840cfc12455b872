//! The bridge: an Avito chat is a topic of a Telegram group. Rows are the queue, SQS is the alarm clock: a message is a
//! row as soon as it is received, and the worker that holds a lease derives from rows what still has to be sent.

mod album;
mod attachments;
pub mod auto_reply;
mod avito_rate_limit;
pub mod avito_webhook;
mod blocking;
mod bot_outbox;
mod budget;
mod callbacks;
mod calls;
mod claim;
mod commands;
mod compose;
pub mod deliver;
mod dialog_work;
pub mod drain;
mod edits;
mod failures;
pub mod hand_made;
mod header;
pub mod history;
mod marks;
pub mod operator;
mod order;
mod pictures;
pub mod polls;
mod posts;
mod receipts;
pub mod record;
pub mod relocation;
mod replay;
mod show;
pub mod sweep;
pub mod tasks;
mod tenants;
pub mod text;
mod texts;
mod topics;
pub mod voice;
pub mod window;
mod work;

use crate::platform::{db::DbError, secrets::SecretsError};

/// Our own failures. A refusal by Telegram or Avito is no error here: it becomes a row's state.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// Postgres failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A stored secret cannot be decrypted.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}
