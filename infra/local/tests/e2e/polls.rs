//! Corrections by the poll: a webhook that could not be stored, and a webhook that contradicts Avito's lists.

use serde_json::json;

use super::runtime_api::{Function, NOWHERE};
use super::support::{GroupMessage, LATER, SOON, Seller, Topic, database, notification, wait_until};

#[tokio::test]
async fn a_message_whose_webhook_could_not_be_stored_is_found_by_the_next_round_of_polls() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Анна").await;
    let url = seller.avito_webhook().await;
    let (no_database, no_queue) = (format!("postgres://postgres@{NOWHERE}/tuberry"), format!("http://{NOWHERE}"));
    let webhook =
        Function::start("avito-webhook", &[("DATABASE_URL", &no_database), ("AWS_ENDPOINT_URL", &no_queue)]).await;
    let lost = json!({ "chat": chat, "from": "buyer", "text": "Никуда", "webhook": false });
    let id = seller.avito_message(lost).await;
    // The next poll is due in an hour.
    change(&seller, "UPDATE account_polls SET next_poll_at = now() + interval '1 hour' WHERE avito_account_id = $1")
        .await;

    assert_eq!(webhook.post(&url, &[], &notification(&seller, &chat, &id, "Никуда")).await.0, 503);
    seller.stack.run_schedule("poll-avito").await;

    assert_eq!(seller.said(SOON, "Анна", "Никуда").await.said(), ["Здравствуйте", "Никуда"]);
}

#[tokio::test]
async fn a_message_that_avitos_lists_do_not_have_gets_one_notice() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Борис").await;
    let url = seller.avito_webhook().await;
    post(&url, &notification(&seller, &chat, &format!("forged-{}", seller.account_id), "Оплатите по ссылке")).await;
    let topic = seller.said(SOON, "Борис", "Оплатите по ссылке").await;
    let forged = find(&topic, "Оплатите по ссылке").message_id;

    for round in 1..=3 {
        minutes_later(&seller).await;
        seller.stack.run_schedule("poll-avito").await;
        let notices = wait_until(LATER, "the notice on the message", async || {
            let notices = notices(&seller.topic_of("Борис").await?);
            (!notices.is_empty()).then_some(notices)
        })
        .await;
        assert_eq!(notices.len(), 1);
        assert_eq!(notices[0].reply_to, Some(forged));
        assert!(notices[0].text.as_deref().is_some_and(|text| text.contains("Не подтверждено Avito")));
        let next = format!("Дальше {round}");
        seller.avito_message(json!({ "chat": chat, "from": "buyer", "text": next, "webhook": false })).await;
        seller.said(SOON, "Борис", &next).await;
    }
}

#[tokio::test]
async fn a_text_that_avitos_list_has_otherwise_is_corrected_by_a_notice() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Вера").await;
    let url = seller.avito_webhook().await;
    // No poll reads the true text first, not even one that has listed the chats and now reads this one.
    let blind = async |method: &str| {
        let blind = json!({ "target": "avito", "method": method, "kind": "status", "status": 503,
                            "scope": { "user_id": seller.user_id } });
        seller.stack.fault(blind).await
    };
    let faults = [blind("chats.list").await, blind("messages.list").await];
    let truth = json!({ "chat": chat, "from": "buyer", "text": "Возьму за 12 000", "webhook": false });
    let id = seller.avito_message(truth).await;
    post(&url, &notification(&seller, &chat, &id, "Возьму за 2 000")).await;
    let topic = seller.said(SOON, "Вера", "Возьму за 2 000").await;
    let wrong = find(&topic, "Возьму за 2 000").message_id;

    for fault in faults {
        seller.stack.mend(fault).await;
    }
    change(&seller, "UPDATE account_polls SET next_poll_at = now() WHERE avito_account_id = $1").await;
    seller.stack.run_schedule("poll-avito").await;

    let notices = wait_until(LATER, "the notice on the message", async || {
        let notices = notices(&seller.topic_of("Вера").await?);
        (!notices.is_empty()).then_some(notices)
    })
    .await;
    let texts: Vec<_> =
        notices.iter().map(|notice| (notice.reply_to, notice.text.as_deref().unwrap_or_default())).collect();
    assert_eq!(texts, [(Some(wrong), "⚠️ В Avito это сообщение другое: Возьму за 12 000")]);
}

