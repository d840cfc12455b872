//! The webhook of an Avito account: the address to which Avito sends its messages. Other products may have theirs there.
//! Avito is asked before ours is registered, and once a day after that. It gets another secret, and so another address,
//! every month. While Avito may still use the former address, both are accepted, so that a change loses no message.

pub(super) mod address;
mod check;
mod settle;
pub(super) mod state;

pub use address::find_tenant_by_secret;
pub use check::{MAX_CHECK_DURATION, check, make_check_due};
pub use settle::settle;
pub use state::{WebhookChoice, WebhookState};
