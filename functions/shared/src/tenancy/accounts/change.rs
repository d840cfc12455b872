//! Changes an Avito account: its name, keys, bot or monitoring. New keys are checked with Avito first. They make an
//! account that Avito refused active again.

use super::{
    account::AvitoAccount,
    connection::{self, ConnectError, NewAccount},
    keys, tokens,
    webhooks::{self, WebhookChoice},
};
use crate::{
    App,
    platform::{
        db::{ClientId, DbError, ResultSets, Scope, Statement, get},
        http::{Problem, text},
        secrets::{Secret, SecretsError},
    },
};
use jiff::Timestamp;

/// A requested change of an account. `None`: the field stays as it is.
#[derive(Default)]
pub struct Change {
    /// The account's name.
    pub name: Option<String>,
    /// The keys' public half.
    pub api_client_id: Option<String>,
    /// The keys' secret half.
    pub api_client_secret: Option<Secret>,
    /// The bot in whose group its dialogs are shown.
    pub bot_id: Option<i64>,
    /// True if its chats are followed.
    pub monitoring_enabled: Option<bool>,
    /// Order about the webhook, where another product is or was.
    pub webhook: Option<WebhookChoice>,
}

/// The consequences of a change for the account's dialogs and polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// True if another bot shows its dialogs from now on.
    pub moves: bool,
    /// True if the account may work again: it has new keys, or monitoring was switched on.
    pub resumes: bool,
    /// The change of monitoring. `None`: it stays as it was.
    pub monitoring: Option<Switch>,
}

/// A switch that is set to its other position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// From off to on.
    On,
    /// From on to off.
    Off,
}

/// A reason not to change an account.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The organisation has no such account.
    #[error("there is no such account")]
    NoSuchAccount,
    /// The keys are those of another account.
    #[error("the keys are another account's")]
    AnotherAccount,
    /// Avito refuses the account, so its webhook cannot be taken.
    #[error("Avito refuses the account")]
    AccountRefused,
    /// Avito does not accept the keys, or the organisation has no such bot.
    #[error(transparent)]
    Check(#[from] ConnectError),
    /// A stored secret does not open.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// Our database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NoSuchAccount => Self::not_found(),
            ChangeError::AnotherAccount => Self::conflict(
                "another_account",
                text(
                    "Это ключи другого аккаунта Авито. Подключите его отдельно.",
                    "These are another Avito account's keys. Connect that account by itself.",
                ),
            ),
            ChangeError::AccountRefused => Self::conflict(
                "account_refused",
                text(
                    "Авито не пускает этот аккаунт. Сначала проверьте его ключи и тариф.",
                    "Avito refuses this account. Check its keys and its tariff first.",
                ),
            ),
            ChangeError::Check(error) => error.into(),
            ChangeError::Secrets(error) => {
                tracing::error!(%error, "an account's secret does not open");
                Self::internal()
            }
            ChangeError::Db(error) => error.into(),
        }
    }
}

const READ: &str = "
    SELECT id, name, user_id, api_client_id, bot_id, monitoring_enabled, status, status_reason, webhook_registered_at,
           webhook_state, webhook_others, webhook_replaced, webhook_checked_at, webhook_error, created_at, api_client_secret
    FROM avito_accounts WHERE id = $1";

/// The parameters of `update_account`. None: the column stays as it is.
struct UpdateAccount {
    account_id: i64,
    name: Option<String>,
    bot_id: Option<i64>,
    monitoring_enabled: Option<bool>,
    api_client_id: Option<String>,
    api_client_secret: Option<Vec<u8>>,
    access_token: Option<Vec<u8>>,
    token_expires_at: Option<Timestamp>,
    webhook_choice: Option<&'static str>,
    user_id: i64,
}

