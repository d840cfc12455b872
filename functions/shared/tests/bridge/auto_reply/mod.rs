//! The auto-reply and the filters, from a buyer's message to the calls to Avito and Telegram, and their settings.

mod filters;
mod recording;
mod sending;
mod settings;
mod window;

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tuberry::{
    bridge::{
        ingest::{
            incoming::{IncomingBatch, IncomingMessage, PolledChat},
            record::record,
        },
        text_split,
    },
    platform::db::{Scope, Statement},
    tenancy::clients::{self, Settings},
};

use crate::support::{World, must, shop::Shop};

const REPLY: &str = "Здравствуйте! Ответим утром.";

fn always(settings: &mut Settings) {
    settings.auto_reply_enabled = true;
    settings.auto_reply_always = true;
    REPLY.clone_into(&mut settings.auto_reply_text);
}

type Edit = fn(&mut Settings);

/// Returns a message as the webhook or the poll hands it over.
fn incoming(kind: &str, text: &str, seconds_ago: i64) -> IncomingMessage {
    let created = must(Timestamp::now().checked_sub(SignedDuration::from_secs(seconds_ago)));
    IncomingMessage {
        placeholder: false,
        id: format!("m{}", World::new_id()),
        own: kind == "own",
        system: kind == "system",
        kind: "text".to_owned(),
        text: Some(text.to_owned()),
        text_key: Some(text_split::key(text)),
        attachments: json!({ "text": text }),
        created: must(Timestamp::from_second(created.as_second())),
        position: 0,
    }
}

impl Shop {
    /// A shop with an active auto-reply.
    async fn replying() -> Self {
        Self::replying_in(World::new()).await
    }

    /// As [`Shop::replying`], in this world.
    async fn replying_in(world: World) -> Self {
        let shop = Self::of(world).await;
        shop.set(always).await;
        shop
    }

    async fn set(&self, edit: impl Fn(&mut Settings)) {
        must(clients::change(self.world.app, self.owner.client, self.owner.user_id, edit, |_, _| Vec::new()).await);
    }

    /// Writes in the chat in Avito.
    async fn write(&self, from: &str, text: &str) {
        let body = json!({ "chat": self.chat().await, "from": from, "text": text });
        self.world.control("avito/messages", &body).await;
    }

    /// As [`Shop::write`], but without a webhook.
    async fn write_silently(&self, from: &str, text: &str) {
        let body = json!({ "chat": self.chat().await, "from": from, "text": text, "webhook": false });
        self.world.control("avito/messages", &body).await;
    }

    /// Records messages as a webhook does, or as a poll.
    async fn receive(&self, messages: Vec<IncomingMessage>, by_poll: bool) {
        let polled = PolledChat { buyer: json!({ "name": "Анна" }), item: Value::Null };
        let batch = IncomingBatch {
            account_id: self.account_id,
            user_id: self.outside.user_id,
            chat_id: self.chat().await,
            messages,
            polled: by_poll.then_some(polled),
        };
        must(self.world.app.db().run(Scope::Tenant(self.owner.client), vec![record(self.world.app, &batch)]).await);
        // Before its confirmation a chat gets no auto-reply; here no worker asks Avito for it.
        self.change("UPDATE dialogs SET confirmed_at = coalesce(confirmed_at, now()) WHERE avito_account_id = $1")
            .await;
    }

    /// Reads the dialog's id, the time of its scheduled auto-reply and the time of the last one that was sent.
    async fn dialog(&self) -> Option<(i64, Option<Timestamp>, Option<Timestamp>)> {
        let statement = Statement::new(
            "SELECT id, auto_reply_scheduled_at, auto_reply_last_sent_at FROM dialogs WHERE avito_chat_id = $1",
        );
        let rows = self.world.query(Scope::Tenant(self.owner.client), statement.bind(self.chat().await)).await;
        rows.first().map(|row| (row.get(0), row.get(1), row.get(2)))
    }

