//! Polls: the second source of the same messages, for what no webhook reported. An account whose webhooks report everything is
//! polled now and then, any other often, and a refused one ever more rarely.

pub(super) mod account;
mod chats;
mod confirm;
mod cursors;
mod lists;
mod pages;
mod plan;
mod poll;
pub(super) mod schedule;
mod sync;
mod times;

pub use account::start_polling;
pub use poll::poll;
pub use schedule::schedule;
