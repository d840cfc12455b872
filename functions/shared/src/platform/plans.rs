//! Statements whose plans Postgres caches. Planning a statement of the bridge takes longer than running it, and
//! prepared statements do not survive a pooler. A function's statements stay planned in each of the server's own
//! sessions. Several statements for one message are one function too, a routine: it runs only those that the message
//! needs.

use std::{borrow::Cow, collections::HashMap};

#[doc(hidden)]
pub use inventory;
use tokio_postgres::{Client, Transaction};

use super::db::{DbError, MigrationError};

/// One SQL statement, or a routine of several, that `migrate` makes a function of. Written by
/// [`planned!`](crate::planned) and [`routine!`](crate::routine).
#[derive(Debug)]
pub struct Planned {
    module: &'static str,
    kind: Kind,
    digest: u64,
}

#[derive(Debug)]
enum Kind {
    Statement(&'static str),
    Routine { signature: &'static str, body: &'static str, statements: &'static [&'static str] },
}

inventory::collect!(Planned);

/// A [`Statement`](crate::platform::db::Statement) with a cached plan, for work that each message needs. Its SQL is
/// known when compiling, and always run by the same role. A `SELECT` returns one column at least (PL/pgSQL refuses a
/// bare one when it runs), and each column has a name. If Postgres would take a parameter for another type than the
/// bound one, the SQL casts it: a call with another type looks like a call of a missing function.
#[macro_export]
macro_rules! planned {
    ($sql:expr $(,)?) => {{
        const PLANNED: $crate::platform::plans::Planned = $crate::platform::plans::Planned::new(module_path!(), $sql);
        $crate::platform::plans::inventory::submit! { PLANNED }
        $crate::platform::db::Statement::planned(&PLANNED)
    }};
}

/// As [`planned!`] for a routine: `signature` stands behind the function's name, with its parameters and result, and
/// `body` is PL/pgSQL from `DECLARE` or `BEGIN` to `END`. Each of its statements sees the changes of those before it
/// and all that other transactions committed until then. Its parameters' names begin with `_`, so that none is a
/// column's; they may be assigned to, so one that has a `DEFAULT` and is not bound is a variable. `statements` are
/// those that read rows; a test checks their plans, so they use no other variables. Its result is the column `result`,
/// unless it returns a table: calling an empty function of 46 columns takes half as long again as calling one that
/// returns JSON.
#[macro_export]
macro_rules! routine {
    ($signature:expr, $body:expr, [$($statement:expr),* $(,)?] $(,)?) => {{
        const ROUTINE: $crate::platform::plans::Planned =
            $crate::platform::plans::Planned::routine(module_path!(), $signature, $body, &[$($statement),*]);
        $crate::platform::plans::inventory::submit! { ROUTINE }
        $crate::platform::db::Statement::planned(&ROUTINE)
    }};
}

/// The schema of the functions.
const SCHEMA: &str = "plans";
/// The schema of a session's own functions.
const TEMPORARY: &str = "pg_temp";
const DIGEST_OF_NOTHING: u64 = 0xcbf2_9ce4_8422_2325;
/// Functions of other versions of the code stay this long: that code may still run, and may be deployed again.
const MAX_UNUSED_DAYS: i32 = 7;

impl Planned {
    /// A statement of a module.
    pub const fn new(module: &'static str, sql: &'static str) -> Self {
        Self { module, kind: Kind::Statement(sql), digest: digest(DIGEST_OF_NOTHING, sql.as_bytes()) }
    }

