//! A seller with a bot, a group and an Avito account that belong to one test, and the people on both sides.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Answer, AvitoMessage, Call, GroupMessage, LATER, SOON, Stack, Topic, database, new_number, try_until, wait_until,
};

/// A person who sells on Avito and has connected a bot and an account, all of which belong to one test.
#[derive(Clone)]
pub(crate) struct Seller {
    pub(crate) stack: Stack,
    pub(crate) access_token: String,
    /// The owner's Telegram id.
    pub(crate) owner: i64,
    pub(crate) bot_id: i64,
    pub(crate) bot_token: String,
    pub(crate) group: i64,
    pub(crate) account_id: i64,
    pub(crate) user_id: i64,
}

impl Seller {
    /// Signs in, lets a bot into a group, connects it and an Avito account, all by the API.
    pub(crate) async fn new() -> Self {
        let stack = Stack::new();
        let owner = new_number();
        let access_token = stack.sign_in(owner).await;
        let number = new_number();
        let (bot_token, group) = (format!("{number}:AA_only_for_tests_{number}"), -1_000_000_000_000 - number);
        stack.control("telegram/bots", &json!({ "token": bot_token, "username": format!("shop_{number}_bot") })).await;
        let chat = json!({ "chat_id": group, "title": "Магазин", "is_forum": true, "bot_token": bot_token });
        stack.control("telegram/chats", &chat).await;
        let bot = json!({ "token": bot_token, "group_chat_id": group });
        let bot = stack.post("/api/bots", Some(&access_token), &bot).await;
        assert_eq!(bot.status, 201, "{bot:?}");
        let bot_id = bot.body["id"].as_i64().expect("the bot's id");

        let user_id = new_number();
        let (id, secret) = (format!("id-{user_id}"), format!("secret-of-{user_id}"));
        let keys = json!({ "client_id": id, "client_secret": secret, "user_id": user_id, "name": "Лавка" });
        stack.control("avito/accounts", &keys).await;
        let account = json!({ "name": "Лавка", "api_client_id": id, "api_client_secret": secret, "bot_id": bot_id });
        let account = stack.post("/api/avito/accounts", Some(&access_token), &account).await;
        assert_eq!(account.status, 201, "{account:?}");
        assert_eq!(account.body["webhook_error"], Value::Null);
        let account_id = account.body["id"].as_i64().expect("the account's id");
        Self { stack, access_token, owner, bot_id, bot_token, group, account_id, user_id }
    }

    /// Opens a chat of a buyer about a table.
    pub(crate) async fn chat(&self, buyer: &str) -> String {
        let item = json!({
            "id": new_number(), "title": "Стол дубовый", "price_string": "12 000 ₽", "url": "https://www.avito.ru/stol_1",
            "city": "Москва",
        });
        let chat = json!({ "user_id": self.user_id, "buyer": { "name": buyer }, "item": item });
        self.stack.control("avito/chats", &chat).await["chat_id"].as_str().expect("an id").to_owned()
    }

    /// Writes as the buyer; Avito sends a webhook. Returns Avito's id of the message.
    pub(crate) async fn buyer_writes(&self, chat: &str, text: &str) -> String {
        self.avito_message(json!({ "chat": chat, "from": "buyer", "text": text })).await
    }

    /// Puts a message into an Avito chat; returns Avito's id of it.
    pub(crate) async fn avito_message(&self, message: Value) -> String {
        self.stack.control("avito/messages", &message).await["message_id"].as_str().expect("an id").to_owned()
    }

    /// Writes as an operator in a topic; returns Telegram's id of the message.
    pub(crate) async fn operator_writes(&self, thread: i64, text: &str) -> i64 {
        self.operator_sends(json!({ "thread_id": thread, "text": text })).await
    }

    /// Sends a message as an operator; returns Telegram's id of it.
    pub(crate) async fn operator_sends(&self, mut message: Value) -> i64 {
        message["chat_id"] = json!(self.group);
        self.stack.control("telegram/messages", &message).await["message_id"].as_i64().expect("an id")
    }

    /// Lists the topics of the group that are not deleted.
    pub(crate) async fn topics(&self) -> Vec<Topic> {
        let mut topics = self.all_topics().await;
        topics.retain(|topic| topic.thread_id.is_some() && !topic.deleted);
        topics
    }

