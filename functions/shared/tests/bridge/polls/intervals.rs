//! Polls at their intervals, and the calls that they cost.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tuberry::{
    bridge::ingest::polls::poll,
    platform::db::{Scope, Statement},
};

use super::{stop, task};
use crate::support::{World, must, shop::Shop};

#[tokio::test]
async fn every_ten_minutes_a_chat_that_avito_lists_out_of_order_is_found_by_its_unread_messages() {
    let shop = Shop::polled().await;
    let chat = shop.chat().await;
    shop.poll_when_due().await;
    shop.writes(&chat, "Старое место в списке", false).await;
    // After this poll the page of all chats is unchanged, so the next poll of it finds nothing.
    shop.poll_when_due().await;
    assert_eq!(shop.recorded().await.len(), 1);
    shop.change("DELETE FROM messages WHERE avito_account_id = $1").await;
    shop.change("UPDATE chat_polls SET synced_message_id = NULL, listed_updated = NULL WHERE avito_account_id = $1")
        .await;
    shop.poll_when_due().await;
    assert_eq!(shop.recorded().await.len(), 0);

    shop.change("UPDATE account_polls SET unread_list_at = now() WHERE avito_account_id = $1").await;
    let since = shop.calls_so_far().await;
    shop.poll_when_due().await;

    assert_eq!(shop.recorded().await, ["Старое место в списке"]);
    assert_eq!(shop.calls(since).await, ["chats.list", "chats.list", "messages.list"]);
    let since = shop.calls_so_far().await;
    shop.poll_when_due().await;
    assert_eq!(shop.calls(since).await, ["chats.list"], "not before ten minutes are over");
}

#[tokio::test]
async fn with_redis_away_accounts_are_polled_at_a_slow_pace() {
    let shop = Shop::polled_with(&[("REDIS_URL", "redis://127.0.0.1:1")]).await;
    let chat = shop.chat().await;
    shop.writes(&chat, "Без Redis", false).await;
    let began = Instant::now();

    shop.poll_when_due().await;

    assert_eq!(shop.recorded().await, ["Без Redis"]);
    assert!(began.elapsed() > Duration::from_millis(2500), "two calls, three seconds apart");
}

#[tokio::test]
async fn two_thousand_accounts_without_changes_cost_one_call_each_and_half_a_minute_at_most() {
    const ACCOUNTS: i64 = 2000;
    let shop = Shop::polled().await;
    let (app, client) = (shop.world.app, Scope::Tenant(shop.owner.client));
    let first = 3_000_000_000_000_000 + World::new_id() % 100_000_000_000 * ACCOUNTS;
    for number in 0..ACCOUNTS {
        let keys = json!({
            "client_id": format!("many-{}", first + number), "client_secret": shop.outside.api_client_secret,
            "user_id": first + number,
        });
        shop.world.control("avito/accounts", &keys).await;
    }
    let insert = Statement::new(
        "INSERT INTO avito_accounts (client_id, bot_id, name, user_id, api_client_id, api_client_secret, webhook_secret,
                                     webhook_secret_hash, webhook_registered_at, webhook_state)
         SELECT a.client_id, a.bot_id, a.name, $2 + n, 'many-' || ($2 + n), a.api_client_secret, a.webhook_secret,
                a.webhook_secret_hash, now(), 'registered'
         FROM avito_accounts a, generate_series(0, $3 - 1) AS n WHERE a.id = $1",
    );
    shop.world.query(client, insert.bind(shop.account_id).bind(first).bind(ACCOUNTS)).await;
    let start = Statement::new(
        "INSERT INTO account_polls (avito_account_id, client_id, next_poll_at, unread_list_at)
         SELECT id, client_id, now() + interval '1 day', now() + interval '1 day' FROM avito_accounts WHERE user_id >= $1
           AND user_id < $1 + $2
         RETURNING avito_account_id",
    );
    let rows = shop.world.query(Scope::Tenant(shop.owner.client), start.bind(first).bind(ACCOUNTS)).await;
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    // The first poll gets tokens and has seen every chat there is: none.
    poll_all(&shop, &ids).await;
    let (since, round_trips, cache) = (shop.calls_so_far().await, app.db().round_trips(), app.cache().round_trips());
    let began = Instant::now();
    let extra = poll_all(&shop, &ids).await;
    let took = began.elapsed();

    let calls = shop.world.ask(&format!("calls?target=avito&since={since}")).await;
    let calls = calls["calls"].as_array().cloned().unwrap_or_default();
    let mine = |call: &&Value| call["user_id"].as_i64().is_some_and(|id| (first..first + ACCOUNTS).contains(&id));
    let mut polled: Vec<i64> = calls.iter().filter(mine).filter_map(|call| call["user_id"].as_i64()).collect();
    assert!(calls.iter().filter(mine).all(|call| call["method"] == json!("chats.list")));
    polled.sort_unstable();
    assert_eq!(polled, (first..first + ACCOUNTS).collect::<Vec<_>>(), "one call each");
    let round_trips = app.db().round_trips() - round_trips - extra;
    let cache = app.cache().round_trips() - cache;
    assert_eq!(round_trips, ids.len().div_ceil(50) as u64);
    assert!(cache <= 2 * ids.len() as u64, "{cache}");
    assert!(took < Duration::from_secs(30), "{took:?}");
}

/// Polls all of them as the worker does, fifty a task; returns how many round trips to Postgres were the test's own.
async fn poll_all(shop: &Shop, ids: &[i64]) -> u64 {
    let mut own = 0;
    for ids in ids.chunks(50) {
        // Only now: the stack's own poll takes every account that is due for long enough.
        let due = Statement::new("UPDATE account_polls SET next_poll_at = now() WHERE avito_account_id = ANY($1)");
        shop.world.query(Scope::Tenant(shop.owner.client), due.bind(ids.to_vec())).await;
        own += 1;
        must(poll(shop.world.app, &task(ids.to_vec()), stop()).await);
    }
    own
}
