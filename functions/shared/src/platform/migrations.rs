//! Migrations: the files of `migrations/`, carried in the binary, applied by the owner of the tables. Two runs at once
//! would disturb each other, so the second waits for a lock, which ends with the first one's transaction.

use std::time::Duration;

use super::{
    db::{self, DbError, MigrationError},
    secrets::Secret,
};

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Any number, as long as nothing else locks it.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7241984601)";

/// The roles that transactions take.
const ROLES: &str = "tuberry_app, tuberry_identity, tuberry_service";

/// Applies the missing migrations and returns their names, in order.
pub async fn apply(address: &Secret, extra_roots: &str) -> Result<Vec<String>, MigrationError> {
    let guard = db::connect(address, extra_roots, CONNECT_TIMEOUT).await?;
    guard.batch_execute("BEGIN").await.map_err(DbError::from)?;
    guard.batch_execute(LOCK).await.map_err(DbError::from)?;
    let mut client = db::connect(address, extra_roots, CONNECT_TIMEOUT).await?;
    let settings = "SELECT current_setting('server_version'), current_setting('server_version_num')::int";
    let server = client.query_one(settings, &[]).await.map_err(DbError::from)?;
    if !keeps_roles_apart(server.get(1)) {
        return Err(MigrationError::Unsafe(server.get(0)));
    }
    let report = embedded::migrations::runner()
        .run_async(&mut client)
        .await
        .map_err(|error| MigrationError::Refused(reason(&error)))?;
    db::install(&mut client).await?;
    guard.batch_execute("COMMIT").await.map_err(DbError::from)?;
    Ok(report
        .applied_migrations()
        .iter()
        .map(|migration| format!("V{:04}__{}", migration.version(), migration.name()))
        .collect())
}

/// Grants the roles of the tables to `login`, the role that functions log in as. It may be called again.
pub async fn grant_roles(address: &Secret, extra_roots: &str, login: &str) -> Result<(), MigrationError> {
    let client = db::connect(address, extra_roots, CONNECT_TIMEOUT).await?;
    // Two grants of one role at once would disturb each other as well.
    let grant = format!("BEGIN; {LOCK}; GRANT {ROLES} TO {}; COMMIT", quoted(login));
    client.batch_execute(&grant).await.map_err(|error| MigrationError::Login(login.to_owned(), error.into()))
}

/// The name as an identifier of SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// True if a server of this version (`server_version_num`) plans again after a change of role
/// (postgresql.org/support/security/CVE-2024-10976).
fn keeps_roles_apart(version: i32) -> bool {
    match version / 10_000 {
        ..15 => false,
        15 => version >= 150_009,
        16 => version >= 160_005,
        17 => version >= 170_001,
        18.. => true,
    }
}

/// Names the failure without Postgres's detail, which may quote a row.
fn reason(error: &refinery::Error) -> String {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let postgres = cause.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::as_db_error);
        if let Some(refusal) = postgres {
            return format!("{error}: {} ({})", refusal.message(), refusal.code().code());
        }
        source = cause.source();
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_mix_up_roles_are_refused() {
        for version in [140_020, 150_008, 160_004, 170_000] {
            assert!(!keeps_roles_apart(version), "{version}");
        }
        for version in [150_009, 150_018, 160_005, 170_001, 180_000] {
            assert!(keeps_roles_apart(version), "{version}");
        }
    }
}
