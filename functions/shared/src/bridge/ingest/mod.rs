//! From Avito to rows: webhooks and polls bring the same messages, and each is recorded once, by the first to report it.

pub mod avito_webhook;
pub mod incoming;
pub mod intake;
pub mod polls;
pub mod record;
mod reorder_window;
