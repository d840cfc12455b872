//! Polls: the second source of the same messages, for what no webhook reported. An account whose webhooks report everything is
//! polled now and then, any other often, and a refused one hourly.

mod confirm;
pub(in crate::bridge) mod poll;
mod schedule;
mod sync;

pub use poll::{poll, start_polling};
pub use schedule::schedule;
