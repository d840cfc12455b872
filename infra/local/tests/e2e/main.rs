//! End to end: the deployed functions of a running stack, used only from outside — as Avito, as Telegram, as a
//! frontend. `make test` starts that stack; every test has a seller, a bot, a group and an Avito account of its own.

mod albums;
mod api;
mod away;
mod concurrent_sending;
mod conversation;
mod costs;
mod faults;
mod fields;
mod limits;
mod operators;
mod order;
mod outside_values;
mod polls;
mod recovery;
mod refusals;
mod runtime_api;
mod secrets;
mod sign_in;
mod strangers;
mod support;
mod topics;
mod transactions;
mod webhook_and_poll;
mod webhooks;
