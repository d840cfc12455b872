//! The states of Rust and those of the tables: the same names in both.

use strum::VariantArray;
use tuberry::{
    bridge::states::{DialogState, MessageOrigin, MessageStatus, PartState, PostState},
    platform::db::{Scope, Statement, get},
    tenancy::{accounts::AccountStatus, bots::BotStatus},
};

use crate::support::World;

/// Asks for the texts that the `CHECK` list of a column allows.
fn select_allowed(table: &'static str, column: &'static str) -> Statement {
    Statement::new(
        "SELECT array_agg(name[1]) AS names
         FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]
         CROSS JOIN regexp_matches(pg_get_constraintdef(c.oid), '''(\\w+)''', 'g') AS name
         WHERE c.contype = 'c' AND c.conrelid = to_regclass($1) AND a.attname = $2",
    )
    .bind(table)
    .bind(column)
}

/// Fails unless the enum has the names that the column allows, and no other.
async fn assert_names<T: VariantArray + Copy>(world: &World, table: &'static str, column: &'static str)
where
    &'static str: From<T>,
{
    let rows = world.query(Scope::Service, select_allowed(table, column)).await;
    let mut allowed: Vec<String> = get(&rows[0], "names").unwrap_or_else(|error| panic!("{table}.{column}: {error}"));
    let mut known: Vec<&'static str> = T::VARIANTS.iter().map(|variant| (*variant).into()).collect();
    allowed.sort_unstable();
    known.sort_unstable();
    assert_eq!(allowed, known, "{table}.{column}");
}

#[tokio::test]
async fn each_column_allows_the_states_of_rust_and_no_other() {
    let world = World::new();
    assert_names::<MessageOrigin>(&world, "messages", "origin").await;
    assert_names::<MessageStatus>(&world, "messages", "status").await;
    assert_names::<DialogState>(&world, "dialogs", "state").await;
    assert_names::<PartState>(&world, "parts", "state").await;
    assert_names::<PostState>(&world, "posts", "state").await;
    assert_names::<AccountStatus>(&world, "avito_accounts", "status").await;
    assert_names::<BotStatus>(&world, "bots", "status").await;
}
