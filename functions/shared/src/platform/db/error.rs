//! Failures of a transaction: enough for the caller's decisions, and nothing that must not reach a log.

use tokio_postgres::error::SqlState;

/// The failure of a transaction. Its texts name the SQLSTATE and a constraint, never a value.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Postgres cannot be reached, or did not answer in time. The outcome of the transaction is unknown.
    #[error("Postgres cannot be reached: {0}")]
    Unavailable(&'static str),
    /// A constraint was broken.
    #[error("the constraint {constraint} refuses the row ({sqlstate})")]
    Constraint {
        /// The five-character code.
        sqlstate: String,
        /// The constraint's name.
        constraint: String,
    },
    /// Postgres refused the statement.
    #[error("Postgres refused a statement ({0})")]
    Statement(String),
    /// A row is not of the shape the code reads.
    #[error("a row is not as expected")]
    Shape,
}

/// The failure of a migration.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// Postgres failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A migration does not apply, a file differs from the one applied before, or a statement does not suit the tables.
    #[error("a migration does not apply: {0}")]
    Refused(String),
    /// The roles of the tables could not be granted to the login of the functions.
    #[error(
        "the roles of the tables cannot be granted to the role {0} of DATABASE_LOGIN: create it first, and let the owner \
         of the tables be the one who made tuberry_app, tuberry_identity and tuberry_service ({1})"
    )]
    Login(String, DbError),
    /// The server reuses a plan after a change of role, and so returns rows that only the former role may see.
    #[error("Postgres {0} mixes up roles in the plans that it caches (CVE-2024-10976): use 15.9, 16.5, 17.1 or newer")]
    Unsafe(String),
}

impl DbError {
    /// The name of the broken constraint. None: another failure.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Constraint { constraint, .. } => Some(constraint),
            Self::Unavailable(_) | Self::Statement(_) | Self::Shape => None,
        }
    }

    /// True if Postgres is away: nothing is wrong with the rows.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// True if Postgres rolled the transaction back because of a conflict with another one.
    pub(super) fn is_undone(&self) -> bool {
        self.is_one_of(&[SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE])
    }

    /// True if a stored function of this code is missing: `migrate` has not installed them yet, or has dropped them.
    pub(super) fn lacks_functions(&self) -> bool {
        self.is_one_of(&[SqlState::UNDEFINED_FUNCTION, SqlState::INVALID_SCHEMA_NAME])
    }

    fn is_one_of(&self, codes: &[SqlState]) -> bool {
        matches!(self, Self::Statement(state) if codes.iter().any(|code| code.code() == state))
    }
}

impl From<tokio_postgres::Error> for DbError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(refusal) = error.as_db_error() else {
            return if error.is_closed() || is_broken(&error) {
                Self::Unavailable("the connection broke")
            } else {
                Self::Shape
            };
        };
        let sqlstate = refusal.code().code().to_owned();
        if ends_connection(refusal.code()) {
            Self::Unavailable("it is shutting down or refuses connections")
        } else if let Some(constraint) = refusal.constraint() {
            Self::Constraint { sqlstate, constraint: constraint.to_owned() }
        } else {
            Self::Statement(sqlstate)
        }
    }
}

fn is_broken(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}

/// True for codes with which a server or a pooler says that this connection is of no use any more.
fn ends_connection(code: &SqlState) -> bool {
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::CONNECTION_FAILURE,
        SqlState::CONNECTION_EXCEPTION,
        SqlState::PROTOCOL_VIOLATION,
        SqlState::QUERY_CANCELED,
    ]
    .contains(code)
}
