//! Avito accounts: keys, access tokens and webhooks. An account is known by Avito's own user id, so no second
//! organisation can connect the same one.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::platform::{
    db::{ClientId, DbError, Statement, get},
    secrets::Place,
};

const TABLE: &str = "avito_accounts";

/// Where the keys' secret is sealed.
pub fn secret_place(client: ClientId) -> Place {
    Place { table: TABLE, column: "api_client_secret", client_id: client.0 }
}

/// Where the access token is sealed.
pub fn token_place(client: ClientId) -> Place {
    Place { table: TABLE, column: "access_token", client_id: client.0 }
}

/// Where the webhook's secret is sealed.
pub fn webhook_secret_place(client: ClientId) -> Place {
    Place { table: TABLE, column: "webhook_secret", client_id: client.0 }
}

/// For `Scope::TenantOf`: the account whose webhook carries a secret with this hash. Columns: `client_id`,
/// `avito_account_id`, `user_id`, `bot_id`, `status`.
pub fn tenant_by_webhook_secret(account_id: i64, secret_hash: Vec<u8>) -> Statement {
    Statement::new(
        "SELECT set_config('app.client_id', client_id::text, true), client_id, id AS avito_account_id, user_id, bot_id,
                status
         FROM avito_accounts WHERE id = $1 AND webhook_secret_hash = $2",
    )
    .bind(account_id)
    .bind(secret_hash)
}

/// For `Scope::TenantOf`: the account a task names. Columns: `client_id`, `avito_account_id`.
pub fn tenant_of(account_id: i64) -> Statement {
    Statement::new(
        "SELECT set_config('app.client_id', client_id::text, true), client_id, id AS avito_account_id
         FROM avito_accounts WHERE id = $1",
    )
    .bind(account_id)
}

/// Puts a new access token over the one it replaces. Answers a row only when nobody else was faster.
pub fn store_token(account_id: i64, sealed: Vec<u8>, expires_at: Timestamp, replaces: Option<Vec<u8>>) -> Statement {
    Statement::new(
        "UPDATE avito_accounts SET access_token = $2, token_expires_at = $3
         WHERE id = $1 AND access_token IS NOT DISTINCT FROM $4 RETURNING id",
    )
    .bind(account_id)
    .bind(sealed)
    .bind(expires_at)
    .bind(replaces)
}

/// Notes that Avito refuses the account: `expired` (its keys) or `blocked` (its tariff or rights), and why. Answers a
/// row only when that is news.
pub fn mark_refused(account_id: i64, status: &'static str, reason: impl Into<String>) -> Statement {
    Statement::new(
        "UPDATE avito_accounts SET status = $2, status_reason = $3, status_changed_at = now()
         WHERE id = $1 AND (status <> $2 OR status_reason IS DISTINCT FROM $3) RETURNING id",
    )
    .bind(account_id)
    .bind(status)
    .bind(reason.into())
}

/// Notes that Avito takes the account again. Answers a row only when that is news.
pub fn mark_working(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE avito_accounts SET status = 'active', status_reason = NULL, status_changed_at = now()
         WHERE id = $1 AND status <> 'active' RETURNING id",
    )
    .bind(account_id)
}

/// What is needed to speak to Avito for an account; secrets are sealed.
#[derive(Clone)]
pub struct Keys {
    /// The tenant.
    pub client_id: ClientId,
    /// Our id of the account.
    pub account_id: i64,
    /// Avito's id of the account.
    pub user_id: i64,
    /// The keys' public half.
    pub api_client_id: String,
    /// The keys' secret half.
    pub api_client_secret: Vec<u8>,
    /// The current access token.
    pub access_token: Option<Vec<u8>>,
    /// When that ends.
    pub token_expires_at: Option<Timestamp>,
}

impl Keys {
    /// Reads the columns as the view `account_routes` names them.
    pub fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            client_id: ClientId(get(row, "client_id")?),
            account_id: get(row, "avito_account_id")?,
            user_id: get(row, "user_id")?,
            api_client_id: get(row, "api_client_id")?,
            api_client_secret: get(row, "api_client_secret")?,
            access_token: get(row, "access_token")?,
            token_expires_at: get(row, "token_expires_at")?,
        })
    }
}
