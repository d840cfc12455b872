//! The base of every test: the running stack; a seller with a bot, a group and an Avito account that belong to one
//! test; and ways to play the people on both sides and to read what they see.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use rand::RngExt;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tuberry_local::proxy::Proxy;

/// The timeout of results that take a few seconds, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_mins(1);
/// The timeout of results that wait for a schedule, a lease or a pause first.
pub(crate) const LATER: Duration = Duration::from_mins(2);

/// Reads a variable that the stack gives to every test.
pub(crate) fn variable(name: &str) -> String {
    assert!(std::env::var_os("STACK_API").is_some(), "run `make test`: these tests need the local stack");
    std::env::var(name).unwrap_or_else(|_| panic!("the stack sets no {name}"))
}

/// Returns a number that no other test has, nor any other run on the same stack.
pub(crate) fn new_number() -> i64 {
    rand::rng().random_range(1_000_000_000..1_000_000_000_000)
}

/// Checks again and again until there is a result, and returns it. The failure names `what` it waited for.
pub(crate) async fn wait_until<T>(within: Duration, what: &str, check: impl AsyncFnMut() -> Option<T>) -> T {
    try_until(within, check).await.unwrap_or_else(|| panic!("within {within:?} not: {what}"))
}

/// Checks again and again until there is a result. None: the time is over.
async fn try_until<T>(within: Duration, mut check: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = tokio::time::Instant::now() + within;
    loop {
        if let Some(found) = check().await {
            return Some(found);
        }
        if tokio::time::Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// Returns `what 1`, `what 2`, …
pub(crate) fn numbered(what: &str, count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{what} {number}")).collect()
}

/// An answer of the API.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) body: Value,
}

/// The running stack, as it is used from outside.
#[derive(Clone)]
pub(crate) struct Stack {
    client: reqwest::Client,
    api: String,
    control: String,
}

impl Stack {
    pub(crate) fn new() -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build();
        Self { client: client.expect("a client"), api: variable("STACK_API"), control: variable("STACK_CONTROL") }
    }

    /// Calls the API with these headers.
    pub(crate) async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.api) };
        let mut request = self.client.request(method, url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("the stack answers");
        let status = answer.status().as_u16();
        let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_owned();
        let text = answer.text().await.expect("a whole answer");
        Answer { status, kind, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        let bearer = token.map(|token| format!("Bearer {token}")).unwrap_or_default();
        let headers: &[(&str, &str)] = if token.is_some() { &[("authorization", &bearer)] } else { &[] };
        self.call(Method::GET, path, headers, Vec::new()).await
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Answer {
        let bearer = token.map(|token| format!("Bearer {token}")).unwrap_or_default();
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(token.map(|_| ("authorization", bearer.as_str())));
        self.call(Method::POST, path, &headers, body.to_string().into_bytes()).await
    }

    /// Sends a command to the simulators.
    pub(crate) async fn control(&self, path: &str, body: &Value) -> Value {
        let answer = self.client.post(format!("{}/_local/{path}", self.control)).json(body).send().await;
        let answer = answer.expect("the simulators answer");
        let (status, text) = (answer.status(), answer.text().await.expect("a whole answer"));
        assert_eq!(status, StatusCode::OK, "/_local/{path} says {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Sends a command to the simulators. None: they refused it or did not answer.
    pub(crate) async fn try_control(&self, path: &str, body: &Value) -> Option<Value> {
        let answer = self.client.post(format!("{}/_local/{path}", self.control)).json(body).send().await.ok()?;
        if answer.status() == StatusCode::OK { answer.json().await.ok() } else { None }
    }

    /// Reads from the simulators.
    pub(crate) async fn ask(&self, path_and_query: &str) -> Value {
        let answer = self.client.get(format!("{}/_local/{path_and_query}", self.control)).send().await;
        answer.expect("the simulators answer").json().await.expect("JSON")
    }

    /// Lists the calls that the simulators answered after `since`.
    pub(crate) async fn calls(&self, since: u64, target: &str) -> Vec<Call> {
        let answer = self.ask(&format!("calls?target={target}&since={since}")).await;
        serde_json::from_value(answer["calls"].clone()).expect("calls")
    }

    /// Returns the present end of the record of calls.
    pub(crate) async fn calls_so_far(&self) -> u64 {
        self.ask(&format!("calls?since={}", u64::MAX)).await["next"].as_u64().expect("a number")
    }

    /// Starts a fault; returns its id.
    pub(crate) async fn fault(&self, fault: Value) -> u64 {
        self.control("faults", &fault).await["fault_id"].as_u64().expect("an id")
    }

    /// Ends a fault.
    pub(crate) async fn mend(&self, fault: u64) {
        let answer = self.client.delete(format!("{}/_local/faults/{fault}", self.control)).send().await;
        assert!(answer.expect("the simulators answer").status().is_success());
    }

    /// Runs a function as its schedule does.
    pub(crate) async fn run_schedule(&self, name: &str) {
        let (endpoint, stack) = (variable("AWS_ENDPOINT_URL"), variable("STACK_NAME"));
        let url = format!("{endpoint}/2015-03-31/functions/{stack}-{name}/invocations");
        let answer = self.client.post(url).body("{}").send().await.expect("the emulator answers");
        assert_eq!(answer.status(), StatusCode::OK, "{name}");
        assert_eq!(answer.headers().get("x-amz-function-error"), None, "{name}");
    }

    /// Returns the fields that the Login Widget gives to the page when this person signs in now.
    pub(crate) fn widget(telegram_id: i64) -> Value {
        let mut fields = BTreeMap::from([
            ("auth_date", json!(Timestamp::now().as_second())),
            ("first_name", json!("Ольга")),
            ("id", json!(telegram_id)),
            ("username", json!(format!("olga_{}", new_number()))),
        ]);
        let mut lines = String::new();
        for (name, value) in &fields {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            write!(lines, "{}{name}={value}", if lines.is_empty() { "" } else { "\n" }).expect("a text grows");
        }
        let key = Sha256::digest(variable("MASTER_BOT_TOKEN"));
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any key will do");
        mac.update(lines.as_bytes());
        fields.insert("hash", json!(hex::encode(mac.finalize().into_bytes())));
        json!(fields)
    }

    /// Signs in a person for the first time; returns the access token.
    pub(crate) async fn newcomer(&self) -> String {
        self.sign_in(new_number()).await
    }

    /// Signs in the person with this Telegram id; returns the access token.
    pub(crate) async fn sign_in(&self, telegram_id: i64) -> String {
        let answer = self.post("/api/auth/telegram", None, &Self::widget(telegram_id)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["access_token"].as_str().expect("a token").to_owned()
    }
}

/// A call that a simulator answered. `status` 0: it closed the connection instead.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Call {
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) user_id: Option<i64>,
    #[serde(default)]
    pub(crate) chat_id: Option<Value>,
    #[serde(default)]
    pub(crate) chat: Option<String>,
    pub(crate) params: Value,
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) retry_after: Option<u64>,
    pub(crate) at: Timestamp,
}

/// A topic as people in the group see it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Topic {
    pub(crate) thread_id: Option<i64>,
    pub(crate) name: Option<String>,
    pub(crate) deleted: bool,
    pub(crate) messages: Vec<GroupMessage>,
}

