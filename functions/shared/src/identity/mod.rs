//! Identity: people, the ways in which they sign in, their sessions and tokens.
//! A token only names a session. The live session decides role and tenant.

pub mod caller;
mod error;
pub mod owners;
pub mod sessions;
pub mod tokens;
pub mod users;
pub mod ways;

pub use error::SignInError;