    async fn scheduled_at(&self) -> Option<Timestamp> {
        self.dialog().await.and_then(|(_, scheduled_at, _)| scheduled_at)
    }

    /// Lists the account's texts in the chat, of any origin, oldest first.
    async fn answers(&self) -> Vec<String> {
        let chats = self.world.ask(&format!("avito/chats?chat={}", self.chat().await)).await;
        let messages = chats["chats"][0]["messages"].as_array().cloned().unwrap_or_default();
        let own = messages.iter().filter(|message| message["direction"] == "out");
        own.map(|message| message["content"]["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Lists the texts of the group's topics, and finds the newest topic.
    async fn topic(&self) -> (Vec<String>, Option<i64>) {
        let answer = self.world.ask(&format!("telegram/topics?chat_id={}", self.bot.chat_id)).await;
        let topics = answer["topics"].as_array().cloned().unwrap_or_default();
        let of = |topic: &Value| topic["messages"].as_array().cloned().unwrap_or_default();
        let texts = topics.iter().flat_map(of).filter_map(|message| message["text"].as_str().map(str::to_owned));
        (texts.collect(), topics.iter().filter_map(|topic| topic["thread_id"].as_i64()).max())
    }

    async fn count_posts(&self, part: &str) -> usize {
        self.topic().await.0.iter().filter(|text| text.contains(part)).count()
    }

    /// Reads `(origin, status, needs_post)` of the dialog's messages, oldest first.
    async fn rows(&self) -> Vec<(String, String, bool)> {
        let statement = Statement::new(
            "SELECT m.origin, m.status, m.needs_post FROM messages m JOIN dialogs d ON d.id = m.dialog_id
             WHERE d.avito_chat_id = $1 ORDER BY m.id",
        );
        let rows = self.world.query(Scope::Tenant(self.owner.client), statement.bind(self.chat().await)).await;
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    async fn answers_become(&self, expected: &[&str]) {
        let since = Instant::now();
        while self.answers().await != expected {
            assert!(since.elapsed() < Duration::from_secs(25), "{:?}", self.answers().await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until an auto-reply is scheduled; returns its time.
    async fn scheduled(&self) -> Timestamp {
        let since = Instant::now();
        loop {
            if let Some(scheduled_at) = self.scheduled_at().await {
                return scheduled_at;
            }
            assert!(since.elapsed() < Duration::from_secs(10), "no auto-reply was scheduled");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until an auto-reply is scheduled, and moves it by an hour: the test's next steps come before its time,
    /// however slow this machine is. Returns the dialog's id and the auto-reply's time.
    async fn scheduled_later(&self) -> (i64, Timestamp) {
        self.scheduled().await;
        let put_off = Statement::new(
            "UPDATE dialogs SET auto_reply_scheduled_at = auto_reply_scheduled_at + interval '1 hour'
             WHERE avito_chat_id = $1 AND auto_reply_scheduled_at IS NOT NULL
             RETURNING id, auto_reply_scheduled_at",
        );
        let rows = self.world.query(Scope::Tenant(self.owner.client), put_off.bind(self.chat().await)).await;
        (rows[0].get(0), rows[0].get(1))
    }

    /// Waits until no auto-reply is scheduled.
    async fn unscheduled(&self) {
        let since = Instant::now();
        while self.scheduled_at().await.is_some() {
            assert!(since.elapsed() < Duration::from_secs(20), "the auto-reply stays scheduled");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_posted(&self, part: &str) {
        let since = Instant::now();
        while self.count_posts(part).await == 0 {
            assert!(since.elapsed() < Duration::from_secs(20), "{part} is not posted: {:?}", self.topic().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A world with a long delay, so that the stack's own queue does not come in between.
fn slow_world() -> World {
    World::with(&[("AUTO_REPLY_DELAY_SECONDS", "75")])
}
