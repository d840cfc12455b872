//! Rows go after their time, and stay away whatever a poll finds at Avito.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use tuberry::{
    bridge::forget::{Forgotten, forget_of},
    platform::db::Statement,
};

use crate::{scene::Scene, support::must};

const DAY: i64 = 24 * 3600;

impl Scene {
    /// Runs the schedule for the shop's client.
    async fn forgets(&self) -> Forgotten {
        let mut forgotten = Forgotten::default();
        let until = Instant::now() + Duration::from_secs(30);
        must(forget_of(self.shop.world.app, self.shop.owner.client, until, &mut forgotten).await);
        forgotten
    }

    /// Has the next poll read the whole account again, as if it was connected two months ago and never polled.
    async fn polls_from_the_beginning(&self) {
        self.as_owner(
            "DELETE FROM chat_polls; UPDATE account_polls SET started_at = now() - interval '60 days', watermark = NULL,
             page_digest = NULL, unread_digest = NULL, unread_list_at = now()",
        )
        .await;
    }

    async fn texts(&self) -> Vec<String> {
        let rows = self.query(Statement::new("SELECT text FROM messages WHERE origin = 'buyer' ORDER BY id")).await;
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn buyer_wrote(&self, chat: &str, text: &str, days_ago: i64) {
        let created = Timestamp::now().as_second() - days_ago * DAY;
        let message = json!({ "chat": chat, "from": "buyer", "text": text, "created": created, "webhook": false });
        self.shop.world.control("avito/messages", &message).await;
    }
}

#[tokio::test]
async fn a_poll_brings_nothing_back_that_was_forgotten() {
    let mut scene = Scene::new().await;
    let chat = scene.buyer_writes_first("Анна", "Новое").await;
    scene.buyer_wrote(&chat, "Старое", 45).await;
    scene.buyer_wrote(&chat, "Старое тоже", 40).await;
    scene.polls_from_the_beginning().await;
    scene.poll().await;
    scene.settle().await;
    assert_eq!(scene.texts().await.len(), 3);
    scene.as_owner("UPDATE messages SET created_at = least(created_at, avito_created)").await;

    assert_eq!(scene.forgets().await.messages, 0, "nobody asked for it");
    scene.as_owner("UPDATE clients SET keep_days = 30").await;
    assert_eq!(scene.forgets().await.messages, 2);

    assert_eq!(scene.texts().await, ["Новое"]);
    scene.polls_from_the_beginning().await;
    scene.poll().await;
    assert_eq!(scene.texts().await, ["Новое"]);
    scene.buyer_writes(&chat, "Ещё новее").await;
    scene.poll().await;
    assert_eq!(scene.texts().await, ["Новое", "Ещё новее"]);
    scene.end().await;
}

#[tokio::test]
async fn finished_posts_and_parts_are_forgotten_after_a_month_and_nothing_else() {
    let mut scene = Scene::new().await;
    let chat = scene.buyer_writes_first("Анна", "Ещё есть?").await;
    scene.poll().await;
    scene.settle().await;
    scene.answer(&chat, "Есть").await;
    scene.settle().await;
    let count = "SELECT (SELECT count(*) FROM parts), (SELECT count(*) FROM posts WHERE content <> '{}'), (SELECT count(*) FROM posts),
                        (SELECT count(*) FROM messages), (SELECT count(*) FROM posts WHERE telegram_message_ids <> '{}')";
    let counts = async |scene: &Scene| -> [i64; 5] {
        let rows = scene.query(Statement::new(count)).await;
        [0, 1, 2, 3, 4].map(|column| rows[0].get(column))
    };
    let before = counts(&scene).await;
    assert!(before[0] == 1 && before[1] > 0 && before[4] > 0, "{before:?}");

    assert_eq!(scene.forgets().await, Forgotten::default());
    scene.run_for(Duration::from_secs(31 * 24 * 3600)).await;
    let unfinished = "INSERT INTO posts (client_id, bot_id, kind, content, created_at)
                      SELECT client_id, bot_id, 'notice', '{\"text\": \"x\"}', now() - interval '40 days' FROM tenancy_bots";
    scene.query(Statement::new(unfinished)).await;
    scene.forgets().await;

    assert_eq!(counts(&scene).await, [0, 1, before[2] + 1, before[3], before[4]]);
    scene.end().await;
}

#[tokio::test]
async fn an_own_message_whose_part_was_forgotten_is_not_taken_for_one_of_the_app() {
    let mut scene = Scene::new().await;
    let chat = scene.buyer_writes_first("Анна", "Ещё есть?").await;
    scene.poll().await;
    scene.settle().await;
    scene.answer(&chat, "Есть").await;
    scene.settle().await;
    // The simulator's message has the time of now, so the part is forgotten as if a month had passed by then.
    scene
        .as_owner(
            "UPDATE parts SET created_at = now() - interval '31 days', sending_since = now() - interval '31 days'",
        )
        .await;
    scene.forgets().await;
    scene.as_owner("UPDATE dialogs SET floor_at = floor_at + interval '31 days'").await;

    scene.polls_from_the_beginning().await;
    scene.poll().await;

    let of_the_app = "SELECT count(*) FROM messages WHERE origin = 'avito_app'";
    assert_eq!(scene.query(Statement::new(of_the_app)).await[0].get::<_, i64>(0), 0);
    scene.end().await;
}
