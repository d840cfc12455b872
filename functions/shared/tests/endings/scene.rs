//! A shop on a database of its own, whose clock the test moves.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};
use tuberry::{
    bridge::{
        api::reply::{Reply, ReplyError, reply},
        ingest::{
            incoming::{IncomingBatch, IncomingMessage},
            polls::{poll, start_polling},
            record::record,
        },
        operator::webhook::{Credentials, UpdateResult, receive_telegram_update},
        queue_tasks::PollTask,
        to_avito::worker::deliver_to_avito,
        to_telegram::worker::deliver_to_telegram,
    },
    identity::owners,
    platform::{
        config::var,
        db::{Scope, Statement, parse_address},
        migrations::apply,
        secrets::Secret,
    },
    tenancy::accounts::webhooks,
};

use crate::support::{World, must, shop::Shop, variable};

/// Nothing listens there: the test itself runs the workers.
const NO_QUEUE: &str = "http://127.0.0.1:1/none";
/// The timeout of calls: a call that hangs costs no minutes.
const CALL_TIMEOUT: Duration = Duration::from_millis(700);
/// The most rounds in which all that is due is worked off: more would be a circle without a wait.
const MAX_ROUNDS: usize = 300;

/// A shop with its own database and clock.
pub struct Scene {
    pub shop: Shop,
    owner_of_database: Client,
    database: String,
    /// The seconds that passed since the scene began.
    clock: f64,
    calls: Vec<Call>,
    read_calls: u64,
    has_schedules: bool,
}

/// A call that the outside saw.
#[derive(Clone, Debug)]
pub struct Call {
    pub target: String,
    pub method: String,
    pub chat: Option<String>,
    pub params: Value,
    /// The seconds since the scene began.
    pub at: f64,
}

impl Scene {
    /// A shop whose bot and account are connected and polled once.
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// As [`Scene::new`], with some variables set otherwise.
    pub async fn with(variables: &[(&str, &str)]) -> Self {
        let database = format!("endings_{}", World::new_id());
        let server = connected(&variable("DATABASE_URL")).await;
        must(server.batch_execute(&format!("CREATE DATABASE {database}")).await);
        let mut address = must(url::Url::parse(&variable("DATABASE_URL")));
        address.set_path(&database);
        must(apply(&Secret::new(address.as_str()), "").await);
        let owner_of_database = connected(address.as_str()).await;
        // Redis is shared with the stack: its keys name accounts, so ids begin where no other test has any.
        let first_id = World::new_id();
        for table in ["avito_accounts", "bots", "dialogs", "clients", "users"] {
            let restart = format!("ALTER TABLE {table} ALTER COLUMN id RESTART WITH {first_id}");
            must(owner_of_database.batch_execute(&restart).await);
        }
        let hosts = [variable("AVITO_API_BASE"), variable("TELEGRAM_API_BASE")]
            .map(|base| base.replace("http://", ""))
            .join(",");
        let mut changed = vec![
            ("MEDIA_HOSTS", hosts.as_str()),
            ("DATABASE_URL", address.as_str()),
            ("TELEGRAM_QUEUE_URL", NO_QUEUE),
            ("AVITO_QUEUE_URL", NO_QUEUE),
            ("POLL_QUEUE_URL", NO_QUEUE),
            ("INTAKE_QUEUE_URL", NO_QUEUE),
            ("AUTO_REPLY_QUEUE_URL", NO_QUEUE),
        ];
        changed.extend(variables);
        // Connected with the usual timeouts, for a busy machine may take longer than those of the scene.
        let shop = Shop::of(World::with(&changed)).await;
        let shop = shop.in_world(World::with_call_timeout(&changed, CALL_TIMEOUT));
        shop.world.query(Scope::Tenant(shop.owner.client), start_polling(shop.outside.user_id)).await;
        let mut scene = Self {
            shop,
            owner_of_database,
            database,
            clock: 0.0,
            calls: Vec::new(),
            read_calls: 0,
            has_schedules: false,
        };
        scene.poll().await;
        scene.settle().await;
        scene.calls.clear();
        scene
    }

