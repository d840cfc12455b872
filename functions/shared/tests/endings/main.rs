//! One call goes on failing: the rest goes on, calls stay few, somebody is notified, and what was promised
//! arrives once the failure is over. The workers run in this process, on a database that no deployed function sees, and time
//! passes as the rows see it: hours take moments.

mod connecting;
mod forget;
mod intake;
mod matrix;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod to_avito;
mod to_telegram;
