//! Bots: connecting them, and their lists.

use serde_json::{Value, json};
use tuberry::{
    platform::{
        db::{Scope, Statement},
        http::Problem,
        page::Wanted,
        secrets::Secret,
    },
    tenancy::{bots, chats},
};

use crate::{
    ALL,
    support::{World, must},
};

#[tokio::test]
async fn a_connected_bot_has_its_webhook_set_and_its_token_sealed() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, outside) = world.bot(&owner).await;
    assert!(bot.webhook_set_at.is_some());
    assert_eq!((bot.group_chat_id, bot.status), (Some(outside.chat_id), bots::BotStatus::Active));

    let calls = world.ask("calls?target=telegram&method=setWebhook").await;
    let address = format!("/api/webhooks/telegram/{}/", bot.id);
    let is_ours = |call: &&Value| call["params"]["url"].as_str().is_some_and(|url| url.contains(&address));
    let set = calls["calls"].as_array().into_iter().flatten().rfind(is_ours).map(|call| call["params"].clone());
    let set = set.unwrap_or_default();
    assert_eq!(set["max_connections"], 40);
    assert_eq!(set["allowed_updates"], json!(["message", "edited_message", "callback_query", "my_chat_member"]));
    let path_secret = Secret::new(set["url"].as_str().and_then(|url| url.rsplit('/').next()).unwrap_or_default());
    assert!(world.app.keyring().derives(&path_secret, set["secret_token"].as_str().unwrap_or_default()));

    let read = Statement::new(
        "SELECT b.token, b.webhook_secret_hash, c.bot_status FROM bots b JOIN telegram_chats c ON c.bot_id = b.id
         WHERE b.id = $1 AND c.chat_id = b.group_chat_id",
    );
    let rows = world.query(Scope::Tenant(owner.client), read.bind(bot.id)).await;
    let token = world.app.keyring().open(rows[0].get("token"), bots::token_context(owner.client));
    assert!(token.is_ok_and(|token| token.expose() == outside.token.expose()));
    assert_eq!(rows[0].get::<_, Vec<u8>>("webhook_secret_hash"), path_secret.hash());
    assert_eq!(rows[0].get::<_, String>("bot_status"), "administrator");
}

#[tokio::test]
async fn a_connected_bot_is_refused_to_its_own_client_and_to_another() {
    let world = World::new();
    let (one, other) = (world.owner().await, world.owner().await);
    let (_, outside) = world.bot(&one).await;
    for owner in [&one, &other] {
        let refused = world.connect_bot(owner, &outside).await.err().map(Problem::from);
        assert_eq!(refused.map(|problem| problem.status().as_u16()), Some(409));
    }
    assert_eq!(must(bots::list(world.app, other.client, ALL).await).items, []);
}

#[tokio::test]
async fn connecting_a_bot_without_a_needed_right_names_the_right() {
    let world = World::new();
    let owner = world.owner().await;
    let outside = world.outside_bot(json!({ "can_manage_topics": false })).await;
    match world.connect_bot(&owner, &outside).await {
        Err(bots::ConnectError::Group(text)) => assert!(text.en.contains("manage topics"), "{}", text.en),
        outcome => panic!("{:?}", outcome.map(|bot| bot.id)),
    }
}

#[tokio::test]
async fn a_bot_outside_the_group_and_an_unknown_token_are_refused() {
    let world = World::new();
    let owner = world.owner().await;
    let (mut outside, elsewhere) = (world.outside_bot(Value::Null).await, world.outside_bot(Value::Null).await);
    outside.chat_id = elsewhere.chat_id;
    assert!(matches!(world.connect_bot(&owner, &outside).await, Err(bots::ConnectError::Group(_))));
    outside.token = Secret::new("1:AAnobodyhasthistokenAAnobodyhasthistoken");
    assert!(matches!(world.connect_bot(&owner, &outside).await, Err(bots::ConnectError::BadToken)));
}

