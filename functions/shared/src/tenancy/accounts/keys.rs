//! Keys of Avito accounts, with the access token that Avito gave for them, and the contexts in which both are sealed.

use jiff::Timestamp;
use serde::Deserialize;
use tokio_postgres::Row;

use crate::platform::{
    db::{self, ClientId, DbError, get},
    secrets::SealContext,
};

const TABLE: &str = "avito_accounts";

/// Returns the context in which the keys' secret is sealed.
pub fn secret_context(client: ClientId) -> SealContext {
    SealContext { table: TABLE, column: "api_client_secret", client_id: client.0 }
}

/// Returns the context in which the access token is sealed.
pub fn token_context(client: ClientId) -> SealContext {
    SealContext { table: TABLE, column: "access_token", client_id: client.0 }
}

/// The data for calling Avito for an account. Its secrets are sealed.
#[derive(Clone, Deserialize)]
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
    #[serde(deserialize_with = "db::bytes")]
    pub api_client_secret: Vec<u8>,
    /// The current access token.
    #[serde(deserialize_with = "db::optional_bytes")]
    pub access_token: Option<Vec<u8>>,
    /// The time at which the access token ends.
    pub token_expires_at: Option<Timestamp>,
}

impl Keys {
    /// Reads the columns as the view `tenancy_accounts` names them.
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
