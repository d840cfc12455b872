//! Messages that overtake each other on their way: the topic shows them as the chat holds them.

use jiff::Timestamp;
use serde_json::json;

use super::support::{LATER, SOON, Seller};

/// What a buyer wrote, by seconds after now; Avito tells of nothing yet. Gives Avito's ids.
async fn silently(seller: &Seller, chat: &str, texts: &[(&str, i64)]) -> Vec<String> {
    let now = Timestamp::now().as_second();
    let mut ids = Vec::new();
    for (text, second) in texts {
        let message = json!({ "chat": chat, "from": "buyer", "text": text, "created": now + second, "webhook": false });
        ids.push(seller.avito_message(message).await);
    }
    ids
}

async fn tell(seller: &Seller, message_id: &str) {
    seller.stack.control("webhooks/avito/redeliver", &json!({ "message_id": message_id })).await;
}

#[tokio::test]
async fn webhooks_of_one_second_that_overtake_each_other_are_shown_as_the_chat_holds_them() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Анна").await;
    let ids = silently(&seller, &chat, &[("Раз", 0), ("Два", 0), ("Три", 0)]).await;

    for id in [&ids[2], &ids[0], &ids[1]] {
        tell(&seller, id).await;
    }

    assert_eq!(seller.said(SOON, "Анна", "Три").await.said(), ["Здравствуйте", "Раз", "Два", "Три"]);
}

#[tokio::test]
async fn webhooks_of_different_seconds_that_overtake_each_other_are_shown_by_their_time() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Борис").await;
    let ids = silently(&seller, &chat, &[("Раз", 0), ("Два", 1)]).await;

    for id in ids.iter().rev() {
        tell(&seller, id).await;
    }

    assert_eq!(seller.said(SOON, "Борис", "Два").await.said(), ["Здравствуйте", "Раз", "Два"]);
}

#[tokio::test]
async fn an_order_that_avito_does_not_tell_is_that_of_arrival() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Вера").await;
    let fault = json!({
        "target": "avito", "method": "messages.list", "kind": "status", "status": 503, "times": 1000,
        "scope": { "user_id": seller.user_id },
    });
    seller.stack.fault(fault).await;
    let ids = silently(&seller, &chat, &[("Раз", 0), ("Два", 0)]).await;

    for id in &ids {
        tell(&seller, id).await;
        // One after the other: each is recorded before the next is told.
        heard(&seller, id).await;
    }

    assert_eq!(seller.said(LATER, "Вера", "Два").await.said(), ["Здравствуйте", "Раз", "Два"]);
}

/// Waits until a message is in the dialog's history.
async fn heard(seller: &Seller, message_id: &str) {
    let database = super::support::database().await;
    super::support::wait_until(SOON, "the message is recorded", async || {
        let find = "SELECT FROM messages WHERE avito_account_id = $1 AND avito_message_id = $2";
        database.query_opt(find, &[&seller.account_id, &message_id]).await.expect("an answer").map(|_| ())
    })
    .await;
}
