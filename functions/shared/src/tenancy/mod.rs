//! Tenancy: organisations, their bots and Avito accounts, and the record of who changed what.
//! Other domains use this module. No other module names its tables.

pub mod accounts;
pub mod audit;
pub mod bots;
pub mod chats;
pub mod clients;
pub mod idempotency;
pub mod notices;
