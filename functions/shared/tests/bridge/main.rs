//! The bridge in this process, against the stack's Postgres, Redis, Avito and Telegram, where it needs them.

mod auto_reply;
mod bot_outbox;
mod gauges;
mod polls;
mod post_kinds;
mod relocation;
mod search;
mod states;
#[path = "../support/mod.rs"]
mod support;
mod voice;
