//! Everything that more than one function of Tuberry needs, floor by floor.
//!
//! A module imports only from floors below its own: domains (`bridge`, `identity`, `tenancy`), outside APIs (`avito`,
//! `telegram`), the app, the platform, the SQL of stored functions. `wiring` is for the functions alone. `tests/floors` checks this.

pub mod app;
pub mod avito;
pub mod bridge;
pub mod identity;
pub mod platform;
pub mod sql;
pub mod telegram;
pub mod tenancy;
pub mod wiring;

pub use app::App;
