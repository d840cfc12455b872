//! The poll, in this process against the stack's Postgres, Redis and Avito: how often an account is polled, how many
//! calls that costs, and accounts that Avito refuses. Long intervals keep the stack's own poll away.

mod busy;
mod failing_chats;
mod intervals;
mod refusals;
mod webhooks;

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
        let statements = vec![polls::start_polling(shop.outside.user_id), Statement::new(hold).bind(shop.account_id)];
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
        // A wait may be a fifth longer than its interval.
        assert!(seconds > TRUSTED / 2 || seconds <= USUAL * 6 / 5, "{seconds}");
        seconds > USUAL * 6 / 5
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

    /// Opens a further chat, and returns its id.
    async fn another_chat(&self) -> String {
        let item = json!({ "id": World::new_id(), "title": "Стул", "url": "https://www.avito.ru/2" });
        let chat = json!({ "user_id": self.outside.user_id, "buyer": { "name": "Борис" }, "item": item });
        self.world.control("avito/chats", &chat).await["chat_id"].as_str().unwrap_or_default().to_owned()
    }

    /// Has a message written, without a webhook unless it says otherwise.
    async fn message(&self, mut message: Value) -> Value {
        if message.get("webhook").is_none() {
            message["webhook"] = json!(false);
        }
        self.world.control("avito/messages", &message).await
    }

    /// Waits until so many messages are recorded.
    async fn recorded_are(&self, count: usize) {
        for _ in 0..100 {
            if self.recorded().await.len() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{count} messages are not recorded");
    }

    /// Counts rows; `$1` is the account's id.
    async fn count(&self, sql: &'static str) -> i64 {
        self.world.query(Scope::Tenant(self.owner.client), Statement::new(sql).bind(self.account_id)).await[0].get(0)
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
