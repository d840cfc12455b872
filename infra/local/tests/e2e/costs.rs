//! The cost of a message: calls to Avito and Telegram, counted in the simulators, and round trips to Postgres, counted
//! on the wire without those of connecting.

use serde_json::json;
use tuberry_local::proxy::Proxy;

use super::runtime_api::{Function, NOWHERE};
use super::support::{SOON, Seller, database, database_proxy, notification, update, wait_until};

#[tokio::test]
async fn a_text_in_costs_one_call_to_telegram_and_none_to_avito() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Анна").await;
    let since = topic_complete(&seller, "Анна").await;

    seller.buyer_writes(&chat, "Один вызов").await;
    seller.said(SOON, "Анна", "Один вызов").await;

    assert_eq!(methods(seller.telegram_calls(since).await), ["sendMessage"]);
    assert_eq!(methods(seller.avito_calls(since).await), [""; 0]);
}

#[tokio::test]
async fn the_first_text_of_a_chat_costs_one_call_to_avito_and_four_calls_to_telegram() {
    let seller = Seller::new().await;
    // A poll that reads the chat first would save the call.
    let blind = json!({ "target": "avito", "method": "chats.list", "kind": "status", "status": 503,
                        "scope": { "user_id": seller.user_id } });
    seller.stack.fault(blind).await;
    let since = seller.stack.calls_so_far().await;

    seller.conversation("Борис").await;
    topic_complete(&seller, "Борис").await;

    let telegram = methods(seller.telegram_calls(since).await);
    assert_eq!(telegram, ["createForumTopic", "sendMessage", "sendMessage", "pinChatMessage"]);
    assert_eq!(methods(seller.avito_calls(since).await), ["chats.get"]);
}

#[tokio::test]
async fn a_text_out_costs_one_call_to_avito_and_a_reaction() {
    let seller = Seller::new().await;
    let (_, thread) = seller.conversation("Вера").await;
    let since = topic_complete(&seller, "Вера").await;

    let answer = seller.operator_writes(thread, "Два вызова").await;
    seller.receipt(SOON, "Вера", answer).await;

    assert_eq!(methods(seller.avito_calls(since).await), ["messages.send"]);
    assert_eq!(methods(seller.telegram_calls(since).await), ["setMessageReaction"]);
}

#[tokio::test]
async fn a_text_in_costs_at_most_four_round_trips_to_postgres() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Глеб").await;
    topic_complete(&seller, "Глеб").await;
    make_quiet(&seller, &chat).await;
    let proxy = database_proxy().await;
    let (webhook, telegram) = tokio::join!(function("avito-webhook", &proxy), function("deliver-to-telegram", &proxy));
    let url = seller.avito_webhook().await;

    // The stack does not learn of it: Avito's list does not have it, and no queue gets a task.
    let event = notification(&seller, &chat, "counted", "Посчитано");
    assert_eq!(webhook.post(&url, &[], &event).await.0, 200);
    assert_eq!(proxy.waits(), 1, "the webhook");
    telegram.work(&json!({ "v": "1", "bot_id": seller.bot_id })).await;

    seller.said(SOON, "Глеб", "Посчитано").await;
    assert!(proxy.waits() <= 4, "{} in all", proxy.waits());
}

