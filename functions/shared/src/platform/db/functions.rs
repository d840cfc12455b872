//! Stored functions: the SQL of all `.sql` files ([`crate::sql`]), which `migrate` installs. Postgres keeps the plans of a
//! function's statements in each of its sessions, also behind a pooler, where prepared statements do not survive.
//!
//! Two versions of the code may run side by side, so the schema's name is a digest of its text. While a version's schema is
//! missing, its functions are made in `pg_temp` for each transaction: slower, and nothing else.

use std::{borrow::Cow, fmt::Write as _, sync::LazyLock};

use tokio_postgres::{Client, Transaction};

use super::error::{DbError, MigrationError};
use crate::sql;

/// The schema of a session's own functions.
pub(super) const TEMPORARY: &str = "pg_temp";
/// The name by which all texts call the schema.
const ALIAS: &str = "sql.";
/// Days for which the schema of another version stays: its code may still be running, and may come back.
const KEPT_DAYS: i32 = 7;

/// Puts `schema` in the place of `sql.` before a function's name.
pub(super) fn in_schema<'a>(text: &'a str, schema: &str) -> Cow<'a, str> {
    let mut replaced = String::new();
    let mut rest = text;
    let mut before = None;
    while let Some(at) = rest.find(ALIAS) {
        let (head, tail) = rest.split_at(at);
        let previous = head.chars().next_back().or(before);
        let is_name = previous.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.');
        replaced.push_str(head);
        if is_name {
            replaced.push_str(ALIAS);
        } else {
            _ = write!(replaced, "{schema}.");
        }
        rest = &tail[ALIAS.len()..];
        before = Some('.');
    }
    if replaced.is_empty() && rest.len() == text.len() {
        return Cow::Borrowed(text);
    }
    replaced.push_str(rest);
    if replaced == text { Cow::Borrowed(text) } else { Cow::Owned(replaced) }
}

/// The statements that make all functions for one session. The session may hold those of another version of the code, behind
/// a pooler, so it forgets what it has first. Bodies are checked when they run: the role may see no table by itself.
pub(super) fn temporary() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let forget = "SET LOCAL check_function_bodies = off;
            DO $forget$
            DECLARE
                _function regprocedure;
            BEGIN
                FOR _function IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = pg_my_temp_schema() LOOP
                    EXECUTE format('DROP FUNCTION %s CASCADE', _function);
                END LOOP;
            END $forget$;";
        sql::FILES.iter().fold(forget.to_owned(), |text, (_, file)| text + &in_schema(file, TEMPORARY))
    });
    &TEXT
}

/// Installs the functions of this code unless they are there, and drops the schemas that no migrating code has had for a
/// week. For the owner of the tables, on a connection without a pooler. [`MigrationError::Refused`] names the file that
/// Postgres refuses.
pub(in crate::platform) async fn install(client: &mut Client) -> Result<(), MigrationError> {
    let transaction = client.transaction().await.map_err(DbError::from)?;
    let exists = transaction
        .query_one("SELECT to_regnamespace($1::text) IS NOT NULL", &[&sql::SCHEMA])
        .await
        .map_err(DbError::from)?;
    if !exists.get::<_, bool>(0) {
        create(&transaction).await?;
    }
    forget_old(&transaction).await?;
    Ok(transaction.commit().await.map_err(DbError::from)?)
}

async fn create(transaction: &Transaction<'_>) -> Result<(), MigrationError> {
    let schema = sql::SCHEMA;
    let create = format!(
        "CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO tuberry_app, tuberry_identity, tuberry_service"
    );
    transaction.batch_execute(&create).await.map_err(DbError::from)?;
    for (path, text) in sql::FILES {
        transaction.batch_execute(&in_schema(text, schema)).await.map_err(|error| {
            let reason = error.as_db_error().map_or("Postgres cannot be asked", |refusal| refusal.message());
            MigrationError::Refused(format!("{path}: {reason}"))
        })?;
    }
    Ok(())
}

/// Marks the schemas of other versions with the day, in their comments, and drops those whose mark is old.
async fn forget_old(transaction: &Transaction<'_>) -> Result<(), DbError> {
    let rows = transaction
        .query(
            "SELECT nspname::text AS name, obj_description(oid, 'pg_namespace') IS NOT NULL AS is_marked,
                    coalesce(obj_description(oid, 'pg_namespace')::date < current_date - $1::int, false) AS is_old
             FROM pg_namespace WHERE nspname ~ '^sql_[0-9a-f]{8}$'",
            &[&KEPT_DAYS],
        )
        .await?;
    let today: String = transaction.query_one("SELECT current_date::text", &[]).await?.get(0);
    for row in rows {
        let name: String = row.get("name");
        let statement = match (name == sql::SCHEMA, row.get("is_marked"), row.get("is_old")) {
            (true, true, _) => format!("COMMENT ON SCHEMA {name} IS NULL"),
            (false, _, true) => format!("DROP SCHEMA {name} CASCADE"),
            (false, false, _) => format!("COMMENT ON SCHEMA {name} IS '{today}'"),
            (true, false, _) | (false, true, false) => continue,
        };
        transaction.batch_execute(&statement).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alias_is_replaced_where_it_names_the_schema_and_nowhere_else() {
        assert_eq!(in_schema("SELECT sql.one(sql.two(), 1)", "s"), "SELECT s.one(s.two(), 1)");
        assert_eq!(in_schema("sql.one", "s"), "s.one");
        for other in ["SELECT 1", "mysql.one", "a.sql.one", "sqlite"] {
            assert!(matches!(in_schema(other, "s"), Cow::Borrowed(_)), "{other}");
        }
    }

    #[test]
    fn the_schema_is_named_by_its_text() {
        assert!(sql::SCHEMA.starts_with("sql_") && sql::SCHEMA.len() == 12);
        assert!(sql::SCHEMA[4..].chars().all(|c| c.is_ascii_hexdigit()));
    }
}
