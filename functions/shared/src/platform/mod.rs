//! Thin wrappers that every function uses: environment, Postgres, Redis, SQS, HTTP, logs.
//! Nothing here knows a domain.

pub mod cache;
pub mod certainty;
pub mod config;
pub mod db;
pub mod endings;
pub mod http;
pub mod idle;
pub mod json;
pub mod last_event;
pub mod limits;
pub mod media;
pub mod migrations;
pub mod names;
pub mod page;
pub mod queue;
pub mod secret_store;
pub mod secrets;
pub mod telemetry;
