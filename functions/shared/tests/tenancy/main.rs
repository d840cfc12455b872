//! Tenancy: the database's own rules, bots, accounts and their webhooks, against real Postgres and the simulators.

mod account_webhooks;
mod accounts;
mod bots;
mod catalogue;
#[path = "../support/mod.rs"]
mod support;
mod tenants;

use tuberry::platform::page::Wanted;

const ALL: Wanted = Wanted { limit: 200, before: i64::MAX };
