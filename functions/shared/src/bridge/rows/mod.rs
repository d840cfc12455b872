//! SQL on rows that several rooms write: the outbox of a bot, posts, receipts, topics. Each function builds a statement, and
//! none calls anything outside.

pub mod bot_outbox;
pub(in crate::bridge) mod handover;
pub mod posts;
pub mod receipts;
pub mod topic_emoji;
pub mod topics;
