//! The kinds of posts: Rust and Postgres say the same of each.

use strum::VariantArray;
use tuberry::{
    bridge::PostKind,
    platform::db::{Scope, Statement, get},
};

use crate::support::{World, must};

#[tokio::test]
async fn each_kind_of_post_has_the_same_priority_and_order_in_rust_and_in_postgres() {
    let world = World::new();
    for kind in PostKind::VARIANTS {
        let statement = Statement::new("SELECT sql.post_priority($1) AS priority, sql.post_order($1) AS position");
        let rows = world.query(Scope::Service, statement.bind(kind.as_str())).await;
        assert_eq!(must(get::<i32>(&rows[0], "priority")), kind.priority(), "{kind:?}");
        if let Some(order) = kind.order() {
            assert_eq!(must(get::<i32>(&rows[0], "position")), order, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn the_table_of_posts_allows_the_kinds_of_rust_and_no_other() {
    let world = World::new();
    let statement = Statement::new(
        "SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint
         WHERE conrelid = 'posts'::regclass AND contype = 'c' AND pg_get_constraintdef(oid) LIKE '%(kind = ANY%'",
    );
    let rows = world.query(Scope::Service, statement).await;
    let definition: String = must(get(&rows[0], "definition"));
    let mut allowed: Vec<&str> = definition.split('\'').skip(1).step_by(2).collect();
    let mut known: Vec<&str> = PostKind::VARIANTS.iter().map(|kind| kind.as_str()).collect();
    allowed.sort_unstable();
    known.sort_unstable();
    assert_eq!(allowed, known);
}
