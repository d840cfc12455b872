//! Messages that overtake each other on their way: the topic has them in the order of the chat.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::support::{LATER, SOON, Seller, database, wait_until};

/// Writes a buyer's texts, each so many seconds after now, without webhooks. Returns Avito's ids.
async fn write_without_webhooks(seller: &Seller, chat: &str, texts: &[(&str, i64)]) -> Vec<String> {
    let now = Timestamp::now().as_second();
    let mut ids = Vec::new();
    for (text, second) in texts {
        let message = json!({ "chat": chat, "from": "buyer", "text": text, "created": now + second, "webhook": false });
        ids.push(seller.avito_message(message).await);
    }
    ids
}

async fn send_webhook(seller: &Seller, message_id: &str) {
    seller.stack.control("webhooks/avito/redeliver", &json!({ "message_id": message_id })).await;
}

/// Makes this call fail for the account; returns the fault's id.
async fn unavailable(seller: &Seller, method: &str) -> u64 {
    let fault = json!({ "target": "avito", "method": method, "kind": "status", "status": 503,
                        "scope": { "user_id": seller.user_id } });
    seller.stack.fault(fault).await
}

/// Sends the webhooks of messages in this order, all of them before any is posted. Each follows another closely,
/// however slow this machine is, and so has to wait a second for those that it may have overtaken.
async fn send_webhooks_before_any_post<'a>(seller: &Seller, message_ids: impl IntoIterator<Item = &'a String>) {
    let database = database().await;
    let just_received = "WITH waiting AS (
            UPDATE messages SET created_at = now() WHERE avito_account_id = $1 AND needs_post AND post_id IS NULL
        )
        UPDATE dialogs SET last_received_at = now() + interval '1 hour', hold_until = NULL WHERE avito_account_id = $1";
    let is_to_wait = "SELECT coalesce(hold_until >= last_received_at + interval '1 second', false) FROM dialogs
        WHERE avito_account_id = $1";
    for id in message_ids {
        database.execute(just_received, &[&seller.account_id]).await.expect("the dialog");
        send_webhook(seller, id).await;
        wait_until_recorded(seller, id).await;
        let waits: bool = database.query_one(is_to_wait, &[&seller.account_id]).await.expect("the dialog").get(0);
        assert!(waits, "it does not wait for those that it may have overtaken");
    }
}

#[tokio::test]
async fn messages_of_one_second_whose_webhooks_overtake_each_other_are_posted_in_the_order_of_avitos_list() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Анна").await;
    // No poll reports them first, not even one that has listed the chats and now reads this one.
    unavailable(&seller, "chats.list").await;
    let unreadable = unavailable(&seller, "messages.list").await;
    seller.pause_posting().await;
    let ids = write_without_webhooks(&seller, &chat, &[("Раз", 0), ("Два", 0), ("Три", 0)]).await;

    send_webhooks_before_any_post(&seller, [&ids[2], &ids[0], &ids[1]]).await;
    // Avito's list gives their order.
    seller.stack.mend(unreadable).await;
    seller.resume_posting().await;

    assert_eq!(seller.said(SOON, "Анна", "Три").await.said(), ["Здравствуйте", "Раз", "Два", "Три"]);
}

#[tokio::test]
async fn messages_of_different_seconds_whose_webhooks_overtake_each_other_are_posted_by_their_time() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Борис").await;
    for method in ["chats.list", "messages.list"] {
        unavailable(&seller, method).await;
    }
    seller.pause_posting().await;
    let ids = write_without_webhooks(&seller, &chat, &[("Раз", 0), ("Два", 1)]).await;

    send_webhooks_before_any_post(&seller, ids.iter().rev()).await;
    seller.resume_posting().await;

    assert_eq!(seller.said(SOON, "Борис", "Два").await.said(), ["Здравствуйте", "Раз", "Два"]);
}

#[tokio::test]
async fn messages_of_a_buyer_who_writes_without_a_pause_are_posted_all_the_same() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Глеб").await;
    let mut written = vec!["Здравствуйте".to_owned()];
    let is_posted = async || seller.topic_of("Глеб").await.is_some_and(|topic| topic.said().len() > 1);

    while !is_posted().await {
        assert!(written.len() < 60, "nothing is posted while the buyer goes on");
        written.push(format!("И ещё {}", written.len()));
        seller.buyer_writes(&chat, &written[written.len() - 1]).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }

    let last = &written[written.len() - 1];
    assert_eq!(seller.said(LATER, "Глеб", last).await.said(), written);
}

#[tokio::test]
async fn messages_of_one_second_are_posted_in_the_order_of_arrival_if_avitos_list_is_not_available() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Вера").await;
    unavailable(&seller, "messages.list").await;
    let ids = write_without_webhooks(&seller, &chat, &[("Раз", 0), ("Два", 0)]).await;

    for id in &ids {
        send_webhook(&seller, id).await;
        // Each is recorded before the next one's webhook is sent.
        wait_until_recorded(&seller, id).await;
    }

    assert_eq!(seller.said(LATER, "Вера", "Два").await.said(), ["Здравствуйте", "Раз", "Два"]);
}

/// Waits until a message is in the dialog's history.
async fn wait_until_recorded(seller: &Seller, message_id: &str) {
    let database = database().await;
    wait_until(SOON, "the message is recorded", async || {
        let find = "SELECT FROM messages WHERE avito_account_id = $1 AND avito_message_id = $2";
        database.query_opt(find, &[&seller.account_id, &message_id]).await.expect("an answer").map(|_| ())
    })
    .await;
}
