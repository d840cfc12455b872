//! Statements: SQL with its parameters, on whose behalf it runs, and the rows it returns.

use std::{borrow::Cow, ops::Deref, sync::Arc};

use serde::de::DeserializeOwned;
use tokio_postgres::{
    Row,
    types::{Json, ToSql, Type},
};

use super::{
    error::DbError,
    functions,
    rows::{ClientId, Param},
};

/// The text of a statement.
#[derive(Clone)]
enum Sql {
    Text(&'static str),
    Call { function: &'static str, arguments: Vec<&'static str> },
}

/// One SQL statement with its parameters.
#[derive(Clone)]
pub struct Statement {
    sql: Sql,
    params: Vec<(Arc<dyn ToSql + Sync + Send>, Type)>,
    labels: Vec<&'static str>,
}

impl Statement {
    /// A statement whose parameters `$1`, `$2`, … follow by [`Statement::bind`], in that order. `sql.` before a function's
    /// name stands for the schema of the stored functions ([`crate::sql`]).
    pub fn new(sql: &'static str) -> Self {
        Self { sql: Sql::Text(sql), params: Vec::new(), labels: Vec::new() }
    }

    /// A call of a stored function ([`crate::sql`]), whose parameters follow by [`Statement::arg`]. A function that returns
    /// one value returns one row of one column.
    pub fn call(function: &'static str) -> Self {
        Self { sql: Sql::Call { function, arguments: Vec::new() }, params: Vec::new(), labels: Vec::new() }
    }

    /// Adds the next parameter.
    #[must_use]
    pub fn bind<T: Param>(mut self, value: T) -> Self {
        self.params.push((Arc::new(value), T::TYPE));
        self
    }

    /// Adds a parameter of the called function by its name: `arg("bot_id", …)` is the function's `_bot_id`.
    #[must_use]
    pub fn arg<T: Param>(mut self, name: &'static str, value: T) -> Self {
        if let Sql::Call { arguments, .. } = &mut self.sql {
            arguments.push(name);
        }
        self.bind(value)
    }

    /// Adds a label, which says what columns the returned rows have, for [`ResultSets::labelled`].
    #[must_use]
    pub fn labelled(mut self, label: &'static str) -> Self {
        self.labels.push(label);
        self
    }

    /// The labels of the rows that the statement returns.
    pub(super) fn labels(&self) -> &[&'static str] {
        &self.labels
    }

    /// True if the statement calls a stored function.
    pub(super) fn calls_functions(&self) -> bool {
        match &self.sql {
            Sql::Text(sql) => matches!(functions::in_schema(sql, ""), Cow::Owned(_)),
            Sql::Call { .. } => true,
        }
    }

    /// The text that is sent, with the stored functions of `schema`.
    pub(super) fn text(&self, schema: &str) -> Cow<'static, str> {
        match &self.sql {
            Sql::Text(sql) => functions::in_schema(sql, schema),
            Sql::Call { function, arguments } => {
                let named = (1..).zip(arguments).map(|(number, name)| format!("_{name} => ${number}"));
                let named: Vec<String> = named.collect();
                Cow::Owned(format!("SELECT * FROM {schema}.{function}({})", named.join(", ")))
            }
        }
    }

    /// The parameters with their types, as the driver takes them.
    pub(super) fn params(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.params.iter().map(|(value, kind)| (value.as_ref() as &(dyn ToSql + Sync), kind.clone())).collect()
    }
}

/// The role and the tenant with which a transaction runs.
pub enum Scope {
    /// One tenant's rows, as `tuberry_app`.
    Tenant(ClientId),
    /// The tenant is that of a row still to be found: the statement runs as `tuberry_service` and must call
    /// `set_config('app.client_id', …, true)` for the row it finds. All that follows runs as `tuberry_app`.
    /// When it finds nothing, the rest sees no row.
    TenantOf(Statement),
    /// Users, sessions, tokens and organisations.
    Identity,
    /// Schedules and lists over all tenants.
    Service,
}

/// The rows of each statement of a transaction, in the order given. The statement of [`Scope::TenantOf`] comes first.
#[derive(Debug, Default)]
pub struct ResultSets {
    rows: Vec<Vec<Row>>,
    labels: Vec<Vec<&'static str>>,
}

impl Deref for ResultSets {
    type Target = [Vec<Row>];

    fn deref(&self) -> &Self::Target {
        &self.rows
    }
}

impl ResultSets {
    /// Adds the rows of the next statement.
    pub(super) fn push(&mut self, labels: &[&'static str], rows: Vec<Row>) {
        self.labels.push(labels.to_vec());
        self.rows.push(rows);
    }

    /// All rows of the statements with this label ([`Statement::labelled`]).
    pub fn labelled(&self, label: &'static str) -> impl Iterator<Item = &Row> {
        let labelled = self.labels.iter().zip(&self.rows).filter(move |(labels, _)| labels.contains(&label));
        labelled.flat_map(|(_, rows)| rows)
    }

    /// The rows of the last statement.
    pub fn into_last(mut self) -> Vec<Row> {
        self.rows.pop().unwrap_or_default()
    }

    /// Removes the rows of the statement at this index.
    pub fn remove(&mut self, index: usize) {
        self.rows.remove(index);
        self.labels.remove(index);
    }

    /// Reads the JSON that the last statement returns: one row of one column. [`DbError::Shape`]: it returns something else.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, DbError> {
        let row = self.last().and_then(|rows| rows.first()).ok_or(DbError::Shape)?;
        row.try_get(0).map(|Json(value)| value).map_err(|_| DbError::Shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_its_schema_its_function_and_each_parameter() {
        let call = Statement::call("claim_bot_work").arg("bot_id", 7_i64).arg("lease_owner", uuid::Uuid::nil());
        assert_eq!(
            call.text("sql_1f2e3d4c"),
            "SELECT * FROM sql_1f2e3d4c.claim_bot_work(_bot_id => $1, _lease_owner => $2)"
        );
        assert_eq!(Statement::call("now_due").text("pg_temp"), "SELECT * FROM pg_temp.now_due()");
    }

    #[test]
    fn a_statement_calls_functions_only_where_it_names_their_schema() {
        assert!(Statement::call("f").calls_functions());
        assert!(Statement::new("SELECT sql.doubled(number) FROM numbers").calls_functions());
        assert!(!Statement::new("SELECT number FROM mysql.numbers").calls_functions());
    }
}
