//! Postgres as transactions meet it: two of them may want the same rows in another order.

mod support;

use support::World;
use tuberry::platform::db::{Scope, Statement};

/// Takes one lock, waits until the other side has its own, and takes that one too.
fn crossing(first: i64, second: i64) -> Vec<Statement> {
    let lock = |key: i64| Statement::new("SELECT pg_advisory_xact_lock($1)").bind(key);
    vec![lock(first), Statement::new("SELECT pg_sleep(0.3)"), lock(second)]
}

#[tokio::test]
async fn two_flights_that_wait_for_each_other_both_take_effect() {
    let (one, other) = (World::new(), World::new());
    let (left, right) = (World::new_id(), World::new_id());
    // Who is still connecting would ask for a lock when the other has let go of both.
    for world in [&one, &other] {
        world.query(Scope::Service, Statement::new("SELECT 1")).await;
    }
    let flown = || one.app.db().round_trips() + other.app.db().round_trips();
    let before = flown();

    let outcomes = tokio::join!(
        one.app.db().run(Scope::Service, crossing(left, right)),
        other.app.db().run(Scope::Service, crossing(right, left)),
    );

    assert!(outcomes.0.is_ok(), "{:?}", outcomes.0.err());
    assert!(outcomes.1.is_ok(), "{:?}", outcomes.1.err());
    // Each flew once, and one of them again.
    assert_eq!(flown() - before, 3);
}
