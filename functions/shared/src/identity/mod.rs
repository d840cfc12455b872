//! Identity: people, the ways in which they sign in, their sessions and tokens.
//! A token only names a session. The live session decides role and tenant.

pub mod caller;
pub mod owners;
pub mod sessions;
pub mod telegram_login;
pub mod tokens;
pub mod users;
