//! The poll, in this process against the stack's Postgres, Redis and Avito: how often an account is looked at, what that
//! costs, and what happens to one that Avito does not let in. The stack's own poll is kept away by long intervals.

mod support;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use support::{OutsideAccount, Owner, World};
use tuberry::{
    bridge::{
        deliver::deliver_to_avito,
        polls::{self, poll},
        tasks::PollTask,
    },
    platform::db::{Scope, Statement},
    tenancy::accounts::{self, Keys},
};

fn must<T, E: std::fmt::Display>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| panic!("{error}"))
}

const USUAL: i64 = 3600;
const TRUSTED: i64 = 86_400;

/// An account that only this process polls.
struct Shop {
    world: World,
    owner: Owner,
    outside: OutsideAccount,
    account_id: i64,
}

impl Shop {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(changed: &[(&str, &str)]) -> Self {
        let world = World::new();
        let owner = world.owner().await;
        let (bot, _) = world.bot(&owner).await;
        let (account, outside) = world.account(&owner, bot.id).await;
        let (usual, trusted) = (USUAL.to_string(), TRUSTED.to_string());
        let mut all = vec![("POLL_INTERVAL_SECONDS", &*usual), ("WEBHOOK_POLL_INTERVAL_SECONDS", &*trusted)];
        all.extend(changed);
        let shop = Self { world: World::with(&all), owner, outside, account_id: account.id };
        let hold = "UPDATE account_polls SET next_poll_at = now() + interval '1 day', unread_list_at = now() + interval '1 day'
                    WHERE avito_account_id = $1";
        let statements = vec![polls::start_polling(account.id), Statement::new(hold).bind(account.id)];
        must(shop.world.app.db().run(Scope::Tenant(shop.owner.client), statements).await);
        // Avito counts in seconds: what is written from now on is written after the registration.
        shop.change(
            "UPDATE avito_accounts SET webhook_registered_at = webhook_registered_at - interval '2 seconds' WHERE id = $1",
        )
        .await;
        shop
    }

    /// Changes rows of this account; `$1` is its id.
    async fn change(&self, sql: &'static str) {
        self.world.query(Scope::Tenant(self.owner.client), Statement::new(sql).bind(self.account_id)).await;
    }

    async fn due(&self) {
        self.change("UPDATE account_polls SET next_poll_at = now() WHERE avito_account_id = $1").await;
    }

    /// Lets the poll come by, whether or not the account is due.
    async fn poll(&self) {
        must(poll(self.world.app, &task(vec![self.account_id]), stop()).await);
    }

    /// A poll that is due.
    async fn turn(&self) {
        self.due().await;
        self.poll().await;
    }

    /// How long the account rests now, seconds.
    async fn rests(&self) -> i64 {
        let sql = "SELECT extract(epoch FROM next_poll_at - now())::bigint AS rest FROM account_polls WHERE avito_account_id = $1";
        let rows = self.world.query(Scope::Service, Statement::new(sql).bind(self.account_id)).await;
        rows[0].get("rest")
    }

    async fn is_polled_rarely(&self) -> bool {
        let rest = self.rests().await;
        assert!(rest > TRUSTED / 2 || rest <= USUAL, "{rest}");
        rest > USUAL
    }

    /// What Avito was asked for this account since then, in order.
    async fn calls(&self, since: u64) -> Vec<String> {
        let calls = self.world.ask(&format!("calls?target=avito&since={since}")).await;
        let calls = calls["calls"].as_array().cloned().unwrap_or_default();
        // A call for a token names no account but its keys.
        let is_mine = |call: &&Value| {
            call["user_id"] == json!(self.outside.user_id) || call["params"]["client_id"] == self.outside.api_client_id
        };
        calls.iter().filter(is_mine).map(|call| call["method"].as_str().unwrap_or_default().to_owned()).collect()
    }

    async fn calls_so_far(&self) -> u64 {
        self.world.ask(&format!("calls?since={}", u64::MAX)).await["next_index"].as_u64().unwrap_or_default()
    }

    async fn chat(&self) -> String {
        let chat = json!({ "user_id": self.outside.user_id, "buyer": { "name": "Анна" }, "item": { "title": "Стол" } });
        self.world.control("avito/chats", &chat).await["chat_id"].as_str().unwrap_or_default().to_owned()
    }

