//! From rows to Telegram: the worker that holds the lease of a bot's outbox composes posts and sends them, in order.

mod claim;
pub(in crate::bridge) mod compose;
mod compose_next;
pub(in crate::bridge) mod failures;
pub(in crate::bridge) mod message_order;
mod receipts;
mod rename;
mod replay;
pub(in crate::bridge) mod retry;
pub(in crate::bridge) mod send;
pub(in crate::bridge) mod sender;
mod steps;
mod topic;
pub(in crate::bridge) mod work;
pub mod worker;

pub use send::voice;
