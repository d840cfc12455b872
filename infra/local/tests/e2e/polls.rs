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
