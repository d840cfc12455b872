//! Composes posts: messages and a dialog go in, drafts come out. Nothing here knows a database or makes a call.

pub(super) mod album;
pub(super) mod header;
pub(super) mod message_text;
pub(super) mod post_text;
pub(super) mod styled;