    /// A routine of a module.
    pub const fn routine(
        module: &'static str,
        signature: &'static str,
        body: &'static str,
        statements: &'static [&'static str],
    ) -> Self {
        let digest = digest(digest(DIGEST_OF_NOTHING, signature.as_bytes()), body.as_bytes());
        Self { module, kind: Kind::Routine { signature, body, statements }, digest }
    }

    /// The function's name: the last part of the module's, and a digest of the SQL, so that versions do not meet.
    pub fn name(&self) -> String {
        let module = self.module.rsplit("::").next().unwrap_or_default();
        format!("{module}_{:016x}", self.digest)
    }

    /// The statements that read rows, as they are written.
    pub fn statements(&self) -> &[&'static str] {
        match &self.kind {
            Kind::Statement(sql) => std::slice::from_ref(sql),
            Kind::Routine { statements, .. } => statements,
        }
    }

    /// The SQL of a call with `params` parameters.
    pub(super) fn call(&self, params: usize) -> String {
        self.call_in(SCHEMA, params)
    }

    /// The SQL while the function is missing: for a routine, first the statement that creates it for this session.
    pub(super) fn as_written(&self, params: usize) -> (Option<String>, Cow<'static, str>) {
        match &self.kind {
            Kind::Statement(sql) => (None, Cow::Borrowed(sql)),
            Kind::Routine { signature, body, .. } => {
                let definition = function(TEMPORARY, &self.name(), signature, &with_columns_first(body));
                (Some(definition), Cow::Owned(self.call_in(TEMPORARY, params)))
            }
        }
    }

    fn returns_rows(&self) -> bool {
        match &self.kind {
            Kind::Statement(_) => true,
            Kind::Routine { signature, .. } => signature.contains("RETURNS TABLE"),
        }
    }

    fn call_in(&self, schema: &str, params: usize) -> String {
        let params: Vec<String> = (1..=params).map(|number| format!("${number}")).collect();
        let call = format!("{schema}.{}({})", self.name(), params.join(", "));
        if self.returns_rows() { format!("SELECT * FROM {call}") } else { format!("SELECT {call} AS result") }
    }
}

/// Makes a name mean the column if a variable has the same name.
fn with_columns_first(body: &str) -> String {
    format!("#variable_conflict use_column\n{body}")
}

/// The SQL that creates a function. It has one plan for all parameters: an index finds the tenant's rows for any of
/// them, and planning for each call would take too long.
fn function(schema: &str, name: &str, signature: &str, body: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION {schema}.{name}{signature} LANGUAGE plpgsql
         SET plan_cache_mode = force_generic_plan AS $planned${body}$planned$"
    )
}

/// FNV-1a: short, and known when compiling. Goes on from `hash`.
const fn digest(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0100_0000_01b3);
        index += 1;
    }
    hash
}

/// All statements that this binary has been compiled with.
pub fn all() -> impl Iterator<Item = &'static Planned> {
    inventory::iter::<Planned>.into_iter()
}

/// Creates the functions that are missing or return other columns by now. Drops those that this code does not use and
/// that were unused a week ago too. For the owner of the tables, on a connection without a pooler.
pub(super) async fn create_functions(client: &mut Client) -> Result<(), MigrationError> {
    let existing = existing(client).await?;
    let (mut wanted, mut refused) = (Vec::new(), Vec::new());
    for planned in all() {
        match define(client, planned).await {
            Ok(definition) => wanted.push((planned.name(), definition)),
            Err(error) => {
                let reason = error.as_db_error().map_or("Postgres cannot be asked", |refusal| refusal.message());
                refused.push(format!("{reason} in {}: {}", planned.module, planned.statements().join("; ")));
            }
        }
    }
    if !refused.is_empty() {
        return Err(MigrationError::Refused(refused.join("; ")));
    }
    let transaction = client.transaction().await.map_err(DbError::from)?;
    for (name, definition) in &wanted {
        if !existing.get(name).is_some_and(|existing| definition.is(existing)) {
            create(&transaction, name, definition).await?;
        }
    }
    let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    forget(&transaction, &names).await?;
    Ok(transaction.commit().await.map_err(DbError::from)?)
}

/// A function as the catalogue has it.
struct Existing {
    arguments: String,
    result: String,
    body: String,
}

/// A function as it should be.
struct Definition {
    /// Its parameters and result, as the catalogue words them. None: a routine, whose name depends on them.
    described: Option<(String, String)>,
    signature: String,
    body: String,
}