#[tokio::test]
async fn first_words_whose_chat_avito_denied_once_are_shown_when_a_poll_lists_it() {
    let seller = Seller::new().await;
    let denied = json!({ "target": "avito", "method": "chats.get", "kind": "status", "status": 404, "times": 1,
                         "scope": { "user_id": seller.user_id } });
    // No poll confirms the chat before the bridge asks for it.
    let blind = json!({ "target": "avito", "method": "chats.list", "kind": "status", "status": 503,
                        "scope": { "user_id": seller.user_id } });
    seller.stack.fault(denied).await;
    let blind = seller.stack.fault(blind).await;
    let chat = seller.chat("Глеб").await;
    let since = seller.stack.calls_so_far().await;
    seller.buyer_writes(&chat, "Первые слова").await;
    wait_until(SOON, "Avito was asked for the chat", async || {
        seller.avito_calls(since).await.iter().any(|call| call.method == "chats.get").then_some(())
    })
    .await;

    seller.stack.mend(blind).await;
    change(&seller, "UPDATE account_polls SET next_poll_at = now() WHERE avito_account_id = $1").await;
    seller.stack.run_schedule("poll-avito").await;

    assert_eq!(seller.said(SOON, "Глеб", "Первые слова").await.said(), ["Первые слова"]);
}

#[tokio::test]
async fn what_comes_while_an_account_is_not_followed_is_recorded_and_shown_if_it_is_unread_when_it_is_followed_again() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Дарья").await;
    let url = seller.avito_webhook().await;
    let account = format!("/api/avito/accounts/{}", seller.account_id);
    let off = seller.patch(&account, &json!({ "monitoring_enabled": false })).await;
    assert_eq!((off.status, off.body["webhook_state"].as_str()), (200, Some("off")));
    let known = seller.stack.ask(&format!("avito/subscriptions?user_id={}", seller.user_id)).await;
    assert_eq!(known["subscriptions"], json!([]));

    let since = seller.stack.calls_so_far().await;
    for text in ["Прочитано", "Осталось"] {
        let id = seller.avito_message(json!({ "chat": chat, "from": "buyer", "text": text, "webhook": false })).await;
        post(&url, &notification(&seller, &chat, &id, text)).await;
        if text == "Прочитано" {
            // An answer in the app marks as read what is there.
            let answer = json!({ "chat": chat, "from": "seller_app", "text": "Ответ из приложения", "webhook": false });
            seller.avito_message(answer).await;
        }
    }
    let withheld = "SELECT count(*) FROM messages WHERE avito_account_id = $1 AND status = 'filtered'";
    let rows = database().await.query_one(withheld, &[&seller.account_id]).await.expect("a count");
    assert_eq!(rows.get::<_, i64>(0), 2);
    change(&seller, "UPDATE account_polls SET next_poll_at = now() WHERE avito_account_id = $1").await;
    seller.stack.run_schedule("poll-avito").await;
    let polled = seller.stack.calls(since, "avito").await.iter().any(|call| call.user_id == Some(seller.user_id));
    assert!(!polled, "nothing is asked of Avito");

    assert_eq!(seller.patch(&account, &json!({ "monitoring_enabled": true })).await.status, 200);
    seller.said(SOON, "Дарья", "Осталось").await;
}

/// Changes rows of this seller's account, as time does; `$1` is its id.
async fn change(seller: &Seller, sql: &str) {
    database().await.execute(sql, &[&seller.account_id]).await.expect("a change");
}

/// Makes messages two minutes older, enough for those that only a webhook reported, and the list of unread chats due.
async fn minutes_later(seller: &Seller) {
    change(seller, "UPDATE messages SET created_at = created_at - interval '2 minutes' WHERE avito_account_id = $1")
        .await;
    let due = "UPDATE account_polls SET unread_list_at = now(), next_poll_at = now() WHERE avito_account_id = $1";
    change(seller, due).await;
}

async fn post(url: &str, notification: &serde_json::Value) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.post(url).json(notification).send().await.expect("our address answers");
    assert_eq!(answer.status(), 200);
}

fn find<'a>(topic: &'a Topic, text: &str) -> &'a GroupMessage {
    let says = |message: &&GroupMessage| message.text.as_deref().is_some_and(|said| said.ends_with(text));
    topic.messages.iter().find(says).expect("the message is posted")
}

fn notices(topic: &Topic) -> Vec<GroupMessage> {
    let is_notice =
        |message: &&GroupMessage| message.from_bot && message.text.as_deref().is_some_and(|text| text.starts_with('⚠'));
    topic.messages.iter().filter(is_notice).cloned().collect()
}
