//! Statements: SQL with its parameters, on whose behalf it runs, and the rows it returns.

use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

use super::rows::{ClientId, Param};
use crate::platform::plans::Planned;

/// The text of a statement.
pub(super) enum Sql {
    Text(&'static str),
    Planned(&'static Planned),
}

/// One SQL statement with its parameters.
pub struct Statement {
    pub(super) sql: Sql,
    pub(super) params: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Statement {
    /// A statement whose parameters `$1`, `$2`, … follow by [`Statement::bind`], in that order.
    pub fn new(sql: &'static str) -> Self {
        Self { sql: Sql::Text(sql), params: Vec::new() }
    }

    /// As [`Statement::new`], with a plan that Postgres caches; see [`planned!`](crate::planned).
    pub fn planned(planned: &'static Planned) -> Self {
        Self { sql: Sql::Planned(planned), params: Vec::new() }
    }

    /// Adds the next parameter.
    #[must_use]
    pub fn bind<T: Param>(mut self, value: T) -> Self {
        self.params.push((Box::new(value), T::TYPE));
        self
    }
}

/// The role and the tenant of a transaction.
pub enum Scope {
    /// One tenant's rows, as `tuberry_app`.
    Tenant(ClientId),
    /// The tenant of a row that is still to be found. The statement runs as `tuberry_service` and must call
    /// `set_config('app.client_id', …, true)` for the row that it finds. All later statements run as `tuberry_app`.
    /// If it finds no row, they see no rows.
    TenantOf(Statement),
    /// Users, sessions, tokens and organisations.
    Identity,
    /// Schedules and lists over all tenants.
    Service,
}

/// The rows of each statement of a transaction, in the order given.
pub type ResultSets = Vec<Vec<Row>>;