impl Definition {
    fn is(&self, existing: &Existing) -> bool {
        let described =
            |(arguments, result): &(String, String)| (arguments, result) == (&existing.arguments, &existing.result);
        self.body == existing.body && self.described.as_ref().is_none_or(described)
    }
}

async fn existing(client: &Client) -> Result<HashMap<String, Existing>, DbError> {
    let rows = client
        .query(
            "SELECT proname::text, pg_get_function_identity_arguments(oid), pg_get_function_result(oid), prosrc
             FROM pg_proc WHERE pronamespace = to_regnamespace($1::text)",
            &[&SCHEMA],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), Existing { arguments: row.get(1), result: row.get(2), body: row.get(3) }))
        .collect())
}

/// Asks Postgres for a statement's parameters and result. A routine's signature states them.
async fn define(client: &Client, planned: &Planned) -> Result<Definition, tokio_postgres::Error> {
    let sql = match &planned.kind {
        Kind::Statement(sql) => *sql,
        Kind::Routine { signature, body, .. } => {
            let (signature, body) = ((*signature).to_owned(), with_columns_first(body));
            return Ok(Definition { described: None, signature, body });
        }
    };
    let described = client.prepare(sql).await?;
    let mut types = Vec::new();
    for kind in described.params().iter().chain(described.columns().iter().map(tokio_postgres::Column::type_)) {
        types.push(client.query_one("SELECT format_type($1, NULL)", &[&kind.oid()]).await?.get::<_, String>(0));
    }
    let results = types.split_off(described.params().len());
    let columns: Vec<String> =
        described.columns().iter().zip(results).map(|(column, kind)| format!("{} {kind}", column.name())).collect();
    let (result, statement) = if columns.is_empty() {
        ("SETOF void".to_owned(), sql.to_owned())
    } else {
        (format!("TABLE({})", columns.join(", ")), format!("RETURN QUERY {sql}"))
    };
    let arguments = types.join(", ");
    let body = with_columns_first(&format!("BEGIN {statement}; END"));
    Ok(Definition { signature: format!("({arguments}) RETURNS {result}"), described: Some((arguments, result)), body })
}

async fn create(transaction: &Transaction<'_>, name: &str, definition: &Definition) -> Result<(), DbError> {
    let created = function(SCHEMA, name, &definition.signature, &definition.body);
    Ok(transaction.batch_execute(&format!("DROP FUNCTION IF EXISTS {SCHEMA}.{name}; {created}")).await?)
}

/// Writes the day into the comment of a function that this code does not call. Drops the function after a week.
async fn forget(transaction: &Transaction<'_>, names: &[&str]) -> Result<(), DbError> {
    let rows = transaction
        .query(
            "SELECT proname::text AS name, proname::text = ANY($2) AS wanted,
                    coalesce(obj_description(oid, 'pg_proc')::date < current_date - $3::int, false) AS is_old,
                    obj_description(oid, 'pg_proc') IS NOT NULL AS marked
             FROM pg_proc WHERE pronamespace = to_regnamespace($1::text)",
            &[&SCHEMA, &names, &MAX_UNUSED_DAYS],
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
        assert_eq!(
            planned.call(2),
            format!("SELECT * FROM plans.posts_{:016x}($1, $2)", digest(DIGEST_OF_NOTHING, b"SELECT 1"))
        );
        assert!(planned.call(0).ends_with("()"));
    }

    #[test]
    fn a_routine_that_returns_no_table_has_one_result_column() {
        let call = |signature| Planned::routine("a", signature, "BEGIN END", &[]).call(0);
        assert!(call("() RETURNS json").starts_with("SELECT plans.a_"));
        assert!(call("() RETURNS json").ends_with("() AS result"));
        assert!(call("() RETURNS TABLE (one int)").starts_with("SELECT * FROM plans.a_"));
    }

    #[test]
    fn statements_that_differ_by_a_letter_have_functions_of_their_own() {
        assert_ne!(Planned::new("a", "SELECT 1").name(), Planned::new("a", "SELECT 2").name());
    }
}
