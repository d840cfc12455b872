//! Statements whose plans Postgres keeps. Planning a statement of the bridge takes longer than running it, and prepared
//! statements do not survive a pooler; a function's statements stay planned in each of the server's own sessions.

use std::collections::HashMap;

#[doc(hidden)]
pub use inventory;
use tokio_postgres::{Client, Transaction};

use super::{db::DbError, migrations::MigrationError};

/// One SQL statement that `migrate` makes a function of. Written by [`planned!`](crate::planned).
#[derive(Debug)]
pub struct Planned {
    module: &'static str,
    sql: &'static str,
    digest: u64,
}

inventory::collect!(Planned);

/// A [`Statement`](crate::platform::db::Statement) whose plan is kept, for what each message needs. It is SQL known when
/// compiling, always run by the same role. A `SELECT` answers one column at least (PL/pgSQL refuses a bare one when it
/// runs), and each column has a name. Where Postgres would take a parameter for another type than the one that is bound,
/// the SQL casts it: a call with another type looks like one of a function that is missing.
#[macro_export]
macro_rules! planned {
    ($sql:expr $(,)?) => {{
        const PLANNED: $crate::platform::plans::Planned = $crate::platform::plans::Planned::new(module_path!(), $sql);
        $crate::platform::plans::inventory::submit! { PLANNED }
        $crate::platform::db::Statement::planned(&PLANNED)
    }};
}

/// The schema of the functions.
const SCHEMA: &str = "plans";
/// Functions of other versions of the code stay this long: theirs may still be running, and may come back.
const KEPT_DAYS: i32 = 7;

impl Planned {
    /// A statement of a module.
    pub const fn new(module: &'static str, sql: &'static str) -> Self {
        Self { module, sql, digest: digest(sql.as_bytes()) }
    }

    /// The function's name: the last part of the module's, and a digest of the SQL, so that versions do not meet.
    pub fn name(&self) -> String {
        let module = self.module.rsplit("::").next().unwrap_or_default();
        format!("{module}_{:016x}", self.digest)
    }

    /// The statement as it is written.
    pub fn sql(&self) -> &'static str {
        self.sql
    }

    /// The statement that calls the function with `params` parameters.
    pub(super) fn call(&self, params: usize) -> String {
        let params: Vec<String> = (1..=params).map(|place| format!("${place}")).collect();
        format!("SELECT * FROM {SCHEMA}.{}({})", self.name(), params.join(", "))
    }
}

/// FNV-1a: short, and known when compiling.
const fn digest(bytes: &[u8]) -> u64 {
    let (mut hash, mut place) = (0xcbf2_9ce4_8422_2325, 0);
    while place < bytes.len() {
        hash = (hash ^ bytes[place] as u64).wrapping_mul(0x0100_0000_01b3);
        place += 1;
    }
    hash
}

/// All statements that this binary has been compiled with.
pub fn all() -> impl Iterator<Item = &'static Planned> {
    inventory::iter::<Planned>.into_iter()
}

/// Makes the functions that are missing or answer something else by now, and forgets those that are not of this code and
/// were not a week ago either. For the owner of the tables, on a connection without a pooler.
pub(super) async fn keep(client: &mut Client) -> Result<(), MigrationError> {
    let existing = existing(client).await?;
    let (mut wanted, mut refused) = (Vec::new(), Vec::new());
    for planned in all() {
        match define(client, planned).await {
            Ok(definition) => wanted.push((planned.name(), definition)),
            Err(error) => {
                let reason = error.as_db_error().map_or("Postgres cannot be asked", |refusal| refusal.message());
                refused.push(format!("{reason} in {}: {}", planned.module, planned.sql));
            }
        }
    }
    if !refused.is_empty() {
        return Err(MigrationError::Refused(refused.join("; ")));
    }
    let transaction = client.transaction().await.map_err(DbError::from)?;
    for (name, definition) in &wanted {
        if existing.get(name) != Some(definition) {
            create(&transaction, name, definition).await?;
        }
    }
    let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    forget(&transaction, &names).await?;
    Ok(transaction.commit().await.map_err(DbError::from)?)
}

