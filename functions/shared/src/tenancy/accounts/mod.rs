//! Avito accounts. An account is identified by Avito's own user id, so no second organisation can connect the same one.

mod account;
mod change;
mod connection;
mod keys;
mod probe;
mod tokens;
mod waits;
pub mod webhooks;

pub use account::{
    AccountStatus, AvitoAccount, find_tenant_of_account, list, mark_refused, mark_working, notify_chats_skipped,
    notify_not_read,
};
pub use change::{Change, ChangeError, Meaning, Switch, change};
pub use connection::{Checked, ConnectError, NewAccount, check, insert};
pub use keys::{Keys, secret_context, token_context};
pub use probe::{claim_probe, select_probe, store_probe};
pub use tokens::{TokenError, access_token, avito, renewed_token};
pub use waits::wait;