    async fn writes(&self, chat: &str, text: &str, webhook: bool) {
        let message = json!({ "chat": chat, "from": "buyer", "text": text, "webhook": webhook });
        self.world.control("avito/messages", &message).await;
    }

    /// The texts that are recorded, oldest first.
    async fn recorded(&self) -> Vec<String> {
        let sql = "SELECT text FROM messages WHERE avito_account_id = $1 ORDER BY avito_created, id";
        let rows = self.world.query(Scope::Tenant(self.owner.client), Statement::new(sql).bind(self.account_id)).await;
        rows.iter().map(|row| row.get("text")).collect()
    }

    /// A minute passes for what no webhook has told of.
    async fn a_minute_later(&self) {
        self.change("UPDATE messages SET created_at = created_at - interval '61 seconds' WHERE avito_account_id = $1")
            .await;
        self.change(
            "UPDATE account_polls SET unreported_since = unreported_since - interval '61 seconds' WHERE avito_account_id = $1",
        )
        .await;
    }

    /// Somebody answers in the only chat.
    async fn answers(&self, text: &str) {
        let write = Statement::new(
            "WITH message AS (
                 INSERT INTO messages (client_id, dialog_id, avito_account_id, bot_id, direction, origin, kind, text, status, needs_post)
                 SELECT client_id, id, avito_account_id, bot_id, 'out', 'api', 'text', $2, 'sending', false
                 FROM dialogs WHERE avito_account_id = $1
                 RETURNING *
             ), part AS (
                 INSERT INTO parts (client_id, dialog_id, message_id, avito_account_id, position, text, text_key)
                 SELECT client_id, dialog_id, id, avito_account_id, 0, text, text FROM message
             )
             UPDATE dialogs SET send_at = now() WHERE avito_account_id = $1 RETURNING id",
        );
        let write = write.bind(self.account_id).bind(text.to_owned());
        let dialog_id = self.world.query(Scope::Tenant(self.owner.client), write).await[0].get("id");
        let stop = Instant::now() + Duration::from_secs(10);
        must(deliver_to_avito(self.world.app, dialog_id, stop).await);
    }

    async fn has_keys(&self, secret: &str) {
        let keys = json!({
            "client_id": self.outside.api_client_id, "client_secret": secret, "user_id": self.outside.user_id,
        });
        self.world.control("avito/accounts", &keys).await;
        let ended = json!({ "target": "avito", "kind": "token_expired", "scope": { "user_id": self.outside.user_id } });
        self.world.control("faults", &ended).await;
    }

    async fn notices(&self) -> i64 {
        let sql = "SELECT count(*) FROM owner_notices WHERE client_id = current_client_id()";
        self.world.query(Scope::Tenant(self.owner.client), Statement::new(sql)).await[0].get(0)
    }
}

fn task(account_ids: Vec<i64>) -> PollTask {
    PollTask::V1 { account_ids, due: Timestamp::now() }
}

/// Later than any poll here ends.
fn stop() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test]
async fn an_account_whose_webhooks_tell_of_everything_is_polled_rarely() {
    let shop = Shop::new().await;
    let chat = shop.chat().await;
    shop.turn().await;
    assert!(shop.is_polled_rarely().await);

    // The poll may well be before the webhook.
    shop.writes(&chat, "Здравствуйте", false).await;
    shop.turn().await;
    assert_eq!(shop.recorded().await, ["Здравствуйте"]);
    shop.change("UPDATE messages SET webhook_reported_at = now() WHERE avito_account_id = $1").await;
    shop.a_minute_later().await;
    shop.turn().await;
    shop.turn().await;
    assert!(shop.is_polled_rarely().await);
}

#[tokio::test]
async fn an_account_is_polled_often_for_a_day_after_a_webhook_was_missed() {
    let shop = Shop::new().await;
    let chat = shop.chat().await;
    shop.turn().await;
    shop.writes(&chat, "Никто не сказал", false).await;

    shop.turn().await;
    shop.turn().await;
    assert!(!shop.is_polled_rarely().await, "while it is not known whether the webhook comes");
    shop.a_minute_later().await;
    shop.turn().await;
    shop.turn().await;
    assert!(!shop.is_polled_rarely().await, "it did not come");

    shop.change("UPDATE account_polls SET webhook_missed_at = now() - interval '25 hours' WHERE avito_account_id = $1")
        .await;
    shop.turn().await;
    assert!(shop.is_polled_rarely().await);
}

