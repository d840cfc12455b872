//! Groups that change while the bot works in them, and the notices to their people and to the owner.

use serde_json::json;

use super::support::{LATER, SOON, Seller, database, variable, wait_until};

/// Gives or takes the bot's right to manage topics; the group stays.
async fn right_to_manage_topics(seller: &Seller, given: bool) {
    let chat = json!({
        "chat_id": seller.group, "title": "Магазин", "is_forum": true, "bot_token": seller.bot_token,
        "rights": { "can_manage_topics": given },
    });
    seller.stack.control("telegram/chats", &chat).await;
}

/// Lets the owner write to the platform's bot, so that it may write to the owner.
async fn owner_knows_the_master_bot(seller: &Seller) {
    let bot = json!({ "token": variable("MASTER_BOT_TOKEN"), "username": variable("MASTER_BOT_NAME") });
    seller.stack.control("telegram/bots", &bot).await;
    let hello = json!({
        "chat_id": seller.owner, "text": "/start", "bot_token": variable("MASTER_BOT_TOKEN"),
        "from": { "id": seller.owner, "first_name": "Ольга" },
    });
    seller.stack.control("telegram/messages", &hello).await;
}

/// Lists the texts of the platform's bot to the owner.
async fn notices_to_the_owner(seller: &Seller) -> Vec<String> {
    let answer = seller.stack.ask(&format!("telegram/topics?chat_id={}", seller.owner)).await;
    let messages = answer["topics"][0]["messages"].as_array().cloned().unwrap_or_default();
    let from_bot = messages.iter().filter(|message| message["from_bot"] == true);
    from_bot.filter_map(|message| message["text"].as_str().map(str::to_owned)).collect()
}

/// Makes posts of a kind due, and the outbox overdue, so that the sweep wakes the bot.
async fn make_due_now(seller: &Seller, kind: &str) {
    let forward = "UPDATE posts SET due_at = now() WHERE bot_id = $1 AND kind = $2 AND state = 'pending'";
    database().await.execute(forward, &[&seller.bot_id, &kind]).await.expect("the posts");
    let make_due = "UPDATE bot_outboxes SET due_at = now() - interval '10 seconds' WHERE bot_id = $1";
    database().await.execute(make_due, &[&seller.bot_id]).await.expect("the outbox");
    seller.stack.run_schedule("sweep").await;
}

#[tokio::test]
async fn a_group_that_migrates_keeps_its_dialogs_both_ways() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let migrated = json!({ "target": "telegram", "kind": "migrated", "scope": { "chat_id": seller.group } });
    let answer = seller.stack.control("faults", &migrated).await;
    let moved = Seller { group: answer["migrate_to_chat_id"].as_i64().expect("an id"), ..seller };

    moved.buyer_writes(&chat, "Вы переехали?").await;
    assert_eq!(moved.said(SOON, "Анна", "Вы переехали?").await.thread(), thread);
    moved.operator_writes(thread, "Да").await;
    assert_eq!(moved.answered(SOON, &chat, "Да").await, ["Да"]);
}

#[tokio::test]
async fn the_owner_of_a_bot_without_the_right_to_topics_is_notified_once_and_new_topics_come_when_it_has_the_right() {
    let seller = Seller::new().await;
    owner_knows_the_master_bot(&seller).await;
    right_to_manage_topics(&seller, false).await;
    let chat = seller.chat("Борис").await;

    seller.buyer_writes(&chat, "Без прав").await;
    wait_until(LATER, "the owner is notified", async || {
        seller.stack.run_schedule("sweep").await;
        (!notices_to_the_owner(&seller).await.is_empty()).then_some(())
    })
    .await;
    let bots = seller.stack.get("/api/bots", Some(&seller.access_token)).await.body;
    assert!(bots.to_string().contains(r#""status":"active""#), "topics that exist go on: {bots}");
    right_to_manage_topics(&seller, true).await;

    seller.said(SOON, "Борис", "Без прав").await;
    let notices = notices_to_the_owner(&seller).await;
    assert!(notices.len() == 1 && notices[0].contains("не хватает права"), "{notices:?}");
}

#[tokio::test]
async fn reactions_that_are_rate_limited_delay_nothing_else() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Вера").await;
    let limited = json!({
        "target": "telegram", "kind": "reactions_limited", "retry_after": 30, "times": 1,
        "scope": { "chat_id": seller.group },
    });
    seller.stack.fault(limited).await;
    let since = seller.stack.calls_so_far().await;

    let answer = seller.operator_writes(thread, "Да").await;
    seller.answered(SOON, &chat, "Да").await;
    let refused = wait_until(SOON, "the refusal of the receipt", async || {
        seller.telegram_calls(since).await.into_iter().find(|call| call.status == 429)
    })
    .await;
    seller.buyer_writes(&chat, "Спасибо").await;
    seller.said(SOON, "Вера", "Спасибо").await;
    seller.receipt(SOON, "Вера", answer).await;

    let calls = seller.telegram_calls(since).await;
    let after = |method: &str| {
        let call = calls.iter().rfind(|call| call.method == method && call.status == 200).expect("the call");
        call.at.duration_since(refused.at).as_secs_f64()
    };
    let (message, receipt) = (after("sendMessage"), after("setMessageReaction"));
    assert!(receipt >= 30.0 && message < receipt, "the message after {message} s, the receipt after {receipt} s");
}

#[tokio::test]
async fn a_topics_name_bears_the_emoji_of_its_dialogs_state() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Глеб").await;
    let bears = async |emoji: &str| {
        wait_until(SOON, &format!("{emoji} in the topic's name"), async || {
            make_due_now(&seller, "rename").await;
            let name = seller.topic_of("Глеб").await?.name?;
            (name == format!("{emoji} Стол дубовый · Глеб")).then_some(())
        })
        .await;
    };

    bears("🔴").await;
    seller.operator_writes(thread, "Да").await;
    bears("🟢").await;
    let settings = json!({ "auto_reply_enabled": true, "auto_reply_always": true, "auto_reply_text": "Ответим утром" });
    let url = format!("{}/api/clients/me", variable("STACK_API"));
    let bearer = format!("Bearer {}", seller.access_token);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let changed = seller.stack.call(reqwest::Method::PATCH, &url, &headers, settings.to_string().into()).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    seller.buyer_writes(&chat, "Есть кто?").await;
    assert_eq!(seller.answered(SOON, &chat, "Ответим утром").await, ["Да", "Ответим утром"]);
    bears("🤖").await;
}
