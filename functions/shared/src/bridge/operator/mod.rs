//! From Telegram's updates to rows: answers, edits, commands and buttons of operators, stored before the webhook is answered.

pub mod callbacks;
pub mod commands;
pub mod edits;
pub mod webhook;
