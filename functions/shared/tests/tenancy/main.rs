//! Tenancy: the database's own rules, bots, accounts and their webhooks, against real Postgres and the simulators.

mod account_webhooks;
#[path = "../support/mod.rs"]
mod support;
mod tenancy;
