//! Organisations: the tenants that everything else belongs to.
//! They are made with their first user, so identity sends these statements in its own flights.

use crate::platform::db::Statement;

/// The organisation of the flight's tenant: `id`, `name`, `suspended_at`.
pub fn current() -> Statement {
    Statement::new("SELECT id, name, suspended_at FROM clients WHERE id = current_client_id()")
}
