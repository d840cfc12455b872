//! A post as a call of the Bot API, with the files that it needs.

pub mod call;
pub mod delivery_method;
pub mod files;
pub mod media;
mod params;
pub mod voice;
