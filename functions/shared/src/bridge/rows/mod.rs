//! SQL on rows that several rooms write: the outbox of a bot, posts, receipts, topics. Each function builds a statement, and
//! none calls anything outside.

pub(in crate::bridge) mod account_work;
pub(in crate::bridge) mod bot_outbox;
pub(in crate::bridge) mod handover;
pub(in crate::bridge) mod posts;
pub(in crate::bridge) mod receipts;
pub(in crate::bridge) mod set_aside;
pub(in crate::bridge) mod topic_emoji;
pub(in crate::bridge) mod topics;
