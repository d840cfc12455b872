//! Changes an Avito account: its name, keys, bot or monitoring. New keys are checked with Avito first. They make an
//! account that Avito refused active again.

use super::{
    account::AvitoAccount,
    connection::{self, ConnectError, NewAccount},
    keys,
    webhooks::{self, Inserted},
};
use crate::{
    App,
    platform::{
        db::{ClientId, DbError, ResultSets, Scope, Statement, get},
        http::{Problem, text},
        secrets::{Secret, SecretsError},
    },
};

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
}

/// The consequences of a change for the account's dialogs and polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// True if another bot shows its dialogs from now on.
    pub moves: bool,
    /// True if the account may work again: it has new keys, or monitoring was switched on.
    pub resumes: bool,
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
           webhook_error, created_at, api_client_secret, webhook_secret
    FROM avito_accounts WHERE id = $1";

/// Updates the account and records the changed fields. A transaction that is sent twice records them once.
const UPDATE: &str = "
    WITH former AS (
        SELECT * FROM avito_accounts WHERE id = $1 FOR NO KEY UPDATE
    ), changed AS (
        UPDATE avito_accounts a
        SET name = coalesce($2, a.name), bot_id = coalesce($3, a.bot_id),
            monitoring_enabled = coalesce($4, a.monitoring_enabled), api_client_id = coalesce($5, a.api_client_id),
            api_client_secret = coalesce($6, a.api_client_secret), access_token = coalesce($7, a.access_token),
            token_expires_at = coalesce($8, a.token_expires_at),
            status = CASE WHEN $6 IS NULL THEN a.status ELSE 'active' END,
            status_reason = CASE WHEN $6 IS NULL THEN a.status_reason END,
            status_changed_at = CASE WHEN $6 IS NULL OR a.status = 'active' THEN a.status_changed_at ELSE now() END
        FROM former WHERE a.id = former.id
        RETURNING a.*
    ), fields AS (
        SELECT field.key, jsonb_build_object('before', field.value, 'after', now.value) AS change
        FROM former, changed,
             jsonb_each(jsonb_build_object('name', former.name, 'bot_id', former.bot_id, 'status', former.status,
                                           'monitoring_enabled', former.monitoring_enabled,
                                           'api_client_id', former.api_client_id)) AS field
             JOIN LATERAL jsonb_each(jsonb_build_object('name', changed.name, 'bot_id', changed.bot_id,
                                                        'status', changed.status,
                                                        'monitoring_enabled', changed.monitoring_enabled,
                                                        'api_client_id', changed.api_client_id)) AS now
             ON now.key = field.key
        WHERE now.value IS DISTINCT FROM field.value
        UNION ALL
        SELECT 'api_client_secret', to_jsonb('***'::text) FROM former, changed
        WHERE former.api_client_secret <> changed.api_client_secret
    )
    INSERT INTO audit_log (client_id, user_id, action, details)
    SELECT current_client_id(), $9, 'avito_account.update',
           jsonb_build_object('avito_account_id', $1) || jsonb_object_agg(key, change)
    FROM fields HAVING count(*) > 0";

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
        };
        let checked = connection::check(app, &new).await?;
        if checked.user_id != former.user_id {
            return Err(ChangeError::AnotherAccount);
        }
        Some((new, checked))
    } else {
        None
    };
    let meaning = Meaning {
        moves: change.bot_id.is_some_and(|bot_id| bot_id != former.bot_id),
        resumes: keys.is_some() || (change.monitoring_enabled == Some(true) && !former.monitoring_enabled),
    };
    let keyring = app.keyring();
    let (mut statements, after) = around(meaning);
    statements.push(
        Statement::new(UPDATE)
            .bind(account_id)
            .bind(change.name)
            .bind(change.bot_id)
            .bind(change.monitoring_enabled)
            .bind(keys.as_ref().map(|(new, _)| new.api_client_id.clone()))
            .bind(keys.as_ref().map(|(new, _)| keyring.seal(&new.api_client_secret, keys::secret_context(client))))
            .bind(
                keys.as_ref()
                    .map(|(_, checked)| keyring.seal(&checked.token.access_token, keys::token_context(client))),
            )
            .bind(keys.as_ref().map(|(_, checked)| keys::end_of(&checked.token)))
            .bind(user_id),
    );
    statements.extend(after);
    statements.push(Statement::new(READ).bind(account_id));
    let results = app.db().run(Scope::Tenant(client), statements).await.map_err(|error| match error.constraint() {
        Some("avito_accounts_client_id_bot_id_fkey") => ConnectError::NoSuchBot.into(),
        _ => ChangeError::Db(error),
    })?;
    let row = results.last().and_then(|rows| rows.first()).ok_or(ChangeError::NoSuchAccount)?;
    let account = AvitoAccount::read(row)?;
    let Some((_, checked)) = keys else { return Ok((account, results, meaning)) };
    let webhook_secret = open("webhook_secret", webhooks::secret_context(client))?;
    let inserted = Inserted { account, token: checked.token.access_token, webhook_secret };
    Ok((webhooks::register(app, client, inserted).await?, results, meaning))
}