    /// Lists everything that was ever in the group, by topic; messages outside topics come first.
    pub(crate) async fn all_topics(&self) -> Vec<Topic> {
        let answer = self.stack.ask(&format!("telegram/topics?chat_id={}", self.group)).await;
        serde_json::from_value(answer["topics"].clone()).expect("topics")
    }

    /// Returns a buyer's topic. None: there is none, or there are several.
    pub(crate) async fn topic_of(&self, buyer: &str) -> Option<Topic> {
        let is_buyers = |topic: &Topic| topic.name.as_deref().is_some_and(|name| name.ends_with(buyer));
        let mut found: Vec<Topic> = self.topics().await.into_iter().filter(is_buyers).collect();
        if found.len() == 1 { found.pop() } else { None }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.stack.get(path, Some(&self.access_token)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.stack.post(path, Some(&self.access_token), body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {}", self.access_token);
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        self.stack.call(Method::PATCH, path, &headers, body.to_string().into_bytes()).await
    }

    /// Waits until a buyer's topic says this, as its last line.
    pub(crate) async fn said(&self, within: Duration, buyer: &str, last: &str) -> Topic {
        let mut lines = Vec::new();
        let topic = try_until(within, async || {
            let topic = self.topic_of(buyer).await?;
            lines = topic.said();
            (lines.last().map(String::as_str) == Some(last)).then_some(topic)
        });
        let topic = topic.await;
        topic.unwrap_or_else(|| panic!("within {within:?} «{last}» is not the last line of {buyer}'s topic: {lines:?}"))
    }

    /// Waits for a post of the bot that contains this text, in any topic or in none.
    pub(crate) async fn posted(&self, part: &str) -> GroupMessage {
        wait_until(LATER, &format!("a post with «{part}»"), async || {
            let messages = self.all_topics().await.into_iter().flat_map(|topic| topic.messages);
            messages.into_iter().find(|message| {
                message.from_bot && !message.deleted && message.text.as_deref().is_some_and(|text| text.contains(part))
            })
        })
        .await
    }

    /// Posts an update to the bot's webhook, with both secrets right.
    pub(crate) async fn bot_receives(&self, update: &Value) {
        let (url, secret) = self.telegram_webhook().await;
        let headers = [("x-telegram-bot-api-secret-token", secret.as_str()), ("content-type", "application/json")];
        let answer = self.stack.call(Method::POST, &url, &headers, update.to_string().into()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Makes the account's poll due, and runs the round that takes it.
    pub(crate) async fn poll_now(&self) {
        let due = "UPDATE account_polls SET next_poll_at = now() - interval '1 second' WHERE avito_account_id = $1";
        database().await.execute(due, &[&self.account_id]).await.expect("the poll");
        self.stack.run_schedule("poll-avito").await;
    }

    /// Opens a chat, and waits until its topic has the first message; returns the chat and the topic.
    pub(crate) async fn conversation(&self, buyer: &str) -> (String, i64) {
        let chat = self.chat(buyer).await;
        self.buyer_writes(&chat, "Здравствуйте").await;
        let topic = self.said(SOON, buyer, "Здравствуйте").await;
        (chat, topic.thread())
    }

    /// Stops posts into the group until [`Seller::resume_posting`]. Something must have been posted before.
    pub(crate) async fn pause_posting(&self) {
        let pause = "UPDATE bot_outboxes SET rate_limited_until = now() + interval '1 hour' WHERE bot_id = $1";
        let outboxes = database().await.execute(pause, &[&self.bot_id]).await.expect("the outbox");
        assert_eq!(outboxes, 1, "the bot has no outbox yet");
    }

    /// Lets everything be posted that waits since [`Seller::pause_posting`].
    pub(crate) async fn resume_posting(&self) {
        // A worker that holds the lease now has read the pause, and would postpone the outbox by that hour once more.
        let resume = "UPDATE bot_outboxes SET rate_limited_until = NULL, due_at = now() - interval '10 seconds'
            WHERE bot_id = $1 AND lease_owner IS NULL";
        wait_until(SOON, "no worker holds the lease", async || {
            let resumed = database().await.execute(resume, &[&self.bot_id]).await.expect("the outbox");
            (resumed == 1).then_some(())
        })
        .await;
        self.stack.run_schedule("sweep").await;
    }

    /// Lists the texts that the account wrote in an Avito chat, oldest first.
    pub(crate) async fn answers(&self, chat: &str) -> Vec<String> {
        let answer = self.stack.ask(&format!("avito/chats?chat={chat}")).await;
        let messages: Vec<AvitoMessage> =
            serde_json::from_value(answer["chats"][0]["messages"].clone()).expect("messages");
        let own = messages.into_iter().filter(|message| message.author_id == self.user_id);
        own.map(|message| message.content["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until the newest answer in an Avito chat is this one; returns all of them.
    pub(crate) async fn answered(&self, within: Duration, chat: &str, last: &str) -> Vec<String> {
        wait_until(within, &format!("the answer «{last}» in Avito"), async || {
            let answers = self.answers(chat).await;
            (answers.last().map(String::as_str) == Some(last)).then_some(answers)
        })
        .await
    }

    /// Waits until an operator's message carries the receipt.
    pub(crate) async fn receipt(&self, within: Duration, buyer: &str, message_id: i64) -> Topic {
        wait_until(within, "the receipt on the operator's message", async || {
            let topic = self.topic_of(buyer).await?;
            (topic.message(message_id).reactions == ["👌"]).then_some(topic)
        })
        .await
    }

    /// Returns the address that was registered for this account's webhooks.
    pub(crate) async fn avito_webhook(&self) -> String {
        let calls = self.stack.calls(0, "avito").await;
        let mine = |call: &Call| call.method == "webhook.register" && self.is_my_account(&call.params);
        let call = calls.into_iter().rfind(mine).expect("the webhook was registered");
        call.params["url"].as_str().expect("an address").to_owned()
    }

    fn is_my_account(&self, params: &Value) -> bool {
        let part = format!("/avito/messages/{}/", self.account_id);
        params["url"].as_str().is_some_and(|url| url.contains(&part))
    }

    /// Returns the address that was set for this bot's updates, and the secret for the header.
    pub(crate) async fn telegram_webhook(&self) -> (String, String) {
        let calls = self.stack.calls(0, "telegram").await;
        let part = format!("/telegram/{}/", self.bot_id);
        let mine = |call: &Call| {
            call.method == "setWebhook" && call.params["url"].as_str().is_some_and(|url| url.contains(&part))
        };
        let call = calls.into_iter().rfind(mine).expect("the webhook was set");
        let text = |name: &str| call.params[name].as_str().expect("a text").to_owned();
        (text("url"), text("secret_token"))
    }

    /// Lists the calls about this seller's group after `since`.
    pub(crate) async fn telegram_calls(&self, since: u64) -> Vec<Call> {
        let mut calls = self.stack.calls(since, "telegram").await;
        calls.retain(|call| call.chat_id == Some(json!(self.group)));
        calls
    }

    /// Lists the calls about this seller's account after `since`, without those of the poll.
    pub(crate) async fn avito_calls(&self, since: u64) -> Vec<Call> {
        let mut calls = self.stack.calls(since, "avito").await;
        let polls = ["chats.list", "messages.list", "token"];
        calls.retain(|call| call.user_id == Some(self.user_id) && !polls.contains(&call.method.as_str()));
        calls
    }
}

/// Returns a notification as Avito sends it, of a message that Avito's lists do not have.
pub(crate) fn notification(seller: &Seller, chat: &str, message_id: &str, text: &str) -> Value {
    let now = Timestamp::now().as_second();
    json!({
        "id": format!("n-{message_id}"), "version": "v3.0.0", "timestamp": now,
        "payload": { "type": "message", "value": {
            "id": message_id, "chat_id": chat, "user_id": seller.user_id, "author_id": 77, "chat_type": "u2i",
            "type": "text", "content": { "text": text }, "created": now,
        } },
    })
}

/// Returns an update with an operator's message as Telegram sends it; the simulator does not have the message.
pub(crate) fn update(seller: &Seller, thread: i64, message_id: i64, text: &str) -> Value {
    json!({ "update_id": new_number(), "message": {
        "message_id": message_id, "date": 1, "message_thread_id": thread, "is_topic_message": true, "text": text,
        "chat": { "id": seller.group, "type": "supergroup", "title": "Магазин", "is_forum": true },
        "from": { "id": 7, "is_bot": false, "first_name": "Оператор" },
    } })
}
