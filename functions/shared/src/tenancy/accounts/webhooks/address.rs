//! The address of an account's webhook: its secret is the last part, and by it the account is found.

use crate::{
    App,
    platform::{
        config::var,
        db::{ClientId, Statement},
        secrets::{SealContext, Secret},
    },
};

/// Returns the context in which a webhook's secret is sealed.
pub(in crate::tenancy::accounts) fn secret_context(client: ClientId) -> SealContext {
    SealContext { table: "avito_accounts", column: "webhook_secret", client_id: client.0 }
}

/// Finds the account whose webhook has a secret with this hash, or had it before the last change, for
/// `Scope::TenantOf`. Columns: `client_id`, `avito_account_id`, `user_id`, `bot_id`, `status`.
pub fn find_tenant_by_secret(account_id: i64, secret_hash: Vec<u8>) -> Statement {
    Statement::call("find_tenant_by_account_secret").arg("account_id", account_id).arg("secret_hash", secret_hash)
}

/// The beginning of all addresses of this installation.
pub(super) fn beginning(app: &App) -> String {
    format!("{}/api/webhooks/avito/messages/", app.config().text(var::PUBLIC_BASE_URL).trim_end_matches('/'))
}

/// The address of an account with this secret.
pub(super) fn address(app: &App, account_id: i64, secret: &Secret) -> String {
    format!("{}{account_id}/{}", beginning(app), secret.expose())
}
