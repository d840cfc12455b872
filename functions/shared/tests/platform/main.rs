//! The platform: the database that it calls, and the migrations with the stored functions that they install.

mod database;
mod migrations;
mod plans;
#[allow(dead_code, reason = "the rules of the tree use more of it")]
#[path = "../floors/rust.rs"]
mod rust;
mod statements;
#[path = "../support/mod.rs"]
mod support;
