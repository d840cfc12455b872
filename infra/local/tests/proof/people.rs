//! The people who talk during the storm: buyers in their chats, and operators who answer in the topic that the chat has
//! then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_postgres::Client;

use super::support::{Seller, new_number, try_database};
use super::{OVERTIME, Size, float};

/// The number of attempts to answer in a topic, until the buyer writes again.
const NUDGE_AFTER: u32 = 40;

/// One buyer's chat.
pub(crate) struct Talk {
    pub(crate) buyer: String,
    pub(crate) chat: String,
    /// The number of messages to write, each way.
    messages: usize,
    /// The numbers written so far.
    pub(crate) asked: AtomicUsize,
    pub(crate) answered: AtomicUsize,
    /// The topic that took the last answer. 0: none is known.
    topic: AtomicI64,
}

/// A seller with some chats.
pub(crate) struct Shop {
    pub(crate) seller: Seller,
    pub(crate) talks: Vec<Talk>,
    /// The group's id, which may change.
    pub(crate) group: AtomicI64,
    /// True while the bot is out of its group: Telegram sends it no updates then, so no operator writes there.
    pub(crate) bot_is_out: AtomicBool,
}

/// All sellers, with their chats.
pub(crate) struct Market {
    pub(crate) size: Size,
    pub(crate) shops: Vec<Shop>,
    /// A connection for all who look something up, renewed after a restart of the database.
    connection: Mutex<Option<Arc<Client>>>,
}

/// Returns the text of a question, which no other message has, so that it is found wherever it appears.
pub(crate) fn question(buyer: &str, number: usize) -> String {
    format!("Вопрос <{buyer}/{number:03}>")
}

pub(crate) fn answer(buyer: &str, number: usize) -> String {
    format!("Ответ <{buyer}/{number:03}>")
}

impl Market {
    pub(crate) async fn open(size: Size) -> Self {
        let mut shops = Vec::new();
        for tenant in 0..size.tenants {
            let seller = Seller::new().await;
            let mut talks = Vec::new();
            for chat in (0..size.chats).filter(|chat| chat % size.tenants == tenant) {
                let messages = size.messages / size.chats + usize::from(chat < size.messages % size.chats);
                talks.push(Talk::begin(&seller, messages).await);
            }
            let group = AtomicI64::new(seller.group);
            shops.push(Shop { seller, talks, group, bot_is_out: AtomicBool::new(false) });
        }
        Self { size, shops, connection: Mutex::default() }
    }

    /// Returns the shared connection. None: the database is away.
    pub(crate) async fn database(&self) -> Option<Arc<Client>> {
        let mut connection = self.connection.lock().await;
        if connection.as_ref().is_none_or(|client| client.is_closed()) {
            *connection = try_database().await.map(Arc::new);
        }
        connection.clone()
    }

    /// Sums a number up over all talks.
    fn sum(&self, number: impl Fn(&Talk) -> usize) -> usize {
        self.shops.iter().flat_map(|shop| &shop.talks).map(number).sum()
    }

    /// Counts the messages that were not written, both ways.
    pub(crate) fn unwritten(&self) -> usize {
        self.sum(|talk| {
            let written = talk.asked.load(Ordering::Relaxed) + talk.answered.load(Ordering::Relaxed);
            2 * talk.messages - written
        })
    }

    /// Lets all buyers and operators write, in an order of their own, until all is written or it is too late.
    pub(crate) async fn talk(&self, seed: u64) {
        let deadline = Instant::now() + self.size.lasts + OVERTIME;
        let talks = self.shops.iter().flat_map(|shop| shop.talks.iter().map(move |talk| (shop, talk)));
        join_all(talks.zip(seed..).map(async |((shop, talk), seed)| {
            tokio::join!(self.ask(shop, talk, seed, deadline), self.answer(shop, talk, seed, deadline));
        }))
        .await;
    }

    async fn ask(&self, shop: &Shop, talk: &Talk, seed: u64, deadline: Instant) {
        let moments = self.moments(talk, seed);
        for number in 1..=talk.messages {
            moments.wait_for(number).await;
            if Instant::now() > deadline {
                return;
            }
            shop.seller.buyer_writes(&talk.chat, &question(&talk.buyer, number)).await;
            talk.asked.store(number, Ordering::Relaxed);
        }
    }

