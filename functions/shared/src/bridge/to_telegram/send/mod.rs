//! A post as a call of the Bot API, with the files that it needs.

pub(super) mod call;
pub(super) mod delivery_method;
pub(super) mod files;
pub(super) mod media;
mod params;
pub mod voice;
