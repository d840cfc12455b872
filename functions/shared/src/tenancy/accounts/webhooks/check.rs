//! Checks webhooks that are due: each once a day, at its account's own time, sooner while something fails. A secret that
//! is a month old is replaced.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use super::{
    address::secret_context,
    settle::{Account, SettleError, settle_account},
    state::{WebhookChoice, WebhookState},
};
use crate::{
    App,
    platform::{
        db::{DbError, Scope, Statement, get},
        secrets::Secret,
    },
    tenancy::accounts::account,
};

/// The most accounts that one round checks.
const CHECK_BATCH: i64 = 500;
/// The most accounts that are checked at the same time.
const MAX_CONCURRENT_CHECKS: usize = 8;
/// The time that a round may take.
pub const MAX_CHECK_DURATION: Duration = Duration::from_secs(40);

/// Checks the webhooks that are due, until `stop`. Each account has its own time of the day. Returns how many were
/// checked.
pub async fn check(app: &App, stop: Instant) -> Result<usize, DbError> {
    let due = Statement::new(
        "SELECT a.id FROM avito_accounts a JOIN clients c ON c.id = a.client_id
         WHERE a.webhook_check_at <= now() AND (a.status = 'active' OR NOT a.monitoring_enabled) AND c.suspended_at IS NULL
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
                tracing::error!(account_id, %error, "a webhook was not checked; the next try is in an hour");
                0
            }
        }
    });
    Ok(checked.buffer_unordered(MAX_CONCURRENT_CHECKS).fold(0, async |sum, one| sum + one).await)
}

/// Makes the check of a webhook due that seems not to report messages any more, at most once an hour.
pub fn make_check_due(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE avito_accounts SET webhook_check_at = now()
         WHERE id = $1 AND webhook_state IN ('registered', 'shared') AND webhook_check_at > now()
           AND webhook_checked_at < now() - interval '1 hour'",
    )
    .bind(account_id)
}

/// Settles the webhook of an account that is due. After an interruption the account is checked again in an hour.
async fn check_account(app: &App, account_id: i64) -> Result<(), SettleError> {
    let Some(account) = claim(app, account_id).await? else { return Ok(()) };
    settle_account(app, &account).await
}

/// Claims an account that is due, for an hour. If its secret is a month old, it gets another one, which is stored
/// before Avito gets it. A secret is replaced only once the secret before it is no longer accepted. `None`: another
/// worker was faster, or the secret changed meanwhile.
async fn claim(app: &App, account_id: i64) -> Result<Option<Account>, SettleError> {
    let find = Scope::TenantOf(account::find_tenant_of_account(account_id));
    let statement = Statement::new(
        "UPDATE avito_accounts SET webhook_check_at = now() + interval '1 hour'
         WHERE id = $1 AND webhook_check_at <= now()
         RETURNING client_id, id AS avito_account_id, user_id, api_client_id, api_client_secret, access_token,
                   token_expires_at, webhook_secret, former_webhook_secret, webhook_state, webhook_choice, webhook_attempts,
                   monitoring_enabled,
                   former_webhook_secret IS NULL AND webhook_secret_since < now() - interval '30 days' AS is_old",
    );
    let results = app.db().run(find, vec![statement.bind(account_id)]).await?;
    let Some(row) = results.last().and_then(|rows| rows.first()) else { return Ok(None) };
    let account = Account::read(app, row)?;
    let is_ours = matches!(account.before.state, Some(WebhookState::Registered | WebhookState::Shared))
        && account.before.is_monitored
        && account.before.choice != Some(WebhookChoice::Leave);
    if !is_ours || !get::<bool>(row, "is_old")? {
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
    Ok(Some(Account { secret, former: Some(former), ..account }))
}
