//! Two sources of messages, webhook and poll: together they lose nothing and post nothing twice.

use serde_json::json;

use super::support::{LATER, SOON, Seller, wait_until};

#[tokio::test]
async fn a_message_that_came_by_two_webhooks_and_by_the_poll_is_posted_once() {
    let seller = Seller::new().await;
    let chat = seller.chat("Лидия").await;
    let twice = json!({ "chat": chat, "from": "buyer", "text": "Трижды рассказано", "webhook_times": 2 });
    seller.avito_message(twice).await;
    seller.said(SOON, "Лидия", "Трижды рассказано").await;

    // This one has no webhook, so the poll reads the chat back from it, past the first one.
    seller.avito_message(json!({ "chat": chat, "from": "buyer", "text": "Метка", "webhook": false })).await;
    let topic = wait_until(LATER, "the message that only the poll can find", async || {
        seller.stack.run_schedule("poll-avito").await;
        seller.topic_of("Лидия").await.filter(|topic| topic.said().iter().any(|line| line == "Метка"))
    })
    .await;

    assert_eq!(topic.said(), ["Трижды рассказано", "Метка"]);
}

#[tokio::test]
async fn a_message_whose_webhook_was_lost_is_found_by_the_scheduled_poll() {
    let seller = Seller::new().await;
    let chat = seller.chat("Мария").await;

    seller.avito_message(json!({ "chat": chat, "from": "buyer", "text": "Никто не сказал", "webhook": false })).await;

    assert_eq!(seller.said(LATER, "Мария", "Никто не сказал").await.said(), ["Никто не сказал"]);
}

#[tokio::test]
async fn a_lost_webhook_between_two_good_ones_leaves_no_gap() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Нина").await;

    seller.avito_message(json!({ "chat": chat, "from": "buyer", "text": "Потеряно", "webhook": false })).await;
    seller.buyer_writes(&chat, "Дошло").await;

    wait_until(LATER, "the message between", async || {
        let said = seller.topic_of("Нина").await?.said();
        (said.iter().any(|line| line == "Потеряно") && said.iter().any(|line| line == "Дошло")).then_some(())
    })
    .await;
}
