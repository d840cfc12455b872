//! End to end: the deployed functions of a running stack, met only from outside — as Avito, as Telegram, as a frontend.
//! `make test` starts that stack; every test has a seller, a bot, a group and an Avito account of its own.

mod api;
mod away;
mod budgets;
mod conversation;
mod counting_proxy;
mod faults;
mod hearing;
mod limits;
mod operators;
mod order;
mod polls;
mod recovery;
mod runtime_api;
mod sign_in;
mod support;
mod together;
mod topics;
mod transactions;
mod webhooks;
