//! The people who talk during the storm: buyers in their chats, and operators who answer in the topic that the chat has
//! then.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::Size;
use super::support::{Seller, new_number, try_database};

/// The number of attempts to answer in a topic, until the buyer writes again.
const NUDGE_AFTER: u32 = 40;

/// One buyer's chat.
pub(crate) struct Talk {
    pub(crate) buyer: String,
    pub(crate) chat: String,
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
        for _ in 0..size.tenants {
            let seller = Seller::new().await;
            let mut talks = Vec::new();
            for _ in 0..size.chats / size.tenants {
                let buyer = format!("Б{}", new_number());
                talks.push(Talk { chat: seller.chat(&buyer).await, buyer });
            }
            let group = AtomicI64::new(seller.group);
            shops.push(Shop { seller, talks, group, bot_is_out: AtomicBool::new(false) });
        }
        Self { size, shops }
    }

    /// Returns the number of messages of each chat, each way.
    pub(crate) fn per_chat(&self) -> usize {
        self.size.messages / self.size.chats
    }

    /// Lets all buyers and operators write, in an order of their own, until all is written.
    pub(crate) async fn talk(&self, seed: u64) {
        let talks = self.shops.iter().flat_map(|shop| shop.talks.iter().map(move |talk| (shop, talk)));
        join_all(talks.zip(seed..).map(async |((shop, talk), seed)| {
            tokio::join!(self.ask(shop, talk, seed), self.answer(shop, talk, seed));
        }))
        .await;
    }

    async fn ask(&self, shop: &Shop, talk: &Talk, seed: u64) {
        let mut pause = self.pauses(seed);
        for number in 1..=self.per_chat() {
            tokio::time::sleep(pause()).await;
            shop.seller.buyer_writes(&talk.chat, &question(&talk.buyer, number)).await;
        }
    }

    async fn answer(&self, shop: &Shop, talk: &Talk, seed: u64) {
        let mut pause = self.pauses(!seed);
        for number in 1..=self.per_chat() {
            tokio::time::sleep(pause()).await;
            let text = answer(&talk.buyer, number);
            for tries in 1_u32.. {
                if self.write_in_topic(shop, talk, &text).await {
                    break;
                }
                // A deleted topic takes no message; the buyer's next message creates another topic.
                if tries % NUDGE_AFTER == 0 {
                    shop.seller.buyer_writes(&talk.chat, "Вы тут?").await;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    /// Returns random pauses that let the chat's messages last as long as the troubles.
    fn pauses(&self, seed: u64) -> impl FnMut() -> Duration + use<> {
        let mut dice = StdRng::seed_from_u64(seed);
        let mean = self.size.lasts.as_secs_f64() / f64::from(u32::try_from(self.per_chat()).expect("a small number"));
        move || Duration::from_secs_f64(mean * dice.random_range(0.1..1.9))
    }

    /// Writes as an operator into the topic that the chat has now. False: there is none, or it takes no message.
    async fn write_in_topic(&self, shop: &Shop, talk: &Talk, text: &str) -> bool {
        if shop.bot_is_out.load(Ordering::Relaxed) {
            return false;
        }
        let find = "SELECT telegram_topic_id FROM dialogs WHERE avito_account_id = $1 AND avito_chat_id = $2";
        let Some(database) = try_database().await else { return false };
        let Ok(Some(row)) = database.query_opt(find, &[&shop.seller.account_id, &talk.chat]).await else {
            return false;
        };
        let Some(thread) = row.get::<_, Option<i64>>(0) else { return false };
        let message = json!({ "chat_id": shop.group.load(Ordering::Relaxed), "thread_id": thread, "text": text });
        shop.seller.stack.try_control("telegram/messages", &message).await.is_some()
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

    /// True if every question is recorded and no message waits on its way.
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
        let Some(database) = try_database().await else { return false };
        let Ok(row) = database.query_one(count, &[&accounts, &bots]).await else { return false };
        let all = i64::try_from(self.per_chat() * self.shops.iter().map(|shop| shop.talks.len()).sum::<usize>());
        let all = all.expect("a small number");
        (row.get(0), row.get(1), row.get(2)) == (all, all, 0_i64)
    }
}

/// Returns the list with this name in a simulator's answer. Empty: there is none.
pub(crate) fn list(answer: &Value, name: &str) -> Vec<Value> {
    answer[name].as_array().cloned().unwrap_or_default()
}
