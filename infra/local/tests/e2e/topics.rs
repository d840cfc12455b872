//! One chat, one topic: however many workers run at the same time, and whichever answer was lost.

use futures_util::future::join_all;
use serde_json::json;

use super::runtime_api::{Function, NOWHERE};
use super::support::{LATER, Seller, new_number, notification, wait_until};

#[tokio::test]
async fn ten_workers_at_once_make_one_topic_even_when_its_confirmation_is_lost() {
    let seller = Seller::new().await;
    let chat = seller.chat("Анна").await;
    let away = format!("http://{NOWHERE}");
    let alone = [("AWS_ENDPOINT_URL", away.as_str())];
    let webhook = Function::start("avito-webhook", &alone).await;
    let workers = join_all((0..10).map(|_| Function::start("deliver-to-telegram", &alone))).await;
    let lost = json!({
        "target": "telegram", "method": "createForumTopic", "kind": "reset_after", "times": 1,
        "scope": { "chat_id": seller.group },
    });
    seller.stack.fault(lost).await;
    let event = notification(&seller, &chat, &format!("m{}", new_number()), "Одна тема");
    assert_eq!(webhook.post(&seller.avito_webhook().await, &[], &event).await.0, 200);

    let task = json!({ "v": "1", "bot_id": seller.bot_id });
    wait_until(LATER, "the message in a topic", async || {
        join_all(workers.iter().map(|worker| worker.work(&task))).await;
        seller.topics().await.iter().any(|topic| topic.said() == ["Одна тема"]).then_some(())
    })
    .await;

    let with_posts = |topics: &[super::support::Topic]| topics.iter().filter(|topic| !topic.posts().is_empty()).count();
    let topics = wait_until(LATER, "one topic alone", async || {
        join_all(workers.iter().map(|worker| worker.work(&task))).await;
        let topics = seller.topics().await;
        (topics.len() == 1).then_some(topics)
    })
    .await;
    assert_eq!((with_posts(&topics), topics[0].headers().len()), (1, 1), "{topics:?}");
}
