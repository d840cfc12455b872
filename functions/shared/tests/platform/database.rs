//! Two transactions that lock the same rows in opposite order.

use tuberry::platform::db::{Scope, Statement};

use crate::support::World;

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
