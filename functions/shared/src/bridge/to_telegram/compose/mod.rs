//! What posts look like: messages and a dialog go in, drafts come out. Nothing here knows a database or makes a call.

pub mod album;
pub mod header;
pub mod message_text;
pub mod post_text;
