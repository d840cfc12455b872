//! The world that is measured: organisations that signed in and connected a bot and an account through the API's own
//! functions, and conversations whose topics exist. The limits that would otherwise decide every figure are lifted.
//! Avito allows any number of calls. By two triggers of this database every budget for Telegram's twenty messages a
//! minute stays full, and a message arrives as if its chat had been quiet and Postgres never away, so that it does not
//! wait for others that it may have overtaken.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Outcome;
use crate::events;
use crate::lambda::{Fleet, Lambda, idle};
use crate::simulators::Simulators;

/// Chats of each organisation.
const CHATS: usize = 20;
const UNLIMITED: &str = "
    CREATE FUNCTION bench_unlimited() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.recent_sends := '{}'; NEW.recent_reactions := '{}';
        RETURN NEW;
    END $$;
    CREATE TRIGGER bench_unlimited BEFORE INSERT OR UPDATE ON bot_outboxes FOR EACH ROW EXECUTE FUNCTION bench_unlimited();
    CREATE FUNCTION bench_silent() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.last_received_at := NULL; NEW.hold_until := NULL; RETURN NEW; END $$;
    CREATE TRIGGER bench_silent BEFORE UPDATE OF last_received_at ON dialogs FOR EACH ROW EXECUTE FUNCTION bench_silent();";
/// The calls a minute that Avito allows to an account.
const UNLIMITED_CALLS: u32 = 1_000_000;
/// Discards the work that earlier parts left for later: renames for the topic emoji, read marks, receipts that were not
/// sent. It becomes due a while after a chat went quiet and would fall into the next measurement.
const FORGET: &str = "
    UPDATE posts SET state = 'failed' WHERE state IN ('pending', 'sending');
    UPDATE parts SET state = 'cancelled' WHERE state IN ('pending', 'sending');
    UPDATE messages SET needs_post = false WHERE needs_post AND post_id IS NULL;
    UPDATE dialogs SET send_at = NULL, mark_read_at = NULL, hold_until = NULL, lease_owner = NULL, lease_until = NULL;
    UPDATE bot_outboxes SET due_at = NULL, wakeup_at = NULL, lease_owner = NULL, lease_until = NULL;";

pub(crate) struct World {
    pub(crate) simulators: Simulators,
    pub(crate) database: tokio_postgres::Client,
    pub(crate) tenants: Vec<Tenant>,
    last_message: u64,
}

/// An organisation with all that it has connected.
pub(crate) struct Tenant {
    pub(crate) token: String,
    pub(crate) bot_id: i64,
    pub(crate) account_id: i64,
    pub(crate) user_id: i64,
    group: i64,
    avito_path: String,
    telegram_path: String,
    telegram_header: String,
    chats: Vec<Chat>,
}

/// A conversation.
struct Chat {
    id: String,
    thread: i64,
}

/// A message that a person is about to write.
pub(crate) struct Written {
    /// The number in its text, by which it is recognised.
    pub(crate) number: u64,
    /// The request by which a webhook brings it.
    pub(crate) event: Value,
}

/// A chat, by the index of its tenant and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChatPosition {
    pub(crate) tenant: usize,
    pub(crate) chat: usize,
}

/// Chats of the first tenants, one of each in turn.
pub(crate) fn chat_positions(tenants: usize) -> impl Iterator<Item = ChatPosition> {
    (0..CHATS).flat_map(move |chat| (0..tenants).map(move |tenant| ChatPosition { tenant, chat }))
}

