//! Postgres. A transaction is a list of statements that are sent in one round trip. So no transaction can be open while
//! Avito or Telegram is called, and every piece of work costs one round trip. There is no other way to query.

mod connection;
mod database;
mod error;
mod functions;
mod pipeline;
mod rows;
mod statement;

pub(super) use connection::connect;
pub use connection::parse_address;
pub use database::{Db, Timeouts};
pub use error::{DbError, MigrationError};
pub(super) use functions::install;
pub use rows::{ClientId, Param, bytes, get, get_variant, optional_bytes};
pub use statement::{ResultSets, Scope, Statement};

/// The schema of the stored functions of this code.
pub use crate::sql::SCHEMA as FUNCTIONS_SCHEMA;