/// What a function takes, answers and does.
#[derive(Debug, PartialEq)]
struct Definition {
    arguments: String,
    result: String,
    body: String,
}

async fn existing(client: &Client) -> Result<HashMap<String, Definition>, DbError> {
    let rows = client
        .query(
            "SELECT proname::text, pg_get_function_identity_arguments(oid), pg_get_function_result(oid), prosrc
             FROM pg_proc WHERE pronamespace = to_regnamespace($1::text)",
            &[&SCHEMA],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), Definition { arguments: row.get(1), result: row.get(2), body: row.get(3) }))
        .collect())
}

/// Has Postgres say what a statement takes and answers.
async fn define(client: &Client, planned: &Planned) -> Result<Definition, tokio_postgres::Error> {
    let described = client.prepare(planned.sql).await?;
    let mut types = Vec::new();
    for kind in described.params().iter().chain(described.columns().iter().map(tokio_postgres::Column::type_)) {
        types.push(client.query_one("SELECT format_type($1, NULL)", &[&kind.oid()]).await?.get::<_, String>(0));
    }
    let results = types.split_off(described.params().len());
    let columns: Vec<String> =
        described.columns().iter().zip(results).map(|(column, kind)| format!("{} {kind}", column.name())).collect();
    let (result, statement) = if columns.is_empty() {
        ("SETOF void".to_owned(), planned.sql.to_owned())
    } else {
        (format!("TABLE({})", columns.join(", ")), format!("RETURN QUERY {}", planned.sql))
    };
    // Where an answered column and a table's have one name, the table's is meant.
    let body = format!("#variable_conflict use_column\nBEGIN {statement}; END");
    Ok(Definition { arguments: types.join(", "), result, body })
}

async fn create(transaction: &Transaction<'_>, name: &str, definition: &Definition) -> Result<(), DbError> {
    let Definition { arguments, result, body } = definition;
    // One plan for all parameters: the tenant's rows are found by index whatever they are, and planning for each call is
    // what is to be saved.
    let sql = format!(
        "DROP FUNCTION IF EXISTS {SCHEMA}.{name};
         CREATE FUNCTION {SCHEMA}.{name}({arguments}) RETURNS {result} LANGUAGE plpgsql
         SET plan_cache_mode = force_generic_plan AS $planned${body}$planned$"
    );
    Ok(transaction.batch_execute(&sql).await?)
}

/// A function that this code does not call is marked with the day, and dropped when that was long ago.
async fn forget(transaction: &Transaction<'_>, names: &[&str]) -> Result<(), DbError> {
    let rows = transaction
        .query(
            "SELECT proname::text AS name, proname::text = ANY($2) AS wanted,
                    coalesce(obj_description(oid, 'pg_proc')::date < current_date - $3::int, false) AS is_old,
                    obj_description(oid, 'pg_proc') IS NOT NULL AS marked
             FROM pg_proc WHERE pronamespace = to_regnamespace($1::text)",
            &[&SCHEMA, &names, &KEPT_DAYS],
        )
        .await?;
    let today: String = transaction.query_one("SELECT current_date::text", &[]).await?.get(0);
    for row in rows {
        let name: String = row.get("name");
        let sql = match (row.get("wanted"), row.get("marked"), row.get("is_old")) {
            (true, true, _) => format!("COMMENT ON FUNCTION {SCHEMA}.{name} IS NULL"),
            (false, _, true) => format!("DROP FUNCTION {SCHEMA}.{name}"),
            (false, false, _) => format!("COMMENT ON FUNCTION {SCHEMA}.{name} IS '{today}'"),
            (true, false, _) | (false, true, false) => continue,
        };
        transaction.batch_execute(&sql).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_its_module_and_as_many_parameters_as_it_has() {
        let planned = Planned::new("tuberry::bridge::posts", "SELECT 1");
        assert_eq!(planned.call(2), format!("SELECT * FROM plans.posts_{:016x}($1, $2)", digest(b"SELECT 1")));
        assert!(planned.call(0).ends_with("()"));
    }

    #[test]
    fn statements_that_differ_by_a_letter_have_functions_of_their_own() {
        assert_ne!(Planned::new("a", "SELECT 1").name(), Planned::new("a", "SELECT 2").name());
    }
}
