//! From Telegram's updates to rows: answers, edits, commands and buttons of operators, stored before the webhook is answered.

mod albums;
mod callbacks;
mod commands;
mod edits;
mod insert;
mod outcome;
mod pictures;
pub mod webhook;
