//! Avito accounts: keys and access tokens. An account is identified by Avito's own user id, so no second
//! organisation can connect the same one.

use std::time::Duration;

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Row;
use utoipa::ToSchema;

use super::{account_webhooks, audit, notices};
use crate::{
    App, avito, planned,
    platform::{
        config::var,
        db::{self, ClientId, DbError, Scope, Statement, get},
        http::{Problem, text},
        page::{Page, Wanted},
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

/// Finds the account that a task names, for `Scope::TenantOf`. Columns: `client_id`, `avito_account_id`.
pub fn find_tenant_of_account(account_id: i64) -> Statement {
    planned!(
        "SELECT set_config('app.client_id', client_id::text, true), client_id, id AS avito_account_id
         FROM avito_accounts WHERE id = $1",
    )
    .bind(account_id)
}

/// Replaces an access token by a new one. Returns a row only if no other worker replaced it first.
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

/// Notes that Avito refuses the account, and the reason: `expired` (its keys) or `blocked` (its tariff or rights). If
/// the account worked before, its owners are notified. Returns a row only if status or reason changed.
pub fn mark_refused(account_id: i64, status: &'static str, reason: impl Into<String>) -> Statement {
    Statement::new(
        "WITH refused AS (
             UPDATE avito_accounts a SET status = $2, status_reason = $3, status_changed_at = now()
             FROM (SELECT id, status FROM avito_accounts WHERE id = $1) AS former
             WHERE a.id = former.id AND (a.status <> $2 OR a.status_reason IS DISTINCT FROM $3)
             RETURNING a.id, a.client_id, a.name, former.status
         ), notice AS (
             INSERT INTO owner_notices (client_id, text)
             SELECT client_id, format($4, name, $3) FROM refused WHERE status = 'active'
         )
         SELECT id FROM refused",
    )
    .bind(account_id)
    .bind(status)
    .bind(reason.into())
    .bind(notices::ACCOUNT_REFUSED)
}

/// Notes that Avito accepts the account again. Returns a row only if the status changed.
pub fn mark_working(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE avito_accounts SET status = 'active', status_reason = NULL, status_changed_at = now()
         WHERE id = $1 AND status <> 'active' RETURNING id",
    )
    .bind(account_id)
}

/// The keys of an account `a`, a row of the view `tenancy_accounts`, as the JSON of [`Keys`].
macro_rules! keys {
    () => {
        "json_build_object('client_id', a.client_id, 'account_id', a.avito_account_id, 'user_id', a.user_id,
                           'api_client_id', a.api_client_id, 'api_client_secret', a.api_client_secret,
                           'access_token', a.access_token, 'token_expires_at', a.token_expires_at)"
    };
}
pub(crate) use keys;

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

/// An Avito account as the API shows it; its secret never comes back out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AvitoAccount {
    /// Our id of the account.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Avito's id of the account.
    pub user_id: i64,
    /// The public half of its keys.
    pub api_client_id: String,
    /// The bot in whose group its dialogs are shown.
    pub bot_id: i64,
    /// Whether its chats are followed.
    pub monitoring_enabled: bool,
    /// `active`, `expired` when Avito does not take its keys, `blocked` when it may not use the messenger.
    pub status: String,
    /// Why it is not active.
    pub status_reason: Option<String>,
    /// When Avito was told where to send messages.
    pub webhook_registered_at: Option<Timestamp>,
    /// Why Avito does not send messages by itself; they are then fetched every half a minute.
    pub webhook_error: Option<String>,
    /// When it was connected.
    pub created_at: Timestamp,
}

impl AvitoAccount {
    pub(super) fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            id: get(row, "id")?,
            name: get(row, "name")?,
            user_id: get(row, "user_id")?,
            api_client_id: get(row, "api_client_id")?,
            bot_id: get(row, "bot_id")?,
            monitoring_enabled: get(row, "monitoring_enabled")?,
            status: get(row, "status")?,
            status_reason: get(row, "status_reason")?,
            webhook_registered_at: get(row, "webhook_registered_at")?,
            webhook_error: get(row, "webhook_error")?,
            created_at: get(row, "created_at")?,
        })
    }
}

/// A page of the organisation's Avito accounts.
pub async fn list(app: &App, client: ClientId, wanted: Wanted) -> Result<Page<AvitoAccount>, DbError> {
    let statement = Statement::new(
        "SELECT id, name, user_id, api_client_id, bot_id, monitoring_enabled, status, status_reason,
                webhook_registered_at, webhook_error, created_at
         FROM avito_accounts WHERE id < $1 ORDER BY id DESC LIMIT $2",
    );
    let rows = app.db().query(Scope::Tenant(client), statement.bind(wanted.before).bind(wanted.rows())).await?;
    let accounts = rows.iter().map(AvitoAccount::read).collect::<Result<Vec<_>, _>>()?;
    Ok(wanted.page(accounts, |account| account.id))
}

/// A reason not to connect an Avito account.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Avito does not accept the keys, or they do not give the rights that we need.
    #[error("Avito refuses the keys")]
    Keys,
    /// The account's tariff does not include the messenger's API.
    #[error("the account's tariff does not include the API")]
    Tariff,
    /// It is connected already, here or elsewhere.
    #[error("the account is connected already")]
    Taken,
    /// The organisation has no such bot.
    #[error("there is no such bot")]
    NoSuchBot,
    /// Avito cannot be asked now.
    #[error("Avito could not be asked: {0}")]
    Avito(avito::Error),
    /// Our database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<avito::Error> for ConnectError {
    fn from(error: avito::Error) -> Self {
        match error {
            avito::Error::PaymentRequired { .. } => Self::Tariff,
            error if error.retry_in().is_none() => Self::Keys,
            error => Self::Avito(error),
        }
    }
}

