//! Connects an Avito account: asks Avito whose the keys are, and stores the row before the webhook is registered. What
//! other domains store for a new account stands in the same transaction: an account that is listed is also polled.

use axum::http::StatusCode;
use serde_json::json;

use super::{
    account::AvitoAccount,
    keys, tokens,
    webhooks::{address::secret_context, state::WebhookChoice},
};
use crate::{
    App, avito,
    platform::{
        db::{ClientId, DbError, Scope, Statement},
        http::{Problem, text},
        secrets::Secret,
    },
    tenancy::audit,
};

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
    /// Order for the case that Avito sends its messages to another product. `None`: a person is asked then.
    pub webhook: Option<WebhookChoice>,
}

/// Keys that Avito accepts, with the account that they belong to.
pub struct Checked {
    pub(super) token: avito::Token,
    pub(super) user_id: i64,
    name: String,
}

/// Asks Avito which account the keys belong to.
pub async fn check(app: &App, new: &NewAccount) -> Result<Checked, ConnectError> {
    let token = tokens::avito(app).token(&new.api_client_id, &new.api_client_secret).await?;
    let own = tokens::avito(app).own_account(&token.access_token).await?.value;
    let mut given = [new.name.clone(), own.name].into_iter().flatten().map(|name| name.trim().to_owned());
    let name = given.find(|name| !name.is_empty()).unwrap_or_else(|| format!("Avito {}", own.id));
    Ok(Checked { token, user_id: own.id, name: name.chars().take(200).collect() })
}

/// Stores the account's row. `after` returns other domains' statements for the account of this Avito id, to run in the
/// same transaction. A row whose creation broke off before Avito was asked for the webhook is replaced after a minute.
/// The webhook's secret distinguishes a repetition of this transaction from the row of another request.
pub async fn insert(
    app: &App,
    client: ClientId,
    user_id: i64,
    new: NewAccount,
    checked: Checked,
    after: impl FnOnce(i64) -> Vec<Statement>,
) -> Result<AvitoAccount, ConnectError> {
    let webhook_secret = Secret::random();
    let clear = Statement::new(
        "DELETE FROM avito_accounts
         WHERE user_id = $1 AND webhook_state IS NULL AND created_at < now() - interval '1 minute'",
    );
    let insert = Statement::new(
        "INSERT INTO avito_accounts (client_id, bot_id, name, user_id, api_client_id, api_client_secret, access_token,
                                     token_expires_at, webhook_secret, webhook_secret_hash, monitoring_enabled, webhook_choice)
         SELECT current_client_id(), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
         WHERE NOT EXISTS (SELECT FROM avito_accounts WHERE user_id = $3 AND webhook_secret_hash = $9)",
    );
    let read = Statement::new(
        "SELECT id, name, user_id, api_client_id, bot_id, monitoring_enabled, status, status_reason,
                webhook_registered_at, webhook_state, webhook_others, webhook_replaced, webhook_checked_at, webhook_error,
                created_at
         FROM avito_accounts WHERE user_id = $1",
    );
    let details = json!({
        "user_id": checked.user_id, "bot_id": new.bot_id, "api_client_id": new.api_client_id,
        "api_client_secret": "***", "monitoring_enabled": new.monitoring_enabled,
    });
    let keyring = app.keyring();
    let mut statements = vec![
        clear.bind(checked.user_id),
        insert
            .bind(new.bot_id)
            .bind(checked.name)
            .bind(checked.user_id)
            .bind(new.api_client_id)
            .bind(keyring.seal(&new.api_client_secret, keys::secret_context(client)))
            .bind(keyring.seal(&checked.token.access_token, keys::token_context(client)))
            .bind(tokens::end_of(&checked.token))
            .bind(keyring.seal(&webhook_secret, secret_context(client)))
            .bind(webhook_secret.hash().to_vec())
            .bind(new.monitoring_enabled)
            .bind(new.webhook.map(<&'static str>::from)),
        audit::record(Some(user_id), "avito_account.create", details),
    ];
    statements.extend(after(checked.user_id));
    statements.push(read.bind(checked.user_id));
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
    Ok(AvitoAccount::read(row)?)
}
