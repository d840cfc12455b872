//! From rows to Telegram: the worker that holds the lease of a bot's outbox composes posts and sends them, in order.

mod claim;
mod compose;
mod compose_next;
mod confirmation;
mod failures;
mod general;
pub(in crate::bridge) mod message_order;
mod receipts;
mod rename;
mod replay;
mod retry;
mod send;
mod sender;
mod set_aside;
mod steps;
mod topic;
mod work;
pub mod worker;

pub use send::voice;
