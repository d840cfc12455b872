//! Keys of Avito accounts and the access tokens that Avito gives for them, and how both are sealed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio_postgres::Row;

use crate::{
    App, avito,
    platform::{
        config::var,
        db::{self, ClientId, DbError, Scope, Statement, get},
        secrets::{SealContext, Secret, SecretsError},
    },
};

const TABLE: &str = "avito_accounts";
/// A token this close to its end is not used any more.
const TOKEN_MARGIN: SignedDuration = SignedDuration::from_secs(60);

/// Returns the context in which the keys' secret is sealed.
pub fn secret_context(client: ClientId) -> SealContext {
    SealContext { table: TABLE, column: "api_client_secret", client_id: client.0 }
}

/// Returns the context in which the access token is sealed.
pub fn token_context(client: ClientId) -> SealContext {
    SealContext { table: TABLE, column: "access_token", client_id: client.0 }
}

/// Replaces an access token by a new one. Returns a row only if no other worker replaced it first.
fn store_token(account_id: i64, sealed: Vec<u8>, expires_at: Timestamp, replaces: Option<Vec<u8>>) -> Statement {
    Statement::new(
        "UPDATE avito_accounts SET access_token = $2, token_expires_at = $3
         WHERE id = $1 AND access_token IS NOT DISTINCT FROM $4 RETURNING id",
    )
    .bind(account_id)
    .bind(sealed)
    .bind(expires_at)
    .bind(replaces)
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

/// A reason why there is no access token. Avito's texts are never printed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Avito does not accept the keys. The text is for the account's owner.
    #[error("Avito refuses the account's keys")]
    Refused(String),
    /// Avito cannot be asked now. The next try may come after this time.
    #[error("Avito cannot be asked for a token now")]
    Unavailable(Duration),
    /// Our database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A stored secret does not open.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

impl From<avito::Error> for TokenError {
    fn from(error: avito::Error) -> Self {
        match error.retry_in() {
            Some(pause) => Self::Unavailable(pause),
            None => Self::Refused(error.vendor_message().map_or_else(|| error.to_string(), str::to_owned)),
        }
    }
}

/// Returns a client of Avito's API.
pub fn avito(app: &App) -> avito::Client {
    let base =
        app.config().text(var::AVITO_API_BASE).parse().expect("the address was checked when the function started");
    avito::Client::new(app.outside().clone(), base)
}

/// Returns an access token for the account: the stored one while it is valid, else a new one.
pub async fn access_token(app: &App, keys: &Keys) -> Result<Secret, TokenError> {
    match stored_token(app, keys)? {
        Some(token) => Ok(token),
        None => renew(app, keys).await,
    }
}

/// Returns an access token in place of one that Avito has just refused. If another worker has renewed it already, that
/// token is used, because a second renewal would end it.
pub async fn renewed_token(app: &App, keys: &Keys, refused: &Secret) -> Result<Secret, TokenError> {
    let keys = read_again(app, keys).await?;
    match stored_token(app, &keys)? {
        Some(token) if token.expose() != refused.expose() => Ok(token),
        _ => renew(app, &keys).await,
    }
}

fn stored_token(app: &App, keys: &Keys) -> Result<Option<Secret>, SecretsError> {
    let lives = keys.token_expires_at.is_some_and(|end| end > Timestamp::now() + TOKEN_MARGIN);
    let sealed = keys.access_token.as_ref().filter(|_| lives);
    sealed.map(|sealed| app.keyring().open(sealed, token_context(keys.client_id))).transpose()
}

async fn renew(app: &App, keys: &Keys) -> Result<Secret, TokenError> {
    let secret = app.keyring().open(&keys.api_client_secret, secret_context(keys.client_id))?;
    let token = avito(app).token(&keys.api_client_id, &secret).await?;
    let sealed = app.keyring().seal(&token.access_token, token_context(keys.client_id));
    let store = store_token(keys.account_id, sealed, end_of(&token), keys.access_token.clone());
    if app.db().query(Scope::Tenant(keys.client_id), store).await?.is_empty() {
        let winner = read_again(app, keys).await?;
        return Ok(stored_token(app, &winner)?.unwrap_or(token.access_token));
    }
    Ok(token.access_token)
}

async fn read_again(app: &App, keys: &Keys) -> Result<Keys, TokenError> {
    let statement = Statement::new(
        "SELECT client_id, id AS avito_account_id, user_id, api_client_id, api_client_secret, access_token,
                token_expires_at
         FROM avito_accounts WHERE id = $1",
    );
    let rows = app.db().query(Scope::Tenant(keys.client_id), statement.bind(keys.account_id)).await?;
    let row = rows.first().ok_or_else(|| TokenError::Refused("the account was removed".to_owned()))?;
    Ok(Keys::read(row)?)
}

pub(super) fn end_of(token: &avito::Token) -> Timestamp {
    Timestamp::now() + SignedDuration::try_from(token.expires_in).unwrap_or_default()
}
