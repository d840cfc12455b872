//! The audit log: who did what. Every role may only add rows. They contain ids and names, never a secret.
//! A row is stored in the transaction that makes the change, so neither exists without the other.

use serde_json::Value;

use crate::platform::db::{ClientId, Statement};

/// Records a change within the tenant of the transaction.
pub fn record(user_id: Option<i64>, action: &'static str, details: Value) -> Statement {
    Statement::new(
        "INSERT INTO audit_log (client_id, user_id, action, details)
         SELECT current_client_id(), $1, $2, $3 WHERE current_client_id() IS NOT NULL",
    )
    .bind(user_id)
    .bind(action)
    .bind(details)
}

/// Records a change of a transaction without a tenant: a sign-in, or an action of the platform itself.
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