#[tokio::test]
async fn what_was_unread_when_the_account_was_connected_says_nothing_of_its_webhook() {
    let shop = Shop::new().await;
    let chat = shop.chat().await;
    shop.writes(&chat, "Ещё продаёте?", false).await;
    shop.change("UPDATE avito_accounts SET webhook_registered_at = now() + interval '2 seconds' WHERE id = $1").await;

    shop.turn().await;
    shop.turn().await;

    assert_eq!(shop.recorded().await, ["Ещё продаёте?"]);
    assert!(shop.is_polled_rarely().await);
}

#[tokio::test]
async fn an_account_that_avito_sends_no_webhooks_for_is_polled_often() {
    let shop = Shop::new().await;
    shop.change("UPDATE avito_accounts SET webhook_error = 'Forbidden' WHERE id = $1").await;
    shop.turn().await;
    assert!(!shop.is_polled_rarely().await);
}

#[tokio::test]
async fn every_ten_minutes_a_chat_that_avito_lists_out_of_order_is_found_by_its_unread_messages() {
    let shop = Shop::new().await;
    let chat = shop.chat().await;
    shop.turn().await;
    shop.writes(&chat, "Старое место в списке", false).await;
    // To the poll of all chats this page is no news.
    shop.turn().await;
    assert_eq!(shop.recorded().await.len(), 1);
    shop.change("DELETE FROM messages WHERE avito_account_id = $1").await;
    shop.change("UPDATE dialogs SET synced_message_id = NULL, synced_updated = NULL WHERE avito_account_id = $1").await;
    shop.turn().await;
    assert_eq!(shop.recorded().await.len(), 0);

    shop.change("UPDATE account_polls SET unread_list_at = now() WHERE avito_account_id = $1").await;
    let since = shop.calls_so_far().await;
    shop.turn().await;

    assert_eq!(shop.recorded().await, ["Старое место в списке"]);
    assert_eq!(shop.calls(since).await, ["chats.list", "chats.list", "messages.list"]);
    let since = shop.calls_so_far().await;
    shop.turn().await;
    assert_eq!(shop.calls(since).await, ["chats.list"], "not before ten minutes are over");
}

#[tokio::test]
async fn an_account_with_broken_keys_is_reported_once_and_tried_hourly() {
    let shop = Shop::new().await;
    shop.turn().await;
    shop.has_keys("another secret").await;

    let since = shop.calls_so_far().await;
    shop.turn().await;
    assert_eq!(shop.calls(since).await, ["chats.list", "token"]);
    assert_eq!(shop.notices().await, 1);
    for _ in 0..3 {
        shop.poll().await;
    }
    assert_eq!(shop.calls(since).await.len(), 2, "nothing between");
    assert!((3500..=3600).contains(&shop.rests().await));

    let since = shop.calls_so_far().await;
    shop.turn().await;
    assert_eq!(shop.calls(since).await, ["chats.list", "token"]);
    assert!((3500..=3600).contains(&shop.rests().await));
    assert_eq!(shop.notices().await, 1);

    shop.has_keys(&shop.outside.api_client_secret).await;
    shop.turn().await;
    shop.turn().await;
    assert!(shop.is_polled_rarely().await, "its keys are whole again");
    assert_eq!(shop.notices().await, 1);
}

#[tokio::test]
async fn a_poll_that_fails_for_a_passing_reason_is_made_again_at_the_usual_pace() {
    let shop = Shop::new().await;
    shop.turn().await;
    assert!(shop.is_polled_rarely().await);
    let out_of_order = json!({ "target": "avito", "method": "chats.list", "kind": "status", "status": 503, "times": 1,
                               "scope": { "user_id": shop.outside.user_id } });
    shop.world.control("faults", &out_of_order).await;

    shop.turn().await;
    assert!(!shop.is_polled_rarely().await);
    assert_eq!(shop.notices().await, 0);

    shop.turn().await;
    assert!(shop.is_polled_rarely().await, "Avito answers again");
}