impl UpdateAccount {
    fn statement(self) -> Statement {
        let Self {
            account_id,
            name,
            bot_id,
            monitoring_enabled,
            api_client_id,
            api_client_secret,
            access_token,
            token_expires_at,
            webhook_choice,
            user_id,
        } = self;
        Statement::call("update_account")
            .arg("account_id", account_id)
            .arg("name", name)
            .arg("bot_id", bot_id)
            .arg("monitoring_enabled", monitoring_enabled)
            .arg("api_client_id", api_client_id)
            .arg("api_client_secret", api_client_secret)
            .arg("access_token", access_token)
            .arg("token_expires_at", token_expires_at)
            .arg("webhook_choice", webhook_choice)
            .arg("user_id", user_id)
    }
}

/// Changes an account. `around` returns other domains' statements, to run before and after the update in its
/// transaction.
pub async fn change(
    app: &App,
    client: ClientId,
    user_id: i64,
    account_id: i64,
    change: Change,
    around: impl Fn(Meaning) -> (Vec<Statement>, Vec<Statement>),
) -> Result<(AvitoAccount, ResultSets, Meaning), ChangeError> {
    let rows = app.db().query(Scope::Tenant(client), Statement::new(READ).bind(account_id)).await?;
    let row = rows.first().ok_or(ChangeError::NoSuchAccount)?;
    let former = AvitoAccount::read(row)?;
    let open = |column: &'static str, context| -> Result<Secret, ChangeError> {
        Ok(app.keyring().open(get(row, column)?, context)?)
    };
    let keys = if change.api_client_id.is_some() || change.api_client_secret.is_some() {
        let secret = match &change.api_client_secret {
            Some(secret) => secret.clone(),
            None => open("api_client_secret", keys::secret_context(client))?,
        };
        let new = NewAccount {
            name: None,
            api_client_id: change.api_client_id.clone().unwrap_or_else(|| former.api_client_id.clone()),
            api_client_secret: secret,
            bot_id: former.bot_id,
            monitoring_enabled: former.monitoring_enabled,
            webhook: None,
        };
        let checked = connection::check(app, &new).await?;
        if checked.user_id != former.user_id {
            return Err(ChangeError::AnotherAccount);
        }
        Some((new, checked))
    } else {
        None
    };
    if change.webhook == Some(WebhookChoice::Take) && keys.is_none() && !former.status.is_active() {
        return Err(ChangeError::AccountRefused);
    }
    let monitoring = match change.monitoring_enabled {
        Some(true) if !former.monitoring_enabled => Some(Switch::On),
        Some(false) if former.monitoring_enabled => Some(Switch::Off),
        Some(_) | None => None,
    };
    let meaning = Meaning {
        moves: change.bot_id.is_some_and(|bot_id| bot_id != former.bot_id),
        resumes: keys.is_some() || monitoring == Some(Switch::On),
        monitoring,
    };
    let concerns_webhook = keys.is_some() || monitoring.is_some() || change.webhook.is_some();
    let keyring = app.keyring();
    let (mut statements, after) = around(meaning);
    let (new, token) = keys.as_ref().map(|(new, checked)| (new, &checked.token)).unzip();
    let update = UpdateAccount {
        account_id,
        name: change.name,
        bot_id: change.bot_id,
        monitoring_enabled: change.monitoring_enabled,
        api_client_id: new.map(|new| new.api_client_id.clone()),
        api_client_secret: new.map(|new| keyring.seal(&new.api_client_secret, keys::secret_context(client))),
        access_token: token.map(|token| keyring.seal(&token.access_token, keys::token_context(client))),
        token_expires_at: token.map(tokens::end_of),
        webhook_choice: change.webhook.map(<&'static str>::from),
        user_id,
    };
    statements.push(update.statement());
    statements.extend(after);
    statements.push(Statement::new(READ).bind(account_id));
    let results = app.db().run(Scope::Tenant(client), statements).await.map_err(|error| match error.constraint() {
        Some("avito_accounts_client_id_bot_id_fkey") => ConnectError::NoSuchBot.into(),
        _ => ChangeError::Db(error),
    })?;
    let row = results.last().and_then(|rows| rows.first()).ok_or(ChangeError::NoSuchAccount)?;
    let account = AvitoAccount::read(row)?;
    let account = if concerns_webhook { webhooks::settle(app, client, account.id).await? } else { account };
    Ok((account, results, meaning))
}
