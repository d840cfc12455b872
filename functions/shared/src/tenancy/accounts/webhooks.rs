//! The webhook of an Avito account: the address to which Avito sends its messages. It is registered when the account is
//! connected, and checked once a day. It gets another secret, and so another address, every month. While Avito may
//! still use the former address, both are accepted, so that a change loses no message.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tokio_postgres::Row;

use super::{
    account::{self, AvitoAccount},
    keys::Keys,
    tokens::{self, TokenError},
};
use crate::{
    App, avito,
    platform::{
        config::var,
        db::{ClientId, DbError, Scope, Statement, get},
        secrets::{SealContext, Secret, SecretsError},
    },
};

/// The most accounts that one round checks.
const CHECK_BATCH: i64 = 500;
/// The most accounts that are checked at the same time.
const MAX_CONCURRENT_CHECKS: usize = 8;

/// Returns the context in which a webhook's secret is sealed.
pub(super) fn secret_context(client: ClientId) -> SealContext {
    SealContext { table: "avito_accounts", column: "webhook_secret", client_id: client.0 }
}

/// Finds the account whose webhook has a secret with this hash, or had it before the last change, for
/// `Scope::TenantOf`. Columns: `client_id`, `avito_account_id`, `user_id`, `bot_id`, `status`.
pub fn find_tenant_by_secret(account_id: i64, secret_hash: Vec<u8>) -> Statement {
    Statement::call("find_tenant_by_account_secret").arg("account_id", account_id).arg("secret_hash", secret_hash)
}

/// An account whose row is stored, with the data that registering its webhook needs.
pub struct Inserted {
    /// The account.
    pub account: AvitoAccount,
    pub(super) token: Secret,
    pub(super) webhook_secret: Secret,
}

/// Registers an account's webhook with Avito. If Avito refuses it, the account stays: polls bring its messages.
pub async fn register(app: &App, client: ClientId, inserted: Inserted) -> Result<AvitoAccount, DbError> {
    let Inserted { account, token, webhook_secret } = inserted;
    let problem = match tokens::avito(app).register_webhook(&token, &address(app, account.id, &webhook_secret)).await {
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, avito_account_id = account.id, "Avito did not register a webhook");
            Some(error.vendor_message().map_or_else(|| error.to_string(), str::to_owned))
        }
    };
    let rows = app.db().query(Scope::Tenant(client), store_registration(account.id, problem)).await?;
    rows.first().map_or(Err(DbError::Shape), AvitoAccount::read)
}

fn store_registration(account_id: i64, problem: Option<String>) -> Statement {
    Statement::new(
        "UPDATE avito_accounts
         SET webhook_error = $2, webhook_registered_at = CASE WHEN $2 IS NULL THEN now() ELSE webhook_registered_at END
         WHERE id = $1
         RETURNING id, name, user_id, api_client_id, bot_id, monitoring_enabled, status, status_reason,
                   webhook_registered_at, webhook_error, created_at",
    )
    .bind(account_id)
    .bind(problem)
}

fn address(app: &App, account_id: i64, secret: &Secret) -> String {
    let base = app.config().text(var::PUBLIC_BASE_URL).trim_end_matches('/');
    format!("{base}/api/webhooks/avito/messages/{account_id}/{}", secret.expose())
}

/// A reason why a webhook was not checked.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Avito(#[from] avito::Error),
}

/// Checks the webhooks that are due, until `stop`. Each account has its own time of the day. Returns how many were
/// checked.
pub async fn check(app: &App, stop: Instant) -> Result<usize, DbError> {
    let due = Statement::new(
        "SELECT a.id FROM avito_accounts a JOIN clients c ON c.id = a.client_id
         WHERE a.webhook_check_at <= now() AND a.monitoring_enabled AND a.status = 'active' AND c.suspended_at IS NULL
         ORDER BY a.webhook_check_at LIMIT $1",
    );
    let rows = app.db().query(Scope::Service, due.bind(CHECK_BATCH)).await?;
    let ids: Vec<i64> = rows.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?;
    let checked = stream::iter(ids).map(|account_id| async move {
        if Instant::now() >= stop {
            return 0;
        }
        match check_account(app, account_id).await {
            Ok(()) => 1,
            Err(error) => {
                tracing::warn!(account_id, %error, "a webhook was not checked; the next try is in an hour");
                0
            }
        }
    });
    Ok(checked.buffer_unordered(MAX_CONCURRENT_CHECKS).fold(0, async |sum, one| sum + one).await)
}

/// An account whose webhook is being checked.
struct Checked {
    keys: Keys,
    secret: Secret,
    former: Option<Secret>,
}

impl Checked {
    fn read(app: &App, row: &Row) -> Result<Self, CheckError> {
        let keys = Keys::read(row)?;
        let open = |sealed: Vec<u8>| app.keyring().open(&sealed, secret_context(keys.client_id));
        let secret = open(get(row, "webhook_secret")?)?;
        let former = get::<Option<Vec<u8>>>(row, "former_webhook_secret")?.map(open).transpose()?;
        Ok(Self { keys, secret, former })
    }
}

