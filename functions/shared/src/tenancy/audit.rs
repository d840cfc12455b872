//! Who did what. Rows are only ever added, by every role, and hold ids and names, never a secret.
//! They are written in the transaction that makes the change, so neither is there without the other.

use serde_json::Value;

use crate::platform::db::{ClientId, Statement};

/// Notes a change within the tenant of the transaction.
pub fn record(user_id: Option<i64>, action: &'static str, details: Value) -> Statement {
    Statement::new(
        "INSERT INTO audit_log (client_id, user_id, action, details)
         SELECT current_client_id(), $1, $2, $3 WHERE current_client_id() IS NOT NULL",
    )
    .bind(user_id)
    .bind(action)
    .bind(details)
}

/// Notes a change where the transaction has no tenant: sign-ins, and what the platform itself does.
pub fn record_for(
    client_id: Option<ClientId>,
    user_id: Option<i64>,
    action: &'static str,
    details: Value,
) -> Statement {
    Statement::new("INSERT INTO audit_log (client_id, user_id, action, details) VALUES ($1, $2, $3, $4)")
        .bind(client_id.map(|client| client.0))
        .bind(user_id)
        .bind(action)
        .bind(details)
}
