//! Two transactions that lock the same rows in opposite order; connections that nobody used for a while.

use std::time::Duration;

use tuberry::platform::{
    db::{Db, Scope, Statement, Timeouts, get},
    secrets::Secret,
};

use crate::support::{World, variable};

/// Takes one lock, waits until the other transaction has its own, and then asks for that one too.
fn crossing(first: i64, second: i64) -> Vec<Statement> {
    let lock = |key: i64| Statement::new("SELECT pg_advisory_xact_lock($1)").bind(key);
    vec![lock(first), Statement::new("SELECT pg_sleep(0.3)"), lock(second)]
}

#[tokio::test]
async fn two_transactions_that_deadlock_both_take_effect() {
    let (one, other) = (World::new(), World::new());
    let (left, right) = (World::new_id(), World::new_id());
    // Both connect first: a transaction that still connects would ask for its lock after the other released both.
    for world in [&one, &other] {
        world.query(Scope::Service, Statement::new("SELECT 1")).await;
    }
    let count_round_trips = || one.app.db().round_trips() + other.app.db().round_trips();
    let before = count_round_trips();

    let outcomes = tokio::join!(
        one.app.db().run(Scope::Service, crossing(left, right)),
        other.app.db().run(Scope::Service, crossing(right, left)),
    );

    assert!(outcomes.0.is_ok(), "{:?}", outcomes.0.err());
    assert!(outcomes.1.is_ok(), "{:?}", outcomes.1.err());
    // Each transaction was sent once, and one of them was sent again.
    assert_eq!(count_round_trips() - before, 3);
}

#[tokio::test]
async fn a_connection_is_used_again_soon_and_closed_after_it_was_idle_for_too_long() {
    let limit = Duration::from_millis(600);
    let timeouts = Timeouts { idle: limit, ..Timeouts::USUAL };
    // Directly: a pooler would give each transaction any session.
    let db = Db::new(Secret::new(variable("MIGRATION_DATABASE_URL")), String::new(), timeouts);
    let session = async || {
        let rows = db.query(Scope::Service, Statement::new("SELECT pg_backend_pid() AS pid")).await.expect("an answer");
        get::<i32>(&rows[0], "pid").expect("a number")
    };

    let (first, soon) = (session().await, session().await);
    tokio::time::sleep(limit).await;
    let late = session().await;

    assert_eq!(first, soon);
    assert_ne!(first, late);
    let is_open = async || {
        let statement = Statement::new("SELECT pid FROM pg_stat_activity WHERE pid = $1").bind(first);
        !db.query(Scope::Service, statement).await.expect("an answer").is_empty()
    };
    while is_open().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