    /// Removes the database.
    pub async fn end(self) {
        drop(self.owner_of_database);
        let server = connected(&variable("DATABASE_URL")).await;
        must(server.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.database)).await);
    }

    /// Opens a chat with a buyer of this name, in which the buyer writes. Returns its id at Avito.
    pub async fn buyer_writes_first(&mut self, name: &str, text: &str) -> String {
        let item = json!({ "id": World::new_id(), "title": "Стол", "price_string": "12 000 ₽",
                           "url": "https://www.avito.ru/1", "city": "Москва" });
        let chat = json!({ "user_id": self.shop.outside.user_id, "buyer": { "name": name }, "item": item });
        let opened = self.shop.world.control("avito/chats", &chat).await;
        let chat = opened["chat_id"].as_str().unwrap_or_default().to_owned();
        self.buyer_writes(&chat, text).await;
        chat
    }

    /// The buyer of a chat writes. No webhook reports it.
    pub async fn buyer_writes(&self, chat: &str, text: &str) {
        let message = json!({ "chat": chat, "from": "buyer", "text": text, "webhook": false });
        self.shop.world.control("avito/messages", &message).await;
    }

    /// A webhook reports a buyer's message of a chat that no poll has seen.
    pub async fn webhook_reports(&self, chat: &str, text: &str) {
        let batch = IncomingBatch {
            account_id: self.shop.account_id,
            user_id: self.shop.outside.user_id,
            chat_id: chat.to_owned(),
            messages: vec![IncomingMessage {
                id: format!("m{}", World::new_id()),
                own: false,
                system: false,
                kind: "text".to_owned(),
                text: Some(text.to_owned()),
                text_key: Some(text.to_owned()),
                attachments: json!({}),
                created: Timestamp::now(),
                position: 0,
                placeholder: false,
            }],
            polled: None,
        };
        self.query(record(self.shop.world.app, &batch)).await;
    }

    /// A person answers through the API.
    pub async fn try_answer(&self, chat: &str, text: &str) -> Result<(), ReplyError> {
        let reply_to = Reply {
            dialog_id: self.dialog_of(chat).await,
            text: text.to_owned(),
            user_id: self.shop.owner.user_id,
            author: "Ольга".to_owned(),
            key: None,
        };
        Box::pin(reply(self.shop.world.app, self.shop.owner.client, reply_to)).await.map(|_| ())
    }

    /// As [`Scene::try_answer`], where it is accepted.
    pub async fn answer(&self, chat: &str, text: &str) {
        must(self.try_answer(chat, text).await);
    }

    pub async fn dialog_of(&self, chat: &str) -> i64 {
        let sql = "SELECT id FROM dialogs WHERE avito_chat_id = $1";
        self.query(Statement::new(sql).bind(chat.to_owned())).await[0].get("id")
    }

    /// Runs statements as the owner of the tables.
    pub async fn as_owner(&self, sql: &str) {
        must(self.owner_of_database.batch_execute(sql).await);
    }

    /// Runs a statement of the shop's tenant.
    pub async fn query(&self, statement: Statement) -> Vec<tokio_postgres::Row> {
        self.shop.world.query(Scope::Tenant(self.shop.owner.client), statement).await
    }

    /// Makes calls to Avito for this account fail, for ever: those of a chat, or of all. Returns the fault's id.
    pub async fn avito_fails(&self, method: &str, chat: Option<&str>, status: u16) -> u64 {
        let mut scope = json!({ "user_id": self.shop.outside.user_id });
        if let Some(chat) = chat {
            scope = json!({ "chat": chat });
        }
        self.fault(json!({ "target": "avito", "method": method, "kind": "status", "status": status, "scope": scope }))
            .await
    }

    /// Adds a fault, and returns its id for [`Scene::lift`].
    pub async fn fault(&self, fault: Value) -> u64 {
        self.shop.world.control("faults", &fault).await["fault_id"].as_u64().unwrap_or_default()
    }

    /// Lifts a fault.
    pub async fn lift(&self, id: u64) {
        let url = format!("{}/_local/faults/{id}", variable("STACK_CONTROL"));
        must(self.shop.world.app.outside().delete(url).send().await);
    }

    /// Polls the account now, even if it is not due.
    pub async fn poll(&mut self) {
        self.query(Statement::new("UPDATE account_polls SET next_poll_at = now()")).await;
        let task = PollTask::V1 { account_ids: vec![self.shop.account_id], due: Timestamp::now() };
        must(Box::pin(poll(self.shop.world.app, &task, stop())).await);
    }

    /// From now on the schedules run as well: polls, checks of webhooks and notices to owners, each when it is due.
    pub fn run_schedules(&mut self) {
        self.has_schedules = true;
    }

    /// The owner begins a private chat with the platform's bot, which may write there from now on.
    pub async fn owner_starts_the_master_bot(&self) {
        let token = self.shop.world.app.config().text(var::MASTER_BOT_TOKEN).to_owned();
        let username = self.shop.world.app.config().text(var::MASTER_BOT_NAME).to_owned();
        self.shop.world.control("telegram/bots", &json!({ "token": token, "username": username })).await;
        let id = self.shop.owner.telegram_user_id;
        let start =
            json!({ "chat_id": id, "text": "/start", "bot_token": token, "from": { "id": id, "first_name": "Ольга" } });
        self.shop.world.control("telegram/messages", &start).await;
    }

    /// An operator sends a picture in the topic of a chat, and Telegram's webhook reports it.
    pub async fn operator_sends_a_picture(&self, chat: &str) {
        let sql = "SELECT telegram_topic_id FROM dialogs WHERE avito_chat_id = $1";
        let thread: i64 = self.query(Statement::new(sql).bind(chat.to_owned())).await[0].get(0);
        let group = self.shop.bot.chat_id;
        let picture = json!({ "chat_id": group, "thread_id": thread, "photo": true });
        let id = self.shop.world.control("telegram/messages", &picture).await["message_id"].clone();
        let topics = self.shop.world.ask(&format!("telegram/topics?chat_id={group}")).await;
        let topics = topics["topics"].as_array().into_iter().flatten();
        let mut messages = topics.filter_map(|topic| topic["messages"].as_array()).flatten();
        let sent = messages.find(|message| message["message_id"] == id).cloned().unwrap_or_default();
        let message = json!({
            "message_id": id, "message_thread_id": thread, "is_topic_message": true, "date": sent["date"], "from": sent["from"],
            "chat": { "id": group, "type": "supergroup", "title": "Продажи", "is_forum": true },
            "photo": sent["content"]["photo"],
        });
        self.telegram_reports(&json!({ "update_id": World::new_id(), "message": message })).await;
    }

    /// An operator writes in the topic of a chat. Returns Telegram's id of the message.
    pub async fn operator_writes(&self, chat: &str, text: &str) -> i64 {
        self.operator_message(chat, text, json!({})).await
    }

    /// As [`Scene::operator_writes`], in reply to a message.
    pub async fn operator_replies(&self, chat: &str, message_id: i64, text: &str) -> i64 {
        let to = json!({ "message_id": message_id, "date": 1, "chat": { "id": self.shop.bot.chat_id, "type": "supergroup" },
                         "from": { "id": 7, "is_bot": false, "first_name": "Оператор" }, "text": "…" });
        self.operator_message(chat, text, json!({ "reply_to_message": to })).await
    }

    /// An operator edits a message of this age in the topic of a chat.
    pub async fn operator_edits(&self, chat: &str, message_id: i64, age: Duration, text: &str) {
        let written = Timestamp::now().as_second() - i64::try_from(age.as_secs()).unwrap_or_default();
        let mut message = self.message_of_operator(chat, text).await;
        message["message_id"] = json!(message_id);
        message["date"] = json!(written);
        message["edit_date"] = json!(Timestamp::now().as_second());
        self.telegram_reports(&json!({ "update_id": World::new_id(), "edited_message": message })).await;
    }

    async fn operator_message(&self, chat: &str, text: &str, more: Value) -> i64 {
        let mut message = self.message_of_operator(chat, text).await;
        for (name, value) in more.as_object().into_iter().flatten() {
            message[name] = value.clone();
        }
        self.telegram_reports(&json!({ "update_id": World::new_id(), "message": message })).await;
        message["message_id"].as_i64().unwrap_or_default()
    }

    /// A message as Telegram reports it that an operator writes in the topic of a chat.
    async fn message_of_operator(&self, chat: &str, text: &str) -> Value {
        let sql = "SELECT telegram_topic_id FROM dialogs WHERE avito_chat_id = $1";
        let thread: i64 = self.query(Statement::new(sql).bind(chat.to_owned())).await[0].get(0);
        let id = World::new_id() % 1_000_000_000;
        let mut message = json!({
            "message_id": id, "message_thread_id": thread, "is_topic_message": true, "date": Timestamp::now().as_second(),
            "from": { "id": 7, "is_bot": false, "first_name": "Оператор" }, "text": text,
            "chat": { "id": self.shop.bot.chat_id, "type": "supergroup", "title": "Продажи", "is_forum": true },
        });
        if text.starts_with('/') {
            message["entities"] = json!([{ "type": "bot_command", "offset": 0, "length": text.len() }]);
        }
        message
    }

    /// Telegram's webhook reports that the bot has another status in a chat.
    pub async fn telegram_reports_membership(&self, chat: Value, status: &str) {
        let id = bot_of(&self.shop.bot.token).parse::<i64>().unwrap_or_default();
        let member =
            |status: &str| json!({ "status": status, "user": { "id": id, "is_bot": true, "first_name": "Бот" } });
        let change = json!({ "chat": chat, "from": { "id": 7, "is_bot": false, "first_name": "Оператор" }, "date": 1,
                             "old_chat_member": member("left"), "new_chat_member": member(status) });
        self.telegram_reports(&json!({ "update_id": World::new_id(), "my_chat_member": change })).await;
    }

    /// Telegram's webhook reports an update.
    async fn telegram_reports(&self, update: &Value) {
        let path = Secret::random();
        let hash = "UPDATE bots SET webhook_secret_hash = $1 RETURNING id";
        let bot_id: i64 = self.query(Statement::new(hash).bind(path.hash().to_vec())).await[0].get("id");
        let header = self.shop.world.app.keyring().derive(&path).expose().to_owned();
        let credentials = Credentials { path, header };
        let body = update.to_string();
        let result = receive_telegram_update(self.shop.world.app, bot_id, &credentials, body.as_bytes()).await;
        assert_eq!(must(result), UpdateResult::Done, "the update is recorded");
    }

    /// Lets time pass, and works off what becomes due meanwhile, at its time.
    pub async fn run_for(&mut self, time: Duration) {
        let end = self.clock + time.as_secs_f64();
        self.settle().await;
        while let Some(wait) = self.seconds_to_next_work().await.filter(|wait| self.clock + wait <= end) {
            self.pass(wait.max(0.01)).await;
            self.settle().await;
        }
        self.pass(end - self.clock).await;
        self.settle().await;
    }

    /// Runs the workers until nothing is due.
    pub async fn settle(&mut self) {
        for round in 0.. {
            assert!(round < MAX_ROUNDS, "workers turn in a circle: {:?}", self.calls.last());
            let bots = "SELECT bot_id AS id FROM bot_outboxes WHERE due_at <= now()";
            let dialogs = "SELECT id FROM dialogs WHERE send_at <= now() OR mark_read_at <= now()";
            let (bots, dialogs) = (self.ids(bots).await, self.ids(dialogs).await);
            for bot_id in &bots {
                must(Box::pin(deliver_to_telegram(self.shop.world.app, *bot_id, stop())).await);
            }
            for dialog_id in &dialogs {
                must(Box::pin(deliver_to_avito(self.shop.world.app, *dialog_id, stop())).await);
            }
            let has_run = self.has_schedules && self.run_due_schedules().await;
            self.read_calls().await;
            if bots.is_empty() && dialogs.is_empty() && !has_run {
                return;
            }
        }
    }

    /// Runs the schedules that have something to do. Returns true if one had.
    async fn run_due_schedules(&mut self) -> bool {
        let polls = self.ids("SELECT avito_account_id AS id FROM account_polls WHERE next_poll_at <= now()").await;
        if !polls.is_empty() {
            let task = PollTask::V1 { account_ids: polls.clone(), due: Timestamp::now() };
            must(Box::pin(poll(self.shop.world.app, &task, stop())).await);
        }
        let checks =
            self.ids("SELECT id FROM avito_accounts WHERE webhook_check_at <= now() AND status = 'active'").await;
        if !checks.is_empty() {
            must(Box::pin(webhooks::check(self.shop.world.app, stop())).await);
        }
        let due = "SELECT id FROM owner_notices WHERE due_at <= now() AND sent_at IS NULL AND failed_at IS NULL";
        let notices = self.ids(due).await;
        if !notices.is_empty() {
            must(owners::send_notices(self.shop.world.app).await);
        }
        !polls.is_empty() || !checks.is_empty() || !notices.is_empty()
    }

    async fn ids(&self, sql: &'static str) -> Vec<i64> {
        self.query(Statement::new(sql)).await.iter().map(|row| row.get("id")).collect()
    }

    async fn seconds_to_next_work(&self) -> Option<f64> {
        let work = "SELECT extract(epoch FROM least(
                        (SELECT min(due_at) FROM bot_outboxes), (SELECT min(least(send_at, mark_read_at)) FROM dialogs)) - now())::float8
                    AS wait";
        let work_and_schedules = "SELECT extract(epoch FROM least(
                (SELECT min(due_at) FROM bot_outboxes), (SELECT min(least(send_at, mark_read_at)) FROM dialogs),
                (SELECT min(next_poll_at) FROM account_polls),
                (SELECT min(webhook_check_at) FROM avito_accounts WHERE status = 'active'),
                (SELECT min(due_at) FROM owner_notices WHERE sent_at IS NULL AND failed_at IS NULL)) - now())::float8
            AS wait";
        let sql = if self.has_schedules { work_and_schedules } else { work };
        self.query(Statement::new(sql)).await[0].get::<_, Option<f64>>("wait").map(|wait| wait.max(0.0))
    }

    /// Moves every time of every row of the database into the past, and forgets what Redis counts for the account.
    async fn pass(&mut self, seconds: f64) {
        let columns = "SELECT c.table_name::text, string_agg(format('%1$I = %1$I - make_interval(secs => $1)', c.column_name), ', ')
                       FROM information_schema.columns c
                       JOIN information_schema.tables t USING (table_schema, table_name)
                       WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.is_generated = 'NEVER'
                         AND c.data_type = 'timestamp with time zone'
                       GROUP BY 1";
        for row in must(self.owner_of_database.query(columns, &[]).await) {
            let (table, moves): (String, String) = (row.get(0), row.get(1));
            let moves = moves.replace("$1", &seconds.to_string());
            must(self.owner_of_database.batch_execute(&format!("UPDATE {table} SET {moves}")).await);
        }
        let budgets = format!(
            "UPDATE bot_outboxes SET recent_sends = ARRAY(SELECT sent - {ms} FROM unnest(recent_sends) AS sent),
                    recent_reactions = ARRAY(SELECT sent - {ms} FROM unnest(recent_reactions) AS sent);
             UPDATE account_polls SET message_calls = ARRAY(SELECT called - {whole} FROM unnest(message_calls) AS called)",
            ms = (seconds * 1000.0).round(),
            whole = seconds.ceil(),
        );
        must(self.owner_of_database.batch_execute(&budgets).await);
        let account_id = self.shop.account_id;
        let _ = self
            .shop
            .world
            .app
            .cache()
            .script("return redis.call('DEL', KEYS[1])", &format!("avito-rate-limit:{account_id}"), &[])
            .await;
        self.clock += seconds;
    }

    async fn read_calls(&mut self) {
        let answer = self.shop.world.ask(&format!("calls?files=true&since={}", self.read_calls)).await;
        self.read_calls = answer["next"].as_u64().unwrap_or_default();
        let (user_id, group) = (json!(self.shop.outside.user_id), json!(self.shop.bot.chat_id));
        let (bot, owner) = (json!(bot_of(&self.shop.bot.token)), json!(self.shop.owner.telegram_user_id));
        for call in answer["calls"].as_array().into_iter().flatten() {
            let is_mine = call["user_id"] == user_id
                || call["chat_id"] == group
                || call["params"]["client_id"] == self.shop.outside.api_client_id
                || call["params"]["chat_id"] == group
                || call["token_hint"] == bot
                || call["chat_id"] == owner;
            if is_mine {
                self.calls.push(Call {
                    target: call["target"].as_str().unwrap_or_default().to_owned(),
                    method: call["method"].as_str().unwrap_or_default().to_owned(),
                    chat: call["chat"].as_str().map(str::to_owned),
                    params: call["params"].clone(),
                    at: self.clock,
                });
            }
        }
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&mut self) {
        self.calls.clear();
    }

    /// The calls of a method so far, with the seconds at which they were made.
    pub fn calls_of(&self, method: &str) -> Vec<&Call> {
        self.calls.iter().filter(|call| call.method == method).collect()
    }

    /// The number of calls to a service since `from` seconds, up to `to`.
    pub fn calls_between(&self, target: &str, from: f64, to: f64) -> usize {
        self.calls.iter().filter(|call| call.target == target && (from..to).contains(&call.at)).count()
    }

    /// The most calls to a service in any minute.
    pub fn most_in_a_minute(&self, target: &str) -> usize {
        self.calls.iter().map(|call| self.calls_between(target, call.at, call.at + 60.0)).max().unwrap_or_default()
    }

    /// The services and methods that were called so far.
    pub fn called(&self) -> BTreeSet<(String, String)> {
        self.calls.iter().map(|call| (call.target.clone(), call.method.clone())).collect()
    }

    /// The seconds since the scene began.
    pub fn clock(&self) -> f64 {
        self.clock
    }

    /// The texts that the seller wrote in a chat at Avito, oldest first.
    pub async fn answers_in(&self, chat: &str) -> Vec<String> {
        let chats = self.shop.world.ask(&format!("avito/chats?chat={chat}")).await;
        let messages = chats["chats"][0]["messages"].as_array().cloned().unwrap_or_default();
        let own = messages.iter().filter(|message| message["author_id"] == json!(self.shop.outside.user_id));
        own.filter_map(|message| message["content"]["text"].as_str().map(str::to_owned)).collect()
    }

    /// The texts that were posted into the group, in order.
    pub fn posted(&self) -> Vec<String> {
        let texts = self.calls.iter().filter(|call| call.method == "sendMessage");
        texts.filter_map(|call| call.params["text"].as_str().map(str::to_owned)).collect()
    }

    /// The statuses of the answers in a chat, oldest first.
    pub async fn statuses(&self, chat: &str) -> Vec<String> {
        let sql = "SELECT m.status FROM messages m JOIN dialogs d ON d.id = m.dialog_id
                   WHERE d.avito_chat_id = $1 AND m.direction = 'out' ORDER BY m.id";
        self.query(Statement::new(sql).bind(chat.to_owned())).await.iter().map(|row| row.get("status")).collect()
    }
}

async fn connected(address: &str) -> Client {
    let config = parse_address(address).unwrap_or_else(|error| panic!("{error}"));
    let (client, connection) = must(config.connect(NoTls).await);
    tokio::spawn(connection);
    client
}

/// The id that a bot's token begins with.
fn bot_of(token: &Secret) -> String {
    token.expose().split(':').next().unwrap_or_default().to_owned()
}

fn stop() -> Instant {
    Instant::now() + Duration::from_secs(60)
}