#[tokio::test]
async fn whoever_meets_an_ended_token_second_takes_the_one_that_the_first_got() {
    let shop = Shop::new().await;
    let read = || async {
        let sql = "SELECT * FROM tenancy_accounts WHERE avito_account_id = $1";
        let rows = shop.world.query(Scope::Tenant(shop.owner.client), Statement::new(sql).bind(shop.account_id)).await;
        must(Keys::read(&rows[0]))
    };
    let (first, second) = (read().await, read().await);
    let ended = must(accounts::access_token(shop.world.app, &first).await);
    let since = shop.calls_so_far().await;

    let renewed = must(accounts::renewed_token(shop.world.app, &first, &ended).await);
    let taken = must(accounts::renewed_token(shop.world.app, &second, &ended).await);

    assert!(renewed.expose() != ended.expose() && taken.expose() == renewed.expose());
    assert_eq!(shop.calls(since).await, ["token"]);
}

#[tokio::test]
async fn polls_leave_a_part_of_what_avito_allows_to_answers() {
    let shop = Shop::new().await;
    let keys = json!({
        "client_id": shop.outside.api_client_id, "client_secret": shop.outside.api_client_secret,
        "user_id": shop.outside.user_id, "calls_per_minute": 30,
    });
    let chat = shop.chat().await;
    shop.writes(&chat, "Ещё продаёте?", false).await;
    shop.turn().await;
    wait_for_a_young_minute().await;
    shop.world.control("avito/accounts", &keys).await;
    let since = shop.calls_so_far().await;

    for _ in 0..25 {
        shop.turn().await;
    }
    assert_eq!(shop.calls(since).await, vec!["chats.list"; 20], "a third is left");

    shop.answers("Да, продаём").await;
    assert_eq!(shop.calls(since).await.split_off(20), ["messages.send"]);
}

#[tokio::test]
async fn a_429_stops_polls_until_avito_takes_calls_again() {
    let shop = Shop::new().await;
    shop.turn().await;
    let busy = json!({
        "target": "avito", "kind": "status", "status": 429, "retry_after": 2, "method": "chats.list", "times": 1,
        "scope": { "user_id": shop.outside.user_id },
    });
    shop.world.control("faults", &busy).await;
    let since = shop.calls_so_far().await;

    shop.turn().await;
    shop.turn().await;
    assert_eq!(shop.calls(since).await, ["chats.list"], "the second one did not even ask");

    let deadline = Instant::now() + Duration::from_secs(10);
    while shop.calls(since).await.len() < 2 {
        assert!(Instant::now() < deadline, "it asks again");
        shop.turn().await;
    }
}

/// The limits are by the minute, and what is counted here is to fall into one.
async fn wait_for_a_young_minute() {
    while Timestamp::now().as_second().rem_euclid(60) > 45 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn with_redis_away_accounts_are_polled_at_a_slow_pace() {
    let shop = Shop::with(&[("REDIS_URL", "redis://127.0.0.1:1")]).await;
    let chat = shop.chat().await;
    shop.writes(&chat, "Без Redis", false).await;
    let began = Instant::now();

    shop.turn().await;

    assert_eq!(shop.recorded().await, ["Без Redis"]);
    assert!(began.elapsed() > Duration::from_millis(2500), "two calls, three seconds apart");
}

#[tokio::test]
async fn two_thousand_accounts_without_news_cost_one_call_each_and_half_a_minute_at_most() {
    const ACCOUNTS: i64 = 2000;
    let shop = Shop::new().await;
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
                                     webhook_secret_hash, webhook_registered_at)
         SELECT a.client_id, a.bot_id, a.name, $2 + n, 'many-' || ($2 + n), a.api_client_secret, a.webhook_secret,
                a.webhook_secret_hash, now()
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
    all(&shop, &ids).await;
    let (since, round_trips, cache) = (shop.calls_so_far().await, app.db().round_trips(), app.cache().round_trips());
    let began = Instant::now();
    let extra = all(&shop, &ids).await;
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

/// Polls all of them as the worker does, fifty a task; answers how many round trips to Postgres were the test's own.
async fn all(shop: &Shop, ids: &[i64]) -> u64 {
    let mut own = 0;
    for ids in ids.chunks(50) {
        // Only now: the stack polls whatever is due for long enough.
        let due = Statement::new("UPDATE account_polls SET next_poll_at = now() WHERE avito_account_id = ANY($1)");
        shop.world.query(Scope::Tenant(shop.owner.client), due.bind(ids.to_vec())).await;
        own += 1;
        must(poll(shop.world.app, &task(ids.to_vec()), stop()).await);
    }
    own
}
