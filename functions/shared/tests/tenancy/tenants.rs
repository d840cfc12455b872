//! Tenants: none sees or writes another's rows.

use tuberry::{
    platform::{
        db::{ClientId, DbError, Scope, Statement},
        secrets::Secret,
    },
    tenancy::bots,
};

use crate::{
    ALL,
    support::{World, must},
};

#[tokio::test]
async fn another_tenants_rows_are_not_there() {
    let world = World::new();
    let (one, other) = (world.owner().await, world.owner().await);
    let (bot, _) = world.bot(&one).await;
    assert_eq!(must(bots::list(world.app, one.client, ALL).await).items, std::slice::from_ref(&bot));
    assert_eq!(must(bots::list(world.app, other.client, ALL).await).items, []);
    assert!(!must(bots::exists(world.app, other.client, bot.id).await));
    let steal = Statement::new("UPDATE bots SET bot_username = 'x' WHERE id = $1 RETURNING id").bind(bot.id);
    assert!(world.query(Scope::Tenant(other.client), steal).await.is_empty());
}

#[tokio::test]
async fn a_row_cannot_be_written_for_another_tenant() {
    let world = World::new();
    let (one, other) = (world.owner().await, world.owner().await);
    let (bot, _) = world.bot(&one).await;
    let foreign = |client: ClientId| {
        let insert = "INSERT INTO telegram_chats (bot_id, chat_id, client_id, bot_status) VALUES ($1, 1, $2, 'member')";
        world.app.db().query(Scope::Tenant(other.client), Statement::new(insert).bind(bot.id).bind(client.0))
    };
    let refused = foreign(one.client).await;
    assert!(matches!(&refused, Err(DbError::Statement(state)) if state == "42501"), "{refused:?}");
    let refused = foreign(other.client).await;
    assert!(refused.is_err_and(|error| error.constraint().is_some_and(|name| name.ends_with("_fkey"))));
}

#[tokio::test]
async fn without_a_tenant_nothing_is_seen() {
    let world = World::new();
    world.bot(&world.owner().await).await;
    let no_tenant = || Scope::TenantOf(bots::find_tenant_of_bot(-1));
    assert!(world.query(no_tenant(), Statement::new("SELECT id FROM bots")).await.is_empty());
    assert!(world.query(no_tenant(), Statement::new("SELECT id FROM clients")).await.is_empty());
}

#[tokio::test]
async fn a_webhooks_secret_opens_its_own_tenant_only() {
    let world = World::new();
    let (owner, other) = (world.owner().await, world.owner().await);
    let (bot, _) = world.bot(&owner).await;
    world.bot(&other).await;
    let hash: Vec<u8> = {
        let read = Statement::new("SELECT webhook_secret_hash FROM bots WHERE id = $1").bind(bot.id);
        world.query(Scope::Tenant(owner.client), read).await[0].get(0)
    };
    let ask = |hash: Vec<u8>| {
        let scope = Scope::TenantOf(bots::find_tenant_by_webhook_secret(bot.id, hash));
        world.app.db().run(scope, vec![Statement::new("SELECT id FROM bots")])
    };
    let result_sets = must(ask(hash).await);
    assert_eq!(result_sets[0][0].get::<_, i64>("client_id"), owner.client.0);
    assert_eq!(result_sets[1].iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [bot.id]);
    let result_sets = must(ask(Secret::random().hash().to_vec()).await);
    assert!(result_sets[0].is_empty() && result_sets[1].is_empty());
}
