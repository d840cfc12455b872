//! The bridge: an Avito chat is a topic of a Telegram group. Rows are the queue, SQS is the alarm clock: a message is a row as
//! soon as we learn of it, and the worker that holds a lease derives from rows what still has to be sent.
//!
//! The rooms, from the ground up; a room imports from those above it in this list, and the four in the middle not from each
//! other:
//!
//! - `common`: what every room uses; writes no row
//! - `rows`: SQL on rows that several rooms write
//! - `auto_reply`: when a buyer is answered automatically, and when not
//! - `ingest`: from Avito to rows; `operator`: from Telegram's updates to rows; `to_telegram`: from rows to Telegram, one lease
//!   per bot; `to_avito`: from rows to Avito, one lease per dialog
//! - `api`: what a frontend reads and asks for; `sweep`: work whose wake-up was lost

pub mod api;
pub mod auto_reply;
mod common;
mod error;
pub mod forget;
pub mod ingest;
pub mod operator;
mod rows;
pub mod sweep;
pub mod to_avito;
pub mod to_telegram;

pub use common::{post_kind::PostKind, queue_tasks, states, text_split};
pub use error::BridgeError;
