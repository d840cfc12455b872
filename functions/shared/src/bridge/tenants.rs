//! Whose a bot or a dialog is, as far as this process has learned it: asked for once instead of with every task. A row never
//! becomes another organisation's, and what was deleted is found by nobody.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
};

use crate::platform::db::{ClientId, Scope, Statement};

/// What is remembered at once, of bots and of dialogs.
const MAX_ENTRIES: usize = 10_000;

/// Tenants by the id of what is theirs.
pub(super) type Tenants = LazyLock<Mutex<HashMap<i64, ClientId>>>;

/// Those of bots.
pub(super) static OF_BOTS: Tenants = LazyLock::new(Mutex::default);
/// Those of dialogs.
pub(super) static OF_DIALOGS: Tenants = LazyLock::new(Mutex::default);

/// The scope of what belongs to `id`, found by `find` as long as it is not known.
pub(super) fn scope(tenants: &Tenants, id: i64, find: impl FnOnce(i64) -> Statement) -> Scope {
    let known = tenants.lock().ok().and_then(|known| known.get(&id).copied());
    known.map_or_else(|| Scope::TenantOf(find(id)), Scope::Tenant)
}

/// Remembers whose `id` is.
pub(super) fn remember(tenants: &Tenants, id: i64, client_id: ClientId) {
    if let Ok(mut known) = tenants.lock() {
        if known.len() >= MAX_ENTRIES {
            known.clear();
        }
        known.insert(id, client_id);
    }
}
