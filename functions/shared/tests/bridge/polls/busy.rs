//! The first sync of a busy account: what it costs, what it shows first, and that what breaks off is continued.

use jiff::Timestamp;
use serde_json::json;
use tuberry::platform::db::{Scope, Statement};

use crate::support::{must, shop::Shop};

fn seconds_ago(seconds: i64) -> i64 {
    Timestamp::now().as_second() - seconds
}

impl Shop {
    /// Opens that many chats in which the seller had the last word before the account was connected.
    async fn answered_chats(&self, count: usize) {
        for _ in 0..count {
            let chat = self.another_chat().await;
            self.message(json!({ "chat": chat, "from": "seller_app", "text": "да", "created": seconds_ago(3600) }))
                .await;
        }
    }

    /// Opens that many chats with an unread message each, the first of them the newest. Returns their texts.
    async fn unread_chats(&self, count: i64) -> Vec<String> {
        let mut texts = Vec::new();
        // One moment for all: no two of them may have the same time.
        let newest = seconds_ago(7200);
        for number in 0..count {
            let (chat, text) = (self.another_chat().await, format!("Вопрос {number}"));
            self.message(json!({ "chat": chat, "from": "buyer", "text": text, "created": newest - number })).await;
            texts.push(text);
        }
        texts
    }

    /// Lets the first poll come.
    async fn first_poll(&self) {
        self.change("UPDATE account_polls SET unread_list_at = now() WHERE avito_account_id = $1").await;
        self.poll_when_due().await;
    }

    /// Lets a minute pass for the calls that were made.
    async fn next_minute(&self) {
        self.change(
            "UPDATE account_polls SET message_calls = ARRAY(SELECT time - 61 FROM unnest(message_calls) AS time)
             WHERE avito_account_id = $1",
        )
        .await;
        let forget = "redis.call('DEL', KEYS[1]) return 0";
        let key = format!("avito-rate-limit:{}", self.account_id);
        must(self.world.app.cache().script(forget, &key, &[]).await);
    }

    /// Reads a number of the account's row of polls.
    pub(super) async fn polls(&self, sql: &'static str) -> Option<i64> {
        self.world.query(Scope::Service, Statement::new(sql).bind(self.account_id)).await[0].get(0)
    }

    async fn watermark(&self) -> Option<i64> {
        self.polls("SELECT watermark FROM account_polls WHERE avito_account_id = $1").await
    }

    /// Reads the chats that were read, and all that were to be read.
    async fn progress(&self) -> (Option<i64>, Option<i64>) {
        let read = self.polls("SELECT chats_read::bigint FROM account_polls WHERE avito_account_id = $1").await;
        let all = self.polls("SELECT chats_to_read::bigint FROM account_polls WHERE avito_account_id = $1").await;
        (read, all)
    }

    pub(super) async fn message_calls(&self, since: u64) -> usize {
        self.calls(since).await.iter().filter(|method| *method == "messages.list").count()
    }
}

#[tokio::test]
async fn of_a_busy_account_the_first_poll_shows_the_one_unread_chat_in_three_calls() {
    let shop = Shop::polled().await;
    shop.answered_chats(60).await;
    shop.unread_chats(1).await;
    let since = shop.calls_so_far().await;

    shop.first_poll().await;

    assert_eq!(shop.recorded().await, ["Вопрос 0"]);
    assert_eq!(shop.calls(since).await, ["chats.list", "chats.list", "messages.list"]);
    assert!(shop.watermark().await.is_some_and(|watermark| watermark >= seconds_ago(3700)));
    let since = shop.calls_so_far().await;
    shop.poll_when_due().await;
    assert_eq!(shop.calls(since).await, ["chats.list"]);
    assert!(shop.is_polled_rarely().await);
}

#[tokio::test]
async fn three_hundred_read_chats_cost_four_lists_and_one_poll() {
    let shop = Shop::polled().await;
    shop.answered_chats(300).await;
    let since = shop.calls_so_far().await;

    shop.first_poll().await;

    assert_eq!(shop.calls(since).await, ["chats.list"; 4]);
    let since = shop.calls_so_far().await;
    shop.poll_when_due().await;
    assert_eq!(shop.calls(since).await, ["chats.list"]);
}