impl World {
    /// Migrates an empty database. It has no organisations yet.
    pub(crate) async fn new(lambda: &Lambda) -> Outcome<Self> {
        let (database, connection) = tokio_postgres::connect(&lambda.plan.database, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let migrate = lambda.fleet("migrate", 1, &[]).await?;
        migrate.function.invoke(&json!({})).await?.body?;
        migrate.stop().await;
        database.batch_execute(UNLIMITED).await?;
        let simulators = Simulators::new(&lambda.plan.control)?;
        Ok(Self { simulators, database, tenants: Vec::new(), last_message: 0 })
    }

    /// Adds organisations until there are `count`.
    pub(crate) async fn grow(&mut self, lambda: &Lambda, count: usize) -> Outcome<()> {
        if self.tenants.len() >= count {
            return Ok(());
        }
        let sign_in = lambda.fleet("auth-telegram", 1, &[]).await?;
        let bots = lambda.fleet("bots-create", 1, &[]).await?;
        let accounts = lambda.fleet("avito-accounts-create", 1, &[]).await?;
        for index in self.tenants.len()..count {
            let tenant = self.tenant(lambda, index, [&sign_in, &bots, &accounts]).await?;
            self.tenants.push(tenant);
        }
        for fleet in [sign_in, bots, accounts] {
            fleet.stop().await;
        }
        self.open_chats(lambda).await
    }

    async fn tenant(&self, lambda: &Lambda, index: usize, [sign_in, bots, accounts]: [&Fleet; 3]) -> Outcome<Tenant> {
        let number = 1_000_000_000 + i64::try_from(index)?;
        let (bot_token, group) = (format!("{number}:AA_only_for_the_bench_{number}"), -1_000_000_000_000 - number);
        let bot = json!({ "token": bot_token, "username": format!("shop_{number}_bot") });
        self.simulators.post("telegram/bots", &bot).await?;
        let chat = json!({ "chat_id": group, "title": "Магазин", "is_forum": true, "bot_token": bot_token });
        self.simulators.post("telegram/chats", &chat).await?;
        let (key, secret) = (format!("id-{number}"), format!("secret-{number}"));
        let account = json!({ "client_id": key, "client_secret": secret, "user_id": number, "name": "Лавка",
                              "calls_per_minute": UNLIMITED_CALLS });
        self.simulators.post("avito/accounts", &account).await?;

        let person = widget(number, &lambda.plan.master_bot_token);
        let signed_in = request(sign_in, "/api/auth/telegram", "", &person).await?;
        let token = signed_in["access_token"].as_str().unwrap_or_default().to_owned();
        let bot = request(bots, "/api/bots", &token, &json!({ "token": bot_token, "group_chat_id": group })).await?;
        let bot_id = bot["id"].as_i64().ok_or("a bot without an id")?;
        let account = json!({ "name": "Лавка", "api_client_id": key, "api_client_secret": secret, "bot_id": bot_id });
        let account = request(accounts, "/api/avito/accounts", &token, &account).await?;
        let account_id = account["id"].as_i64().ok_or("an account without an id")?;

        let (telegram_path, telegram_header) = self.webhook("setWebhook", &format!("/telegram/{bot_id}/")).await?;
        let (avito_path, _) = self.webhook("webhook.register", &format!("/messages/{account_id}/")).await?;
        let chats = Vec::new();
        Ok(Tenant {
            token,
            bot_id,
            account_id,
            user_id: number,
            group,
            avito_path,
            telegram_path,
            telegram_header,
            chats,
        })
    }

    /// The path and the secret that a service got for its webhooks.
    async fn webhook(&self, method: &str, part: &str) -> Outcome<(String, String)> {
        let answer = self.simulators.get(&format!("calls?method={method}")).await?;
        let calls = answer["calls"].as_array().cloned().unwrap_or_default();
        let of = |call: &Value, name: &str| call["params"][name].as_str().unwrap_or_default().to_owned();
        let call = calls.iter().rfind(|call| of(call, "url").contains(part)).ok_or("a webhook was not registered")?;
        let url = url::Url::parse(&of(call, "url"))?;
        Ok((url.path().to_owned(), of(call, "secret_token")))
    }

    /// Has a buyer write in each chat for the first time, so that all topics exist.
    async fn open_chats(&mut self, lambda: &Lambda) -> Outcome<()> {
        let webhook = lambda.fleet("avito-webhook", 1, &[]).await?;
        let worker = lambda.fleet("deliver-to-telegram", 2, &[]).await?;
        lambda.queues.attach(&worker.function);
        let added: Vec<usize> = (0..self.tenants.len()).filter(|index| self.tenants[*index].chats.is_empty()).collect();
        for tenant in &added {
            for chat in 0..CHATS {
                let id = self.open_chat(*tenant, chat).await?;
                self.tenants[*tenant].chats.push(Chat { id, thread: 0 });
                let written = self.buyer_writes(ChatPosition { tenant: *tenant, chat });
                webhook.function.invoke(&written.event).await?.body?;
            }
        }
        idle(&[&worker.function], Duration::from_secs(120)).await?;
        for tenant in added {
            self.find_topics(tenant).await?;
        }
        lambda.queues.detach_all();
        webhook.stop().await;
        worker.stop().await;
        self.forget_and_analyze(lambda).await
    }

    async fn open_chat(&self, tenant: usize, chat: usize) -> Outcome<String> {
        let item = json!({ "title": "Стол дубовый", "price_string": "12 000 ₽", "city": "Москва" });
        let buyer = json!({ "name": format!("Покупатель {chat}.") });
        let chat = json!({ "user_id": self.tenants[tenant].user_id, "buyer": buyer, "item": item });
        let chat = self.simulators.post("avito/chats", &chat).await?;
        Ok(chat["chat_id"].as_str().ok_or("a chat without an id")?.to_owned())
    }

    async fn find_topics(&mut self, tenant: usize) -> Outcome<()> {
        let tenant = &mut self.tenants[tenant];
        let topics = self.simulators.get(&format!("telegram/topics?chat_id={}", tenant.group)).await?;
        let topics = topics["topics"].as_array().cloned().unwrap_or_default();
        for (index, chat) in tenant.chats.iter_mut().enumerate() {
            let buyer = format!("Покупатель {index}.");
            let is_this = |topic: &&Value| topic["name"].as_str().is_some_and(|name| name.ends_with(&buyer));
            let topic = topics.iter().find(is_this).ok_or("a chat got no topic; see the log of deliver-to-telegram")?;
            chat.thread = topic["thread_id"].as_i64().ok_or("a topic without a thread")?;
        }
        Ok(())
    }

    /// Discards all pending work and has Postgres analyze its tables, as it does by itself within minutes: a database
    /// that is seconds old chooses worse plans than any other.
    pub(crate) async fn forget_and_analyze(&self, lambda: &Lambda) -> Outcome<()> {
        lambda.queues.detach_all();
        self.forget().await?;
        Ok(self.database.batch_execute("ANALYZE").await?)
    }

    /// Discards all pending work and wake-ups.
    pub(crate) async fn forget(&self) -> Outcome<()> {
        Ok(self.database.batch_execute(FORGET).await?)
    }

    fn number(&mut self) -> u64 {
        self.last_message += 1;
        self.last_message
    }

    /// A buyer writes in a chat: Avito's notification.
    pub(crate) fn buyer_writes(&mut self, position: ChatPosition) -> Written {
        let number = self.number();
        let tenant = &self.tenants[position.tenant];
        let now = Timestamp::now().as_second();
        let payload = json!({
            "id": format!("n-{number}"), "version": "v3.0.0", "timestamp": now,
            "payload": { "type": "message", "value": {
                "id": format!("bench-{number:026}"), "chat_id": tenant.chats[position.chat].id, "user_id": tenant.user_id,
                "author_id": 77, "chat_type": "u2i", "type": "text", "content": { "text": text(number) }, "created": now,
            } },
        });
        Written { number, event: events::of_request("POST", &tenant.avito_path, &[], Some(&payload)) }
    }

    /// An operator writes in a topic: Telegram's update. Telegram knows the message, as a note that the bridge leaves
    /// alone, so that it can carry the receipt.
    pub(crate) async fn operator_writes(&mut self, position: ChatPosition) -> Outcome<Written> {
        let number = self.number();
        let tenant = &self.tenants[position.tenant];
        let thread = tenant.chats[position.chat].thread;
        let note = json!({ "chat_id": tenant.group, "thread_id": thread, "text": "// для отметки" });
        let message_id = self.simulators.post("telegram/messages", &note).await?["message_id"].clone();
        let update = json!({ "update_id": number, "message": {
            "message_id": message_id, "date": Timestamp::now().as_second(), "message_thread_id": thread,
            "is_topic_message": true, "text": text(number),
            "chat": { "id": tenant.group, "type": "supergroup", "title": "Магазин", "is_forum": true },
            "from": { "id": 7, "is_bot": false, "first_name": "Оператор" },
        } });
        let secret = [("x-telegram-bot-api-secret-token", tenant.telegram_header.as_str())];
        Ok(Written { number, event: events::of_request("POST", &tenant.telegram_path, &secret, Some(&update)) })
    }
}

fn text(number: u64) -> String {
    format!("Здравствуйте, стол ещё продаётся? Могу забрать сегодня вечером. #{number}")
}

/// The numbers of the messages that a text contains.
pub(crate) fn numbers(text: &str) -> impl Iterator<Item = u64> {
    text.split_whitespace().filter_map(|word| word.strip_prefix('#')?.parse().ok())
}

/// Calls an endpoint that has to succeed.
async fn request(fleet: &Fleet, path: &str, token: &str, body: &Value) -> Outcome<Value> {
    let bearer = format!("Bearer {token}");
    let headers: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("authorization", &bearer)] };
    let answer = fleet.function.invoke(&events::of_request("POST", path, headers, Some(body))).await?.body?;
    if !matches!(answer["statusCode"].as_u64(), Some(200 | 201)) {
        return Err(format!("{path} answered {answer}").into());
    }
    Ok(serde_json::from_str(answer["body"].as_str().unwrap_or_default())?)
}

/// The fields that the Login Widget hands to the page, signed now (core.telegram.org/widgets/login).
fn widget(telegram_id: i64, bot_token: &str) -> Value {
    let mut fields = BTreeMap::from([
        ("auth_date", json!(Timestamp::now().as_second())),
        ("first_name", json!("Ольга")),
        ("id", json!(telegram_id)),
    ]);
    let mut lines = String::new();
    for (name, value) in &fields {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = write!(lines, "{}{name}={value}", if lines.is_empty() { "" } else { "\n" });
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(&Sha256::digest(bot_token)).unwrap_or_else(|_| unreachable!());
    mac.update(lines.as_bytes());
    fields.insert("hash", json!(hex::encode(mac.finalize().into_bytes())));
    json!(fields)
}