impl From<ConnectError> for Problem {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Keys => Self::invalid_field(
                "api_client_secret",
                "keys_refused",
                text(
                    "Авито не принимает эти ключи. Проверьте Client_id и Client_secret в кабинете Авито.",
                    "Avito does not accept these keys. Check Client_id and Client_secret in your Avito account.",
                ),
            ),
            ConnectError::Tariff => Self::invalid_field(
                "api_client_id",
                "tariff_required",
                text(
                    "Тариф этого аккаунта Авито не даёт доступа к сообщениям через API.",
                    "This Avito account's tariff gives no access to messages by the API.",
                ),
            ),
            ConnectError::Taken => Self::conflict(
                "account_taken",
                text("Этот аккаунт Авито уже подключён.", "This Avito account is connected already."),
            ),
            ConnectError::NoSuchBot => {
                Self::invalid_field("bot_id", "no_such_bot", text("У вас нет такого бота.", "You have no such bot."))
            }
            ConnectError::Avito(error) => {
                tracing::warn!(%error, "Avito could not be asked about an account");
                let detail =
                    text("Авито сейчас не отвечает. Попробуйте позже.", "Avito does not answer now. Try again later.");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "avito_unavailable", detail)
            }
            ConnectError::Db(error) => error.into(),
        }
    }
}

/// The data that a person gives to connect an Avito account.
pub struct NewAccount {
    /// The account's name. `None` or blank: Avito's own name.
    pub name: Option<String>,
    /// The keys' public half.
    pub api_client_id: String,
    /// The keys' secret half.
    pub api_client_secret: Secret,
    /// The bot in whose group its dialogs are shown.
    pub bot_id: i64,
    /// True if its chats are followed.
    pub monitoring_enabled: bool,
}

/// Keys that Avito accepts, with the account that they belong to.
pub struct Checked {
    pub(super) token: avito::Token,
    pub(super) user_id: i64,
    name: String,
}

/// Asks Avito which account the keys belong to.
pub async fn check(app: &App, new: &NewAccount) -> Result<Checked, ConnectError> {
    let token = avito(app).token(&new.api_client_id, &new.api_client_secret).await?;
    let own = avito(app).own_account(&token.access_token).await?.value;
    let mut given = [new.name.clone(), own.name].into_iter().flatten().map(|name| name.trim().to_owned());
    let name = given.find(|name| !name.is_empty()).unwrap_or_else(|| format!("Avito {}", own.id));
    Ok(Checked { token, user_id: own.id, name: name.chars().take(200).collect() })
}

/// An account whose row is stored, with the data that registering its webhook needs.
pub struct Inserted {
    /// The account.
    pub account: AvitoAccount,
    pub(super) token: Secret,
    pub(super) webhook_secret: Secret,
}

/// Stores the account's row. A row whose creation broke off before the webhook was registered is replaced after a
/// minute. The webhook's secret distinguishes a repetition of this transaction from the row of another request.
pub async fn insert(
    app: &App,
    client: ClientId,
    user_id: i64,
    new: NewAccount,
    checked: Checked,
) -> Result<Inserted, ConnectError> {
    let webhook_secret = Secret::random();
    let clear = Statement::new(
        "DELETE FROM avito_accounts WHERE user_id = $1 AND webhook_registered_at IS NULL AND webhook_error IS NULL
           AND created_at < now() - interval '1 minute'",
    );
    let insert = Statement::new(
        "INSERT INTO avito_accounts (client_id, bot_id, name, user_id, api_client_id, api_client_secret, access_token,
                                     token_expires_at, webhook_secret, webhook_secret_hash, monitoring_enabled)
         SELECT current_client_id(), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10
         WHERE NOT EXISTS (SELECT FROM avito_accounts WHERE user_id = $3 AND webhook_secret_hash = $9)",
    );
    let read = Statement::new(
        "SELECT id, name, user_id, api_client_id, bot_id, monitoring_enabled, status, status_reason,
                webhook_registered_at, webhook_error, created_at
         FROM avito_accounts WHERE user_id = $1",
    );
    let details = json!({
        "user_id": checked.user_id, "bot_id": new.bot_id, "api_client_id": new.api_client_id,
        "api_client_secret": "***", "monitoring_enabled": new.monitoring_enabled,
    });
    let keyring = app.keyring();
    let statements = vec![
        clear.bind(checked.user_id),
        insert
            .bind(new.bot_id)
            .bind(checked.name)
            .bind(checked.user_id)
            .bind(new.api_client_id)
            .bind(keyring.seal(&new.api_client_secret, secret_context(client)))
            .bind(keyring.seal(&checked.token.access_token, token_context(client)))
            .bind(end_of(&checked.token))
            .bind(keyring.seal(&webhook_secret, account_webhooks::secret_context(client)))
            .bind(webhook_secret.hash().to_vec())
            .bind(new.monitoring_enabled),
        audit::record(Some(user_id), "avito_account.create", details),
        read.bind(checked.user_id),
    ];
    let results = match app.db().run(Scope::Tenant(client), statements).await {
        Err(error) => {
            return Err(match error.constraint() {
                Some("avito_accounts_client_id_bot_id_fkey") => ConnectError::NoSuchBot,
                Some(_) => ConnectError::Taken, // by the unique key, or by dialogs that still refer to the row
                None => error.into(),
            });
        }
        Ok(results) => results,
    };
    let row = results.last().and_then(|rows| rows.first()).ok_or(DbError::Shape)?;
    Ok(Inserted { account: AvitoAccount::read(row)?, token: checked.token.access_token, webhook_secret })
}
