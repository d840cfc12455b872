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
    /// Our own code panicked.
    #[error("our own code panicked")]
    Panicked,
}

impl BridgeError {
    /// True if the row that was worked for is at fault, or our code is with it: the row is set aside, and the others go on.
    /// False: Postgres is away, and every row waits.
    pub(in crate::bridge) fn sets_aside(&self) -> bool {
        match self {
            Self::Db(error) => !error.is_away(),
            Self::Secrets(_) | Self::Panicked => true,
        }
    }
}
