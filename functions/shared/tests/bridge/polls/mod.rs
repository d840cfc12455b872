//! The poll, in this process against the stack's Postgres, Redis and Avito: how often an account is polled, how many
//! calls that costs, and accounts that Avito refuses. Long intervals keep the stack's own poll away.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tuberry::{
    bridge::{
        ingest::polls::{self, poll},
        queue_tasks::PollTask,
        to_avito::worker::deliver_to_avito,
    },
    platform::db::{Scope, Statement},
    tenancy::accounts::{self, Keys},
};

use crate::support::{World, must, shop::Shop};

const USUAL: i64 = 3600;
const TRUSTED: i64 = 86_400;

impl Shop {
    /// A shop whose account only this process polls.
    async fn polled() -> Self {
        Self::polled_with(&[]).await
    }

    /// As [`Shop::polled`], with some variables set otherwise.
    async fn polled_with(changed: &[(&str, &str)]) -> Self {
        let mut shop = Self::new().await;
        let (usual, trusted) = (USUAL.to_string(), TRUSTED.to_string());
        let mut all = vec![("POLL_INTERVAL_SECONDS", &*usual), ("WEBHOOK_POLL_INTERVAL_SECONDS", &*trusted)];
        all.extend(changed);
        shop.world = World::with(&all);
        let hold = "UPDATE account_polls SET next_poll_at = now() + interval '1 day', unread_list_at = now() + interval '1 day'
                    WHERE avito_account_id = $1";
        let statements = vec![polls::start_polling(shop.account_id), Statement::new(hold).bind(shop.account_id)];
        must(shop.world.app.db().run(Scope::Tenant(shop.owner.client), statements).await);
        // Avito's times are whole seconds: messages from now on are to be later than the registration.
        shop.change(
            "UPDATE avito_accounts SET webhook_registered_at = webhook_registered_at - interval '2 seconds' WHERE id = $1",
        )
        .await;
        shop
    }

    async fn make_due(&self) {
        self.change("UPDATE account_polls SET next_poll_at = now() WHERE avito_account_id = $1").await;
    }

    /// Runs the poll, even if the account is not due.
    async fn poll(&self) {
        must(poll(self.world.app, &task(vec![self.account_id]), stop()).await);
    }

    /// Makes the account due and runs the poll.
    async fn poll_when_due(&self) {
        self.make_due().await;
        self.poll().await;
    }

    /// Reads the time until the next poll, in seconds.
    async fn seconds_to_next_poll(&self) -> i64 {
        let sql = "SELECT extract(epoch FROM next_poll_at - now())::bigint AS rest FROM account_polls WHERE avito_account_id = $1";
        let rows = self.world.query(Scope::Service, Statement::new(sql).bind(self.account_id)).await;
        rows[0].get("rest")
    }

    async fn is_polled_rarely(&self) -> bool {
        let seconds = self.seconds_to_next_poll().await;
        assert!(seconds > TRUSTED / 2 || seconds <= USUAL, "{seconds}");
        seconds > USUAL
    }

    /// Lists the methods that were called for this account after `since`, in order.
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
        self.world.ask(&format!("calls?since={}", u64::MAX)).await["next"].as_u64().unwrap_or_default()
    }

    async fn writes(&self, chat: &str, text: &str, webhook: bool) {
        let message = json!({ "chat": chat, "from": "buyer", "text": text, "webhook": webhook });
        self.world.control("avito/messages", &message).await;
    }

    /// Reads the texts that are recorded, oldest first.
    async fn recorded(&self) -> Vec<String> {
        let sql = "SELECT text FROM messages WHERE avito_account_id = $1 ORDER BY avito_created, id";
        let rows = self.world.query(Scope::Tenant(self.owner.client), Statement::new(sql).bind(self.account_id)).await;
        rows.iter().map(|row| row.get("text")).collect()
    }

    /// Lets a minute pass for messages that no webhook has reported.
    async fn a_minute_later(&self) {
        self.change("UPDATE messages SET created_at = created_at - interval '61 seconds' WHERE avito_account_id = $1")
            .await;
        self.change(
            "UPDATE account_polls SET unreported_since = unreported_since - interval '61 seconds' WHERE avito_account_id = $1",
        )
        .await;
    }

    /// Sends an answer in the only chat.
    async fn sends(&self, text: &str) {
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
        let expired =
            json!({ "target": "avito", "kind": "token_expired", "scope": { "user_id": self.outside.user_id } });
        self.world.control("faults", &expired).await;
    }

    async fn notices(&self) -> i64 {
        let sql = "SELECT count(*) FROM owner_notices WHERE client_id = current_client_id()";
        self.world.query(Scope::Tenant(self.owner.client), Statement::new(sql)).await[0].get(0)
    }
}