#[tokio::test]
async fn a_text_out_costs_at_most_five_round_trips_to_postgres() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Дина").await;
    topic_complete(&seller, "Дина").await;
    let proxy = database_proxy().await;
    let (webhook, avito, telegram) = tokio::join!(
        function("telegram-webhook", &proxy),
        function("deliver-to-avito", &proxy),
        function("deliver-to-telegram", &proxy)
    );
    let (url, secret) = seller.telegram_webhook().await;
    let dialog_id = dialog(&seller, &chat).await;

    // The simulator has this message, so that it can carry the receipt; the update below is the test's own.
    let note = seller.operator_writes(thread, "// для отметки").await;
    let said = update(&seller, thread, note, "Посчитано");
    let header = [("x-telegram-bot-api-secret-token", secret.as_str())];
    assert_eq!(webhook.post(&url, &header, &said).await.0, 200);
    assert_eq!(proxy.waits(), 1, "the webhook");
    avito.work(&json!({ "v": "1", "dialog_id": dialog_id })).await;
    assert_eq!(seller.answers(&chat).await, ["Посчитано"]);
    assert!(proxy.waits() <= 3, "{} with the delivery", proxy.waits());
    telegram.work(&json!({ "v": "1", "bot_id": seller.bot_id })).await;

    seller.receipt(SOON, "Дина", note).await;
    assert!(proxy.waits() <= 5, "{} in all", proxy.waits());
}

#[tokio::test]
async fn every_post_of_a_round_is_charged_to_the_groups_budget() {
    let seller = Seller::new().await;
    let mut chats = Vec::new();
    for buyer in ["Егор", "Жанна", "Зоя", "Инна"] {
        let (chat, _) = seller.conversation(buyer).await;
        topic_complete(&seller, buyer).await;
        chats.push((buyer, chat));
    }
    let since = seller.stack.calls_so_far().await;
    let full = "UPDATE bot_outboxes SET recent_sends = '{}' WHERE bot_id = $1";
    database().await.execute(full, &[&seller.bot_id]).await.expect("the outbox");

    for (_, chat) in &chats {
        seller.buyer_writes(chat, "Ещё здесь?").await;
    }
    for (buyer, _) in &chats {
        seller.said(SOON, buyer, "Ещё здесь?").await;
    }

    wait_until(SOON, "all of them counted", async || {
        let outbox = "SELECT cardinality(recent_sends) FROM bot_outboxes WHERE bot_id = $1 AND lease_owner IS NULL";
        let outbox = database().await.query_opt(outbox, &[&seller.bot_id]).await.expect("an answer")?;
        let charged = usize::try_from(outbox.get::<_, i32>(0)).expect("a small number");
        let sent = methods(seller.telegram_calls(since).await).iter().filter(|method| *method == "sendMessage").count();
        assert!(sent >= chats.len() && charged >= sent, "{sent} posts, {charged} charged");
        Some(())
    })
    .await;
}

fn methods(calls: Vec<super::support::Call>) -> Vec<String> {
    calls.into_iter().map(|call| call.method).collect()
}

/// Waits until a new topic has its pinned header, the last of its calls; returns the end of the record of calls.
async fn topic_complete(seller: &Seller, buyer: &str) -> u64 {
    wait_until(SOON, "the pinned header", async || {
        let topic = seller.topic_of(buyer).await?;
        topic.headers().iter().any(|header| header.pinned).then_some(())
    })
    .await;
    seller.stack.calls_so_far().await
}

/// Starts a function whose database is the proxy, and which reaches no queue.
async fn function(name: &str, proxy: &Proxy) -> Function {
    let away = format!("http://{NOWHERE}");
    Function::start(name, &[("DATABASE_URL", &proxy.address), ("AWS_ENDPOINT_URL", &away)]).await
}

/// Reads our id of a chat's dialog, which is known to the database alone.
async fn dialog(seller: &Seller, chat: &str) -> i64 {
    let find = "SELECT id FROM dialogs WHERE avito_account_id = $1 AND avito_chat_id = $2";
    database().await.query_one(find, &[&seller.account_id, &chat]).await.expect("the dialog").get(0)
}

/// Makes a dialog's last message a minute older: a message that follows another closely waits for others.
async fn make_quiet(seller: &Seller, chat: &str) {
    let dialog_id = dialog(seller, chat).await;
    let make_older = "UPDATE dialogs SET last_received_at = last_received_at - interval '1 minute' WHERE id = $1";
    database().await.execute(make_older, &[&dialog_id]).await.expect("the dialog");
}
