//! A post as a call of the Bot API, with the files that it needs.

pub mod call;
pub mod media;
pub mod voice;