#[tokio::test]
async fn the_platforms_own_bot_cannot_be_connected() {
    let world = World::new();
    let owner = world.owner().await;
    let token = format!("{}:{}", World::new_id(), Secret::random().expose());
    let username = format!("platform_{}_bot", World::new_id());
    world.control("telegram/bots", &json!({ "token": token, "username": username })).await;
    let platform = World::with(&[("MASTER_BOT_NAME", &username)]);
    let new = bots::NewBot { token: Secret::new(token), group_chat_id: None, topic_mode: true };
    assert!(matches!(bots::check(platform.app, &new).await, Err(bots::ConnectError::PlatformBot)));
    assert!(bots::check(world.app, &new).await.is_ok(), "{}", owner.user_id);
}

#[tokio::test]
async fn a_bot_whose_webhook_fails_is_not_there_and_can_be_connected_later() {
    let world = World::new();
    let owner = world.owner().await;
    let outside = world.outside_bot(Value::Null).await;
    let fault = json!({
        "target": "telegram", "method": "setWebhook", "scope": { "token": outside.token.expose() },
        "kind": "status", "status": 502, "times": 1,
    });
    world.control("faults", &fault).await;
    let refused = world.connect_bot(&owner, &outside).await.err().map(Problem::from);
    assert_eq!(refused.map(|problem| problem.status().as_u16()), Some(503));
    assert_eq!(must(bots::list(world.app, owner.client, ALL).await).items, []);
    assert!(world.connect_bot(&owner, &outside).await.is_ok());
}

#[tokio::test]
async fn a_bot_whose_creation_broke_off_can_be_connected_again() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, outside) = world.bot(&owner).await;
    let break_off = Statement::new(
        "UPDATE bots SET webhook_set_at = NULL, created_at = now() - interval '2 minutes' WHERE id = $1",
    );
    world.query(Scope::Tenant(owner.client), break_off.bind(bot.id)).await;
    assert!(must(world.connect_bot(&owner, &outside).await).id != bot.id);
}

#[tokio::test]
async fn a_change_of_a_bot_returns_a_row_once() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, outside) = world.bot(&owner).await;
    let changed_rows = async |statement: Statement| world.query(Scope::Tenant(owner.client), statement).await.len();
    assert_eq!(changed_rows(bots::mark_working(bot.id)).await, 0);
    assert_eq!(changed_rows(bots::mark_broken(bot.id, "kicked")).await, 1);
    assert_eq!(changed_rows(bots::mark_broken(bot.id, "kicked")).await, 0);
    assert_eq!(changed_rows(bots::mark_working(bot.id)).await, 1);
    assert_eq!(changed_rows(bots::move_group(bot.id, outside.chat_id, outside.chat_id - 1)).await, 1);
    assert_eq!(changed_rows(bots::move_group(bot.id, outside.chat_id, -6)).await, 0);
    for title in ["Старое", "Новое"] {
        changed_rows(chats::store_chat(bot.id, -5, title, true, "member")).await;
    }
    let titles = Statement::new("SELECT title FROM telegram_chats WHERE bot_id = $1 AND chat_id = -5").bind(bot.id);
    let titles = world.query(Scope::Tenant(owner.client), titles).await;
    assert_eq!(titles.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["Новое"]);
}

#[tokio::test]
async fn a_list_comes_page_by_page() {
    let world = World::new();
    let owner = world.owner().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, world.bot(&owner).await.0.id);
    }
    let first = must(bots::list(world.app, owner.client, Wanted { limit: 2, before: i64::MAX }).await);
    let rest = must(bots::list(world.app, owner.client, Wanted { limit: 2, before: ids[1] }).await);
    assert!(first.next_cursor.is_some() && rest.next_cursor.is_none());
    assert_eq!(first.items.iter().chain(&rest.items).map(|bot| bot.id).collect::<Vec<_>>(), ids);
}
