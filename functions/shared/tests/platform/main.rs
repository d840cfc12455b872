//! The platform: the database that it calls, and the migrations with the stored functions that they install.

mod database;
mod migrations;
#[path = "../support/mod.rs"]
mod support;
