//! Our own failures. A refusal from outside is no error here: it becomes a row's state.

use crate::platform::{db::DbError, secrets::SecretsError};

/// A failure of our own.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// Postgres failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A stored secret does not open.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}
