//! The row of an Avito account: the account as the API shows it, and the statements that find or mark it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Row, types::Json};
use utoipa::ToSchema;

use super::webhooks::state::{WebhookState, variant};
use crate::{
    App,
    platform::{
        db::{ClientId, DbError, Scope, Statement, get, get_variant},
        page::{Page, Wanted},
    },
    tenancy::notices,
};

/// The status of an account, as in `avito_accounts.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AccountStatus {
    /// Avito accepts it.
    Active,
    /// Avito refuses its keys.
    Expired,
    /// Avito refuses its tariff or its rights.
    Blocked,
}

impl AccountStatus {
    /// The name in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// True if Avito accepts the account.
    pub fn is_active(self) -> bool {
        match self {
            Self::Active => true,
            Self::Expired | Self::Blocked => false,
        }
    }
}

/// Finds the account that a task names, for `Scope::TenantOf`. Columns: `client_id`, `avito_account_id`.
pub fn find_tenant_of_account(account_id: i64) -> Statement {
    Statement::call("find_tenant_of_account").arg("account_id", account_id)
}

/// Notes that Avito refuses the account, with its new status and the reason. If the account worked before, its owners
/// are notified. Returns a row only if status or reason changed.
pub fn mark_refused(account_id: i64, status: AccountStatus, reason: impl Into<String>) -> Statement {
    Statement::new(
        "WITH refused AS (
             UPDATE avito_accounts a SET status = $2, status_reason = $3, status_changed_at = now()
             FROM (SELECT id, status FROM avito_accounts WHERE id = $1) AS former
             WHERE a.id = former.id AND (a.status <> $2 OR a.status_reason IS DISTINCT FROM $3)
             RETURNING a.id, a.client_id, a.name, former.status
         ), notice AS (
             INSERT INTO owner_notices (client_id, text, dedup_key)
             SELECT client_id, format($4, name, $3), format('account:%s:%s:%s', id, $3, current_date)
             FROM refused WHERE status = 'active'
             ON CONFLICT (client_id, dedup_key) DO NOTHING
         )
         SELECT id FROM refused",
    )
    .bind(account_id)
    .bind(status.as_str())
    .bind(reason.into())
    .bind(notices::ACCOUNT_REFUSED)
}

/// Notifies the owners that an account has not been read since then, once.
pub fn notify_not_read(account_id: i64, failed_since: Timestamp) -> Statement {
    Statement::new(
        "INSERT INTO owner_notices (client_id, text, dedup_key)
         SELECT client_id, format($3, name), format('not_read:%s:%s', id, extract(epoch FROM $2::timestamptz)::bigint)
         FROM avito_accounts WHERE id = $1
         ON CONFLICT (client_id, dedup_key) DO NOTHING",
    )
    .bind(account_id)
    .bind(failed_since)
    .bind(notices::ACCOUNT_NOT_READ)
}

/// Notifies the owners that not all changed chats of an account were read, once a day: Avito lists no more of them.
pub fn notify_chats_skipped(account_id: i64) -> Statement {
    Statement::new(
        "INSERT INTO owner_notices (client_id, text, dedup_key)
         SELECT client_id, format($2, name), format('chats_skipped:%s:%s', id, current_date) FROM avito_accounts WHERE id = $1
         ON CONFLICT (client_id, dedup_key) DO NOTHING",
    )
    .bind(account_id)
    .bind(notices::CHATS_SKIPPED)
}

/// Notes that Avito accepts the account again. Returns a row only if the status changed.
pub fn mark_working(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE avito_accounts SET status = 'active', status_reason = NULL, status_changed_at = now()
         WHERE id = $1 AND status <> 'active' RETURNING id",
    )
    .bind(account_id)
}

/// A product that got the account's messages before us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplacedHost {
    /// The host of its address.
    pub host: String,
    /// When our address took its place.
    pub at: Timestamp,
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
    #[schema(value_type = String)]
    pub status: AccountStatus,
    /// Why it is not active.
    pub status_reason: Option<String>,
    /// When Avito was told where to send messages.
    pub webhook_registered_at: Option<Timestamp>,
    /// To whom Avito sends messages by itself; unless to us, they are fetched every half a minute. Empty until Avito was
    /// asked.
    pub webhook_state: Option<WebhookState>,
    /// The hosts of other products to which Avito sends the account's messages.
    pub webhook_others: Vec<String>,
    /// The hosts of other products whose place we took.
    pub webhook_replaced: Vec<ReplacedHost>,
    /// When Avito last said to whom it sends messages.
    pub webhook_checked_at: Option<Timestamp>,
    /// Why Avito could not be asked, or did not take our address.
    pub webhook_error: Option<String>,
    /// When it was connected.
    pub created_at: Timestamp,
}

impl AvitoAccount {
    /// Finds one account, as [`AvitoAccount::read`] needs it.
    pub(super) fn find(account_id: i64) -> Statement {
        Statement::new(
            "SELECT id, name, user_id, api_client_id, bot_id, monitoring_enabled, status, status_reason,
                    webhook_registered_at, webhook_state, webhook_others, webhook_replaced, webhook_checked_at,
                    webhook_error, created_at
             FROM avito_accounts WHERE id = $1",
        )
        .bind(account_id)
    }

    pub(super) fn read(row: &Row) -> Result<Self, DbError> {
        let replaced: Json<Vec<ReplacedHost>> = get(row, "webhook_replaced")?;
        Ok(Self {
            id: get(row, "id")?,
            name: get(row, "name")?,
            user_id: get(row, "user_id")?,
            api_client_id: get(row, "api_client_id")?,
            bot_id: get(row, "bot_id")?,
            monitoring_enabled: get(row, "monitoring_enabled")?,
            status: get_variant(row, "status")?,
            status_reason: get(row, "status_reason")?,
            webhook_registered_at: get(row, "webhook_registered_at")?,
            webhook_state: variant(row, "webhook_state")?,
            webhook_others: get(row, "webhook_others")?,
            webhook_replaced: replaced.0,
            webhook_checked_at: get(row, "webhook_checked_at")?,
            webhook_error: get(row, "webhook_error")?,
            created_at: get(row, "created_at")?,
        })
    }
}

/// A page of the organisation's Avito accounts.
pub async fn list(app: &App, client: ClientId, wanted: Wanted) -> Result<Page<AvitoAccount>, DbError> {
    let statement = Statement::new(
        "SELECT id, name, user_id, api_client_id, bot_id, monitoring_enabled, status, status_reason,
                webhook_registered_at, webhook_state, webhook_others, webhook_replaced, webhook_checked_at, webhook_error,
                created_at
         FROM avito_accounts WHERE id < $1 ORDER BY id DESC LIMIT $2",
    );
    let rows = app.db().query(Scope::Tenant(client), statement.bind(wanted.before).bind(wanted.rows())).await?;
    let accounts = rows.iter().map(AvitoAccount::read).collect::<Result<Vec<_>, _>>()?;
    Ok(wanted.page(accounts, |account| account.id))
}
