//! The tenants of bots and dialogs, as far as this process knows them: read once instead of with every task. A row
//! never moves to another organisation, and a deleted row is not found under any tenant.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
};

use crate::platform::db::{ClientId, Scope, Statement};

/// The most entries of each map; a full map is emptied.
const MAX_ENTRIES: usize = 10_000;

/// Tenants by the id of a row of theirs.
pub(in crate::bridge) type Tenants = LazyLock<Mutex<HashMap<i64, ClientId>>>;

/// The tenants of bots.
pub(in crate::bridge) static OF_BOTS: Tenants = LazyLock::new(Mutex::default);
/// The tenants of dialogs.
pub(in crate::bridge) static OF_DIALOGS: Tenants = LazyLock::new(Mutex::default);

/// The scope for the row `id`; as long as its tenant is not known, `find` finds it.
pub(in crate::bridge) fn scope(tenants: &Tenants, id: i64, find: impl FnOnce(i64) -> Statement) -> Scope {
    let known = tenants.lock().ok().and_then(|known| known.get(&id).copied());
    known.map_or_else(|| Scope::TenantOf(find(id)), Scope::Tenant)
}

/// Remembers the tenant of the row `id`.
pub(in crate::bridge) fn remember(tenants: &Tenants, id: i64, client_id: ClientId) {
    if let Ok(mut known) = tenants.lock() {
        if known.len() >= MAX_ENTRIES {
            known.clear();
        }
        known.insert(id, client_id);
    }
}

/// Finds the tenant of a dialog, for [`crate::platform::db::Scope::TenantOf`].
pub(in crate::bridge) fn find_tenant_of_dialog(dialog_id: i64) -> Statement {
    Statement::call("find_tenant_of_dialog").arg("dialog_id", dialog_id)
}