/// A message in a group.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct GroupMessage {
    pub(crate) message_id: i64,
    pub(crate) from_bot: bool,
    pub(crate) text: Option<String>,
    pub(crate) content: Value,
    pub(crate) reply_to: Option<i64>,
    pub(crate) pinned: bool,
    pub(crate) reactions: Vec<String>,
    pub(crate) deleted: bool,
}

impl Topic {
    pub(crate) fn thread(&self) -> i64 {
        self.thread_id.expect("a topic has a thread")
    }

    /// Lists the bot's texts that are not deleted, header first.
    fn bot_texts(&self) -> impl Iterator<Item = &GroupMessage> {
        self.messages.iter().filter(|message| message.from_bot && !message.deleted && message.text.is_some())
    }

    /// Lists the headers that are not deleted.
    pub(crate) fn headers(&self) -> Vec<&GroupMessage> {
        self.bot_texts().filter(|message| is_header(message)).collect()
    }

    /// Lists the bot's texts besides headers, and those behind a header in one post with it.
    pub(crate) fn posts(&self) -> Vec<&str> {
        fn said(message: &GroupMessage) -> Option<&str> {
            let text = message.text.as_deref()?;
            if is_header(message) { text.split_once("\n\n").map(|(_, said)| said) } else { Some(text) }
        }
        self.bot_texts().filter_map(said).collect()
    }

    /// Lists the lines of the bot's texts: several may stand in one post, each behind its time.
    pub(crate) fn said(&self) -> Vec<String> {
        self.posts().iter().flat_map(|post| lines(post)).collect()
    }

    /// Lists the lines as [`Topic::said`] does, but a post that appeared again counts once.
    pub(crate) fn said_at_least_once(&self) -> Vec<String> {
        let mut posts = self.posts();
        posts.dedup();
        posts.iter().flat_map(|post| lines(post)).collect()
    }

    pub(crate) fn message(&self, message_id: i64) -> &GroupMessage {
        self.messages.iter().find(|message| message.message_id == message_id).expect("the message is in the topic")
    }
}

fn is_header(message: &GroupMessage) -> bool {
    message.text.as_deref().is_some_and(|text| text.contains("\nАккаунт: "))
}

/// Lists the lines of a post, without the times in front of them.
pub(crate) fn lines(post: &str) -> Vec<String> {
    let without_time = |line: &str| match line.split_once(' ') {
        Some((time, rest)) if time.len() == 5 && time.as_bytes()[2] == b':' => rest.to_owned(),
        _ => line.to_owned(),
    };
    post.lines().filter(|line| !line.is_empty()).map(without_time).collect()
}

/// A message in Avito.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AvitoMessage {
    pub(crate) author_id: i64,
    pub(crate) content: Value,
}

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

/// Connects to the stack's database, past any pooler: for facts that cannot be seen from outside, and for clocks.
pub(crate) async fn database() -> tokio_postgres::Client {
    try_database().await.expect("the database")
}

/// Connects as [`database`] does. None: the database is away.
pub(crate) async fn try_database() -> Option<tokio_postgres::Client> {
    let (client, connection) =
        tokio_postgres::connect(&variable("MIGRATION_DATABASE_URL"), tokio_postgres::NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// Starts a proxy in front of the database as functions reach it.
pub(crate) async fn database_proxy() -> Proxy {
    Proxy::start(&variable("DATABASE_URL"), 0).await.expect("a free port")
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
