//! The row of an Avito account: the account as the API shows it, and the statements that find or mark it.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use utoipa::ToSchema;

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

/// Notes that Avito accepts the account again. Returns a row only if the status changed.
pub fn mark_working(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE avito_accounts SET status = 'active', status_reason = NULL, status_changed_at = now()
         WHERE id = $1 AND status <> 'active' RETURNING id",
    )
    .bind(account_id)
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
            status: get_variant(row, "status")?,
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
