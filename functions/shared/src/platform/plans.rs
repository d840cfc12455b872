//! Statements whose plans Postgres keeps. Planning a statement of the bridge takes longer than running it, and prepared
//! statements do not survive a pooler; a function's statements stay planned in each of the server's own sessions. What each
//! message needs of several statements is one function too, a routine: it runs only those that this message needs.

use std::{borrow::Cow, collections::HashMap};

#[doc(hidden)]
pub use inventory;
use tokio_postgres::{Client, Transaction};

use super::{db::DbError, migrations::MigrationError};

/// One SQL statement, or a routine of several, that `migrate` makes a function of. Written by [`planned!`](crate::planned)
/// and [`routine!`](crate::routine).
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

/// As [`planned!`] for a routine: `signature` is what stands behind the function's name, parameters and what it returns, and
/// `body` is PL/pgSQL from `DECLARE` or `BEGIN` to `END`. Each statement of it sees what those before it did and what others
/// committed until then. Its parameters' names begin with `_`, so that none is a column's; they may be assigned to, so one that
/// has a `DEFAULT` and is not bound is a variable. `statements` are those that look anything up, whose plans a test looks at:
/// they use no other variables. What it returns is the column `result`, unless it returns a table: an empty function of 46
/// columns takes half as long again to be called as one that returns JSON.
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
/// Functions of other versions of the code stay this long: theirs may still be running, and may come back.
const KEPT_DAYS: i32 = 7;

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

    /// The statements that look something up, as they are written.
    pub fn statements(&self) -> &[&'static str] {
        match &self.kind {
            Kind::Statement(sql) => std::slice::from_ref(sql),
            Kind::Routine { statements, .. } => statements,
        }
    }

    /// What is sent for a call with `params` parameters.
    pub(super) fn call(&self, params: usize) -> String {
        self.call_in(SCHEMA, params)
    }

    /// What is sent while the function is missing: for a routine, what makes it for this session; then what is asked.
    pub(super) fn as_written(&self, params: usize) -> (Option<String>, Cow<'static, str>) {
        match &self.kind {
            Kind::Statement(sql) => (None, Cow::Borrowed(sql)),
            Kind::Routine { signature, body, .. } => {
                let made = function(TEMPORARY, &self.name(), signature, &with_columns_first(body));
                (Some(made), Cow::Owned(self.call_in(TEMPORARY, params)))
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
        let params: Vec<String> = (1..=params).map(|place| format!("${place}")).collect();
        let call = format!("{schema}.{}({})", self.name(), params.join(", "));
        if self.returns_rows() { format!("SELECT * FROM {call}") } else { format!("SELECT {call} AS result") }
    }
}

/// Where a column and a variable have one name, the column is meant.
fn with_columns_first(body: &str) -> String {
    format!("#variable_conflict use_column\n{body}")
}

/// What makes a function. It has one plan for all parameters: the tenant's rows are found by index whatever they are, and
/// planning for each call is what is to be saved.
fn function(schema: &str, name: &str, signature: &str, body: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION {schema}.{name}{signature} LANGUAGE plpgsql
         SET plan_cache_mode = force_generic_plan AS $planned${body}$planned$"
    )
}

/// FNV-1a: short, and known when compiling. Goes on from `hash`.
const fn digest(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut place = 0;
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

/// A function as it is to be.
struct Definition {
    /// What it takes and answers, as the catalogue words it; none for a routine, whose name says it.
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

/// Has Postgres say what a statement takes and answers. Of a routine it is written down.
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
    let made = function(SCHEMA, name, &definition.signature, &definition.body);
    Ok(transaction.batch_execute(&format!("DROP FUNCTION IF EXISTS {SCHEMA}.{name}; {made}")).await?)
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
        assert_eq!(
            planned.call(2),
            format!("SELECT * FROM plans.posts_{:016x}($1, $2)", digest(DIGEST_OF_NOTHING, b"SELECT 1"))
        );
        assert!(planned.call(0).ends_with("()"));
    }

    #[test]
    fn a_routine_that_returns_no_table_answers_in_one_column() {
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
