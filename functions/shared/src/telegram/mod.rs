//! Telegram's Bot API: our own transport under frankenstein's types, errors that say if a call may be repeated,
//! and lenient reading of what Telegram sends to webhooks and login pages.

mod bot;
mod content;
mod error;
pub mod login;
mod sketch;
#[cfg(test)]
mod tests;
pub mod text;
pub mod update;

pub use bot::{Attachment, Bot, CALL_TIMEOUT, MAX_DOWNLOAD_BYTES, Sent, SentTo};
pub use error::Error;
pub use sketch::{MessageSketch, sketch};