fn task(account_ids: Vec<i64>) -> PollTask {
    PollTask::V1 { account_ids, due: Timestamp::now() }
}

/// A moment after the end of any poll here.
fn stop() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test]
async fn an_account_whose_webhooks_report_everything_is_polled_rarely() {
    let shop = Shop::polled().await;
    let chat = shop.chat().await;
    shop.poll_when_due().await;
    assert!(shop.is_polled_rarely().await);

    // The poll may come before the webhook.
    shop.writes(&chat, "Здравствуйте", false).await;
    shop.poll_when_due().await;
    assert_eq!(shop.recorded().await, ["Здравствуйте"]);
    shop.change("UPDATE messages SET webhook_reported_at = now() WHERE avito_account_id = $1").await;
    shop.a_minute_later().await;
    shop.poll_when_due().await;
    shop.poll_when_due().await;
    assert!(shop.is_polled_rarely().await);
}

#[tokio::test]
async fn an_account_is_polled_often_for_a_day_after_a_webhook_was_missed() {
    let shop = Shop::polled().await;
    let chat = shop.chat().await;
    shop.poll_when_due().await;
    shop.writes(&chat, "Никто не сказал", false).await;

    shop.poll_when_due().await;
    shop.poll_when_due().await;
    assert!(!shop.is_polled_rarely().await, "while it is not known whether the webhook comes");
    shop.a_minute_later().await;
    shop.poll_when_due().await;
    shop.poll_when_due().await;
    assert!(!shop.is_polled_rarely().await, "it did not come");

    shop.change("UPDATE account_polls SET webhook_missed_at = now() - interval '25 hours' WHERE avito_account_id = $1")
        .await;
    shop.poll_when_due().await;
    assert!(shop.is_polled_rarely().await);
}

#[tokio::test]
async fn a_message_that_is_older_than_the_webhooks_registration_is_no_missed_webhook() {
    let shop = Shop::polled().await;
    let chat = shop.chat().await;
    shop.writes(&chat, "Ещё продаёте?", false).await;
    shop.change("UPDATE avito_accounts SET webhook_registered_at = now() + interval '2 seconds' WHERE id = $1").await;

    shop.poll_when_due().await;
    shop.poll_when_due().await;

    assert_eq!(shop.recorded().await, ["Ещё продаёте?"]);
    assert!(shop.is_polled_rarely().await);
}

#[tokio::test]
async fn an_account_that_avito_sends_no_webhooks_for_is_polled_often() {
    let shop = Shop::polled().await;
    shop.change("UPDATE avito_accounts SET webhook_error = 'Forbidden' WHERE id = $1").await;
    shop.poll_when_due().await;
    assert!(!shop.is_polled_rarely().await);
}

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
    shop.change("UPDATE dialogs SET synced_message_id = NULL, synced_updated = NULL WHERE avito_account_id = $1").await;
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
async fn the_owner_of_an_account_with_broken_keys_is_notified_once_and_the_account_is_polled_hourly() {
    let shop = Shop::polled().await;
    shop.poll_when_due().await;
    shop.has_keys("another secret").await;

    let since = shop.calls_so_far().await;
    shop.poll_when_due().await;
    assert_eq!(shop.calls(since).await, ["chats.list", "token"]);
    assert_eq!(shop.notices().await, 1);
    for _ in 0..3 {
        shop.poll().await;
    }
    assert_eq!(shop.calls(since).await.len(), 2, "nothing between");
    assert!((3500..=3600).contains(&shop.seconds_to_next_poll().await));

    let since = shop.calls_so_far().await;
    shop.poll_when_due().await;
    assert_eq!(shop.calls(since).await, ["chats.list", "token"]);
    assert!((3500..=3600).contains(&shop.seconds_to_next_poll().await));
    assert_eq!(shop.notices().await, 1);

    shop.has_keys(&shop.outside.api_client_secret).await;
    shop.poll_when_due().await;
    shop.poll_when_due().await;
    assert!(shop.is_polled_rarely().await, "its keys are valid again");
    assert_eq!(shop.notices().await, 1);
}