/// Checks that Avito knows our address, and registers it again if not. Once Avito knows it, the former address is
/// unsubscribed; webhooks to it are accepted until then. After an interruption the account is checked again in an hour.
async fn check_account(app: &App, account_id: i64) -> Result<(), CheckError> {
    let Some(account) = claim(app, account_id).await? else { return Ok(()) };
    let scope = || Scope::Tenant(account.keys.client_id);
    let token = tokens::access_token(app, &account.keys).await?;
    let (token, known) = match tokens::avito(app).subscriptions(&token).await {
        Err(error @ avito::Error::Unauthorized { .. }) => {
            let Some(token) = tokens::renewed_token(app, &account.keys, &token).await? else {
                return Err(error.into());
            };
            let known = tokens::avito(app).subscriptions(&token).await?.value;
            (token, known)
        }
        known => (token, known?.value),
    };
    let is_known = |url: &str| known.iter().any(|subscription| subscription.url == url);
    let url = address(app, account_id, &account.secret);
    if !is_known(&url) {
        let problem = match tokens::avito(app).register_webhook(&token, &url).await {
            Ok(_) => None,
            Err(error) if error.retry_in().is_some() => return Err(error.into()),
            Err(error) => Some(error.vendor_message().map_or_else(|| error.to_string(), str::to_owned)),
        };
        metrics::counter!("webhooks_registered_again").increment(1);
        app.db().run(scope(), vec![store_registration(account_id, problem), schedule_next_check(account_id)]).await?;
        return Ok(());
    }
    if let Some(former) = &account.former {
        let former = address(app, account_id, former);
        if is_known(&former) {
            tokens::avito(app).unsubscribe_webhook(&token, &former).await?;
        }
        app.db().query(scope(), forget_former(account_id, account.secret.hash().to_vec())).await?;
    }
    let found = Statement::new(
        "UPDATE avito_accounts SET webhook_error = NULL WHERE id = $1 AND webhook_registered_at IS NOT NULL",
    );
    app.db().run(scope(), vec![found.bind(account_id), schedule_next_check(account_id)]).await?;
    Ok(())
}

/// Claims an account that is due, for an hour. If its secret is a month old, it gets another one, which is stored
/// before Avito gets it. A secret is replaced only once the secret before it is no longer accepted. `None`: another
/// worker was faster, or the secret changed meanwhile.
async fn claim(app: &App, account_id: i64) -> Result<Option<Checked>, CheckError> {
    let find = Scope::TenantOf(account::find_tenant_of_account(account_id));
    let statement = Statement::new(
        "UPDATE avito_accounts SET webhook_check_at = now() + interval '1 hour'
         WHERE id = $1 AND webhook_check_at <= now()
         RETURNING client_id, id AS avito_account_id, user_id, api_client_id, api_client_secret, access_token,
                   token_expires_at, webhook_secret, former_webhook_secret,
                   former_webhook_secret IS NULL AND webhook_secret_since < now() - interval '30 days' AS is_old",
    );
    let results = app.db().run(find, vec![statement.bind(account_id)]).await?;
    let Some(row) = results.last().and_then(|rows| rows.first()) else { return Ok(None) };
    let account = Checked::read(app, row)?;
    if !get::<bool>(row, "is_old")? {
        return Ok(Some(account));
    }
    let client = account.keys.client_id;
    let (secret, former) = (Secret::random(), account.secret);
    let renew = Statement::new(
        "UPDATE avito_accounts
         SET former_webhook_secret = webhook_secret, former_webhook_secret_hash = webhook_secret_hash,
             webhook_secret = $2, webhook_secret_hash = $3, webhook_secret_since = now()
         WHERE id = $1 AND webhook_secret_hash = $4
         RETURNING id",
    );
    let renew = renew
        .bind(account_id)
        .bind(app.keyring().seal(&secret, secret_context(client)))
        .bind(secret.hash().to_vec())
        .bind(former.hash().to_vec());
    if app.db().query(Scope::Tenant(client), renew).await?.is_empty() {
        return Ok(None); // another transaction changed the secret meanwhile
    }
    Ok(Some(Checked { secret, former: Some(former), keys: account.keys }))
}

fn schedule_next_check(account_id: i64) -> Statement {
    Statement::new("UPDATE avito_accounts SET webhook_check_at = now() + interval '1 day' WHERE id = $1")
        .bind(account_id)
}

fn forget_former(account_id: i64, secret_hash: Vec<u8>) -> Statement {
    Statement::new(
        "UPDATE avito_accounts SET former_webhook_secret = NULL, former_webhook_secret_hash = NULL
         WHERE id = $1 AND webhook_secret_hash = $2",
    )
    .bind(account_id)
    .bind(secret_hash)
}

/// The time that a round may take.
pub const MAX_CHECK_DURATION: Duration = Duration::from_secs(40);
