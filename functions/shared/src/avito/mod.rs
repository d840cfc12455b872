//! Avito's messenger API: typed calls, lenient reading, and errors that say if a call may be repeated.
//! Avito promises little about its answers, so every field that may be missing is optional and no unknown one an error.

mod chat;
mod client;
mod error;
mod lenient;
mod message;
#[cfg(test)]
mod tests;
pub mod webhook;

pub use chat::{
    Chat, ChatsPage, Context, Counterpart, Images, Item, Place, Profile, User, counterpart, shows_tariff_placeholders,
};
pub use client::{Account, CALL_TIMEOUT, ChatsQuery, Client, MAX_PAGE_SIZE, RateLimit, Reply, Subscription, Token};
pub use error::Error;
pub use message::{
    Call, Content, Direction, File, Image, ItemCard, Kind, Link, LinkPreview, Location, Message, Quote, Voice,
    is_tariff_placeholder,
};