#[tokio::test]
async fn sixty_unread_chats_are_read_in_three_minutes_the_newest_first_with_twenty_calls_a_minute() {
    let shop = Shop::polled().await;
    let texts = shop.unread_chats(60).await;
    let since = shop.calls_so_far().await;

    shop.first_poll().await;
    let mut recorded = shop.recorded().await;
    recorded.reverse();
    assert_eq!(recorded, texts[..20]);
    assert_eq!((shop.message_calls(since).await, shop.progress().await), (20, (Some(20), Some(60))));
    assert!(!shop.is_polled_rarely().await, "while chats are left");
    shop.poll_when_due().await;
    assert_eq!(shop.message_calls(since).await, 20, "not before a minute is over");
    shop.next_minute().await;
    shop.poll_when_due().await;
    assert_eq!((shop.message_calls(since).await, shop.progress().await), (40, (Some(40), Some(60))));
    assert!(shop.watermark().await.is_none_or(|watermark| watermark <= seconds_ago(7200 + 59)));
    shop.next_minute().await;
    shop.poll_when_due().await;

    assert_eq!(shop.recorded().await.len(), 60);
    assert_eq!((shop.message_calls(since).await, shop.progress().await), (60, (Some(0), Some(0))));
    shop.poll_when_due().await;
    assert!(shop.is_polled_rarely().await);
}

#[tokio::test]
async fn all_pages_of_unread_chats_are_listed() {
    let shop = Shop::polled().await;
    shop.unread_chats(150).await;
    shop.first_poll().await;
    assert_eq!(shop.progress().await, (Some(20), Some(150)));
}

#[tokio::test]
async fn a_chat_that_needs_more_calls_than_are_left_comes_first_in_the_next_minute() {
    let shop = Shop::polled().await;
    shop.first_poll().await;
    let long = shop.another_chat().await;
    for number in 0..250 {
        let created = seconds_ago(500 - number);
        shop.message(json!({ "chat": long, "from": "buyer", "text": format!("{number}"), "created": created })).await;
    }
    shop.change("UPDATE account_polls SET started_at = now() - interval '1 hour' WHERE avito_account_id = $1").await;
    let nearly_all = "UPDATE account_polls SET message_calls = array_fill(extract(epoch FROM now())::bigint, ARRAY[18])
                      WHERE avito_account_id = $1";
    shop.change(nearly_all).await;
    shop.poll_when_due().await;
    assert_eq!(shop.recorded().await.len(), 0, "nothing is recorded by halves");
    let since = shop.calls_so_far().await;
    shop.poll_when_due().await;
    assert_eq!(shop.message_calls(since).await, 0, "nor are calls used up for a half");
    let other = shop.another_chat().await;
    shop.writes(&other, "Новее", false).await;
    shop.next_minute().await;
    let since = shop.calls_so_far().await;
    shop.poll_when_due().await;
    assert_eq!(shop.recorded().await.len(), 251);
    assert_eq!(shop.message_calls(since).await, 4);
}

#[tokio::test]
async fn messages_behind_the_last_page_that_avito_serves_are_said_to_be_missing() {
    let shop = Shop::polled().await;
    shop.first_poll().await;
    let chat = shop.another_chat().await;
    for number in 0..1_200 {
        let created = seconds_ago(3000 - number);
        shop.message(json!({ "chat": chat, "from": "buyer", "text": format!("{number}"), "created": created })).await;
    }
    shop.change("UPDATE account_polls SET started_at = now() - interval '1 hour' WHERE avito_account_id = $1").await;

    shop.poll_when_due().await;

    let recorded = shop.recorded().await;
    assert_eq!((recorded.len(), recorded.first().map(String::as_str)), (1_100, Some("100")));
    assert_eq!(shop.notices_in_topics("Показаны не все").await, 1);
}

#[tokio::test]
async fn if_more_chats_changed_than_avito_lists_the_owner_is_notified_once() {
    let shop = Shop::polled().await;
    shop.answered_chats(1_101).await;
    shop.first_poll().await;
    assert_eq!(shop.notices().await, 1);
    shop.next_minute().await;
    shop.change("UPDATE account_polls SET page_digest = NULL, watermark = NULL WHERE avito_account_id = $1").await;
    shop.poll_when_due().await;
    assert_eq!(shop.notices().await, 1);
}

#[tokio::test]
async fn a_chat_whose_time_is_in_milliseconds_does_not_blind_the_poll() {
    let shop = Shop::polled().await;
    let strange = shop.another_chat().await;
    let message = json!({ "chat": strange, "from": "buyer", "text": "Когда?", "created": seconds_ago(0) * 1000 });
    shop.message(message).await;
    shop.first_poll().await;
    assert!(shop.watermark().await.is_some_and(|watermark| watermark <= seconds_ago(0)));
    let chat = shop.chat().await;
    shop.writes(&chat, "Сейчас", false).await;
    let since = shop.calls_so_far().await;

    shop.poll_when_due().await;

    assert!(shop.recorded().await.contains(&"Сейчас".to_owned()));
    assert_eq!(shop.message_calls(since).await, 1, "the strange chat has not changed");
}
