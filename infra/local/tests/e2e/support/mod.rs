//! The base of every test: the running stack; a seller with a bot, a group and an Avito account that belong to one
//! test; and ways to play the people on both sides and to read what they see.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of this")]

mod records;
mod seller;
mod stack;

use std::time::Duration;

use rand::RngExt;

pub(crate) use records::{AvitoMessage, Call, GroupMessage, Topic, lines};
pub(crate) use seller::{Seller, notification, update};
pub(crate) use stack::{Answer, Stack, database, database_proxy, try_database};

/// The timeout of results that take a few seconds, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_mins(1);
/// The timeout of results that wait for a schedule, a lease or a pause first.
pub(crate) const LATER: Duration = Duration::from_mins(2);

/// Reads a variable that the stack gives to every test.
pub(crate) fn variable(name: &str) -> String {
    assert!(std::env::var_os("STACK_API").is_some(), "run `make test`: these tests need the local stack");
    std::env::var(name).unwrap_or_else(|_| panic!("the stack sets no {name}"))
}

/// Returns a number that no other test has, nor any other run on the same stack.
pub(crate) fn new_number() -> i64 {
    rand::rng().random_range(1_000_000_000..1_000_000_000_000)
}

/// Checks again and again until there is a result, and returns it. The failure names `what` it waited for.
pub(crate) async fn wait_until<T>(within: Duration, what: &str, check: impl AsyncFnMut() -> Option<T>) -> T {
    try_until(within, check).await.unwrap_or_else(|| panic!("within {within:?} not: {what}"))
}

/// Checks again and again until there is a result. None: the time is over.
pub(crate) async fn try_until<T>(within: Duration, mut check: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = tokio::time::Instant::now() + within;
    loop {
        if let Some(found) = check().await {
            return Some(found);
        }
        if tokio::time::Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// Returns `what 1`, `what 2`, …
pub(crate) fn numbered(what: &str, count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{what} {number}")).collect()
}
