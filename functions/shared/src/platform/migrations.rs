//! Migrations: the files of `migrations/`, carried in the binary, applied by the owner of the tables.
//! Two at once would hurt each other, so one waits for the other, by a lock that ends with its transaction.

use std::time::Duration;

use super::{
    db::{self, DbError},
    plans,
    secrets::Secret,
};

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

const PATIENCE: Duration = Duration::from_secs(5);
/// Any number, as long as nothing else locks it.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7241984601)";

/// What can go wrong with a migration.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// Postgres.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A migration that does not apply, files that differ from what was applied before, or a statement that does not suit
    /// the tables.
    #[error("a migration does not apply: {0}")]
    Refused(String),
    /// The server keeps a plan across a change of role, with the rows that the former role may see.
    #[error("Postgres {0} mixes up roles in the plans that it keeps (CVE-2024-10976): use 15.9, 16.5, 17.1 or newer")]
    Unsafe(String),
}

/// Applies what is missing and answers the names of what was applied now, in order.
pub async fn apply(address: &Secret, extra_roots: &str) -> Result<Vec<String>, MigrationError> {
    let guard = db::connect(address, extra_roots, PATIENCE).await?;
    guard.batch_execute("BEGIN").await.map_err(DbError::from)?;
    guard.batch_execute(LOCK).await.map_err(DbError::from)?;
    let mut client = db::connect(address, extra_roots, PATIENCE).await?;
    let settings = "SELECT current_setting('server_version'), current_setting('server_version_num')::int";
    let server = client.query_one(settings, &[]).await.map_err(DbError::from)?;
    if !keeps_roles_apart(server.get(1)) {
        return Err(MigrationError::Unsafe(server.get(0)));
    }
    let report = embedded::migrations::runner()
        .run_async(&mut client)
        .await
        .map_err(|error| MigrationError::Refused(reason(&error)))?;
    plans::keep(&mut client).await?;
    guard.batch_execute("COMMIT").await.map_err(DbError::from)?;
    Ok(report
        .applied_migrations()
        .iter()
        .map(|migration| format!("V{:04}__{}", migration.version(), migration.name()))
        .collect())
}

/// Whether a server of this version, as `server_version_num` has it, plans anew when the role has changed
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