    async fn answer(&self, shop: &Shop, talk: &Talk, seed: u64, deadline: Instant) {
        let moments = self.moments(talk, !seed);
        for number in 1..=talk.messages {
            moments.wait_for(number).await;
            let text = answer(&talk.buyer, number);
            for tries in 1_u32.. {
                if Instant::now() > deadline {
                    return;
                }
                if self.write_in_topic(shop, talk, &text).await {
                    break;
                }
                // A deleted topic takes no message; the buyer's next message creates another topic.
                if tries % NUDGE_AFTER == 0 {
                    shop.seller.buyer_writes(&talk.chat, "Вы тут?").await;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            talk.answered.store(number, Ordering::Relaxed);
        }
    }

    /// Returns the random moments at which the messages of one side are due. They last as long as the troubles.
    fn moments(&self, talk: &Talk, seed: u64) -> Moments {
        let mut dice = StdRng::seed_from_u64(seed);
        let pauses: Vec<f64> = (0..talk.messages).map(|_| dice.random_range(0.1..1.9)).collect();
        let all: f64 = pauses.iter().sum();
        let shares = pauses.iter().scan(0.0, |sum, pause| {
            *sum += pause;
            Some(*sum / all)
        });
        let due = shares.map(|share| self.size.lasts.mul_f64(share)).collect();
        let least = self.size.lasts.mul_f64(0.1 / float(talk.messages.max(1)));
        Moments { began: Instant::now(), due, least }
    }

    /// Writes as an operator into the topic that the chat has now, or in reply to its last post in General. False: there is neither,
    /// or it takes no message.
    async fn write_in_topic(&self, shop: &Shop, talk: &Talk, text: &str) -> bool {
        if shop.bot_is_out.load(Ordering::Relaxed) {
            return false;
        }
        let group = shop.group.load(Ordering::Relaxed);
        let Some(thread) = self.topic(shop, talk).await else {
            let Some(post) = self.post_in_general(shop, talk).await else { return false };
            let reply = json!({ "chat_id": group, "reply_to": post, "text": text });
            return shop.seller.stack.try_control("telegram/messages", &reply).await.is_some();
        };
        let message = json!({ "chat_id": group, "thread_id": thread, "text": text });
        let is_written = shop.seller.stack.try_control("telegram/messages", &message).await.is_some();
        talk.topic.store(if is_written { thread } else { 0 }, Ordering::Relaxed);
        is_written
    }

    /// Returns the chat's topic: the one that took the last answer, else the one that the database has.
    async fn topic(&self, shop: &Shop, talk: &Talk) -> Option<i64> {
        let known = talk.topic.load(Ordering::Relaxed);
        if known != 0 {
            return Some(known);
        }
        let find = "SELECT telegram_topic_id FROM dialogs WHERE avito_account_id = $1 AND avito_chat_id = $2";
        let database = self.database().await?;
        database.query_opt(find, &[&shop.seller.account_id, &talk.chat]).await.ok()??.get(0)
    }

    /// Returns the chat's last post in General, where it is shown for an hour after its third topic was deleted.
    async fn post_in_general(&self, shop: &Shop, talk: &Talk) -> Option<i64> {
        let find = "SELECT p.telegram_message_ids[1] FROM posts p JOIN dialogs d ON d.id = p.dialog_id
                    WHERE d.avito_account_id = $1 AND d.avito_chat_id = $2 AND d.in_general_until > now()
                      AND p.kind = 'text' AND p.state = 'sent' AND p.message_chat_id = $3
                    ORDER BY p.id DESC LIMIT 1";
        let group = shop.group.load(Ordering::Relaxed);
        let database = self.database().await?;
        database.query_opt(find, &[&shop.seller.account_id, &talk.chat, &group]).await.ok()??.get(0)
    }

    /// Waits until nothing is under way. False: the time is over before.
    pub(crate) async fn quiet_within(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while !self.is_quiet().await {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        true
    }

    /// True if everything that was written is recorded and no message waits on its way.
    async fn is_quiet(&self) -> bool {
        let accounts: Vec<i64> = self.shops.iter().map(|shop| shop.seller.account_id).collect();
        let bots: Vec<i64> = self.shops.iter().map(|shop| shop.seller.bot_id).collect();
        let count = "SELECT
            (SELECT count(*) FROM messages WHERE avito_account_id = ANY($1) AND origin = 'buyer' AND text LIKE 'Вопрос%'),
            (SELECT count(*) FROM messages WHERE avito_account_id = ANY($1) AND origin = 'operator'),
            (SELECT count(*) FROM messages WHERE bot_id = ANY($2) AND needs_post AND post_id IS NULL)
            + (SELECT count(*) FROM posts WHERE bot_id = ANY($2) AND state IN ('pending', 'sending')
               AND kind IN ('header', 'replay', 'text', 'mirror'))
            + (SELECT count(*) FROM parts WHERE avito_account_id = ANY($1) AND state IN ('pending', 'sending'))";
        let Some(database) = self.database().await else { return false };
        let Ok(row) = database.query_one(count, &[&accounts, &bots]).await else { return false };
        let asked = self.sum(|talk| talk.asked.load(Ordering::Relaxed));
        let answered = self.sum(|talk| talk.answered.load(Ordering::Relaxed));
        let count = |number| i64::try_from(number).expect("a number of messages");
        (row.get(0), row.get(1), row.get(2)) == (count(asked), count(answered), 0_i64)
    }
}

/// The moments at which messages are due, and the least pause of a side that is late.
struct Moments {
    began: Instant,
    due: Vec<Duration>,
    least: Duration,
}

impl Moments {
    async fn wait_for(&self, number: usize) {
        let pause = (self.began + self.due[number - 1]).saturating_duration_since(Instant::now());
        tokio::time::sleep(pause.max(self.least)).await;
    }
}

impl Talk {
    async fn begin(seller: &Seller, messages: usize) -> Self {
        let buyer = format!("Б{}", new_number());
        let chat = seller.chat(&buyer).await;
        let (asked, answered) = Default::default();
        Self { buyer, chat, messages, asked, answered, topic: AtomicI64::new(0) }
    }
}

/// Returns the list with this name in a simulator's answer. Empty: there is none.
pub(crate) fn list(answer: &Value, name: &str) -> Vec<Value> {
    answer[name].as_array().cloned().unwrap_or_default()
}
