//! Requests of a frontend: lists of dialogs and messages, replies, and dialogs that follow their account or bot.

pub mod history;
pub mod relocation;
pub mod reply;
