//! Applying the migrations to an empty database.

mod support;

use support::{World, variable};
use tokio_postgres::NoTls;
use tuberry::platform::{db::parse_address, migrations::apply, secrets::Secret};

async fn on_server(sql: &str) {
    let config = parse_address(&variable("DATABASE_URL")).unwrap_or_else(|error| panic!("{error}"));
    let (client, connection) = config.connect(NoTls).await.unwrap_or_else(|error| panic!("{error}"));
    tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn migrations_started_three_times_at_once_are_applied_once() {
    let name = format!("migrations_{}", World::new_id());
    on_server(&format!("CREATE DATABASE {name}")).await;
    let mut address = url::Url::parse(&variable("DATABASE_URL")).unwrap_or_else(|error| panic!("{error}"));
    address.set_path(&name);
    let address = Secret::new(address.as_str());
    let (one, two, three) = tokio::join!(apply(&address, ""), apply(&address, ""), apply(&address, ""));
    let again = apply(&address, "").await;
    on_server(&format!("DROP DATABASE {name} WITH (FORCE)")).await;

    let applied = [one, two, three].map(|outcome| outcome.unwrap_or_else(|error| panic!("{error}")));
    let some: Vec<_> = applied.iter().filter(|names| !names.is_empty()).collect();
    assert_eq!(some.len(), 1, "{applied:?}");
    assert_eq!(some[0].first().map(String::as_str), Some("V0001__tenancy_and_identity"));
    assert_eq!(again.ok(), Some(Vec::new()));
}