#[tokio::test]
async fn a_poll_that_fails_for_a_passing_reason_is_repeated_at_the_usual_interval() {
    let shop = Shop::polled().await;
    shop.poll_when_due().await;
    assert!(shop.is_polled_rarely().await);
    let unavailable = json!({ "target": "avito", "method": "chats.list", "kind": "status", "status": 503, "times": 1,
                               "scope": { "user_id": shop.outside.user_id } });
    shop.world.control("faults", &unavailable).await;

    shop.poll_when_due().await;
    assert!(!shop.is_polled_rarely().await);
    assert_eq!(shop.notices().await, 0);

    shop.poll_when_due().await;
    assert!(shop.is_polled_rarely().await, "Avito answers again");
}

#[tokio::test]
async fn a_worker_that_meets_an_expired_token_second_uses_the_token_that_the_first_got() {
    let shop = Shop::polled().await;
    let read = || async {
        let sql = "SELECT * FROM tenancy_accounts WHERE avito_account_id = $1";
        let rows = shop.world.query(Scope::Tenant(shop.owner.client), Statement::new(sql).bind(shop.account_id)).await;
        must(Keys::read(&rows[0]))
    };
    let (first, second) = (read().await, read().await);
    let expired = must(accounts::access_token(shop.world.app, &first).await);
    let since = shop.calls_so_far().await;

    let renewed = must(accounts::renewed_token(shop.world.app, &first, &expired).await);
    let reused = must(accounts::renewed_token(shop.world.app, &second, &expired).await);

    assert!(renewed.expose() != expired.expose() && reused.expose() == renewed.expose());
    assert_eq!(shop.calls(since).await, ["token"]);
}

#[tokio::test]
async fn polls_leave_a_third_of_the_rate_limit_to_answers() {
    let shop = Shop::polled().await;
    let keys = json!({
        "client_id": shop.outside.api_client_id, "client_secret": shop.outside.api_client_secret,
        "user_id": shop.outside.user_id, "calls_per_minute": 30,
    });
    let chat = shop.chat().await;
    shop.writes(&chat, "Ещё продаёте?", false).await;
    shop.poll_when_due().await;
    wait_for_enough_of_a_minute().await;
    shop.world.control("avito/accounts", &keys).await;
    let since = shop.calls_so_far().await;

    for _ in 0..25 {
        shop.poll_when_due().await;
    }
    assert_eq!(shop.calls(since).await, vec!["chats.list"; 20], "a third is left");

    shop.sends("Да, продаём").await;
    assert_eq!(shop.calls(since).await.split_off(20), ["messages.send"]);
}

#[tokio::test]
async fn a_429_stops_polls_until_avito_takes_calls_again() {
    let shop = Shop::polled().await;
    shop.poll_when_due().await;
    let busy = json!({
        "target": "avito", "kind": "status", "status": 429, "retry_after": 2, "method": "chats.list", "times": 1,
        "scope": { "user_id": shop.outside.user_id },
    });
    shop.world.control("faults", &busy).await;
    let since = shop.calls_so_far().await;

    shop.poll_when_due().await;
    shop.poll_when_due().await;
    assert_eq!(shop.calls(since).await, ["chats.list"], "the second poll made no call");

    let deadline = Instant::now() + Duration::from_secs(10);
    while shop.calls(since).await.len() < 2 {
        assert!(Instant::now() < deadline, "it polls again");
        shop.poll_when_due().await;
    }
}

/// Waits until enough of a minute is left: the rate limits are counted by the minute, and a test's calls must fall into
/// one.
async fn wait_for_enough_of_a_minute() {
    while Timestamp::now().as_second().rem_euclid(60) > 45 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
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
