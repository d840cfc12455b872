//! Values from outside that are unusual: ids that are hashes, Avito's sentence in the place of words, names that show nothing, and
//! numbers beyond all bounds.

use serde_json::json;

use super::support::{LATER, SOON, Seller, database, wait_until};

#[tokio::test]
async fn with_hashed_ids_the_topic_bears_the_buyers_name_and_the_buyer_is_blocked_and_not_the_seller() {
    let seller = Seller::new().await;
    seller.stack.control("avito/switches", &json!({ "user_id": seller.user_id, "hashed_ids": true })).await;
    let (chat, thread) = seller.conversation("Анна").await;

    let own = json!({ "chat": chat, "from": "seller_app", "text": "Сам отвечу", "webhook": false });
    seller.avito_message(own).await;
    seller.poll_now().await;
    let topic = seller.said(SOON, "Анна", "Сам отвечу").await;
    assert_eq!(topic.posts(), ["Здравствуйте", "Вы ответили в Avito:\nСам отвечу"]);

    seller.operator_writes(thread, "/block").await;
    let question = seller.posted("Заблокировать покупателя").await;
    let data = question.content["reply_markup"]["inline_keyboard"][0][0]["callback_data"].clone();
    let press = json!({ "chat_id": seller.group, "message_id": question.message_id, "data": data });
    seller.stack.control("telegram/callback", &press).await;
    seller.posted("Покупатель заблокирован").await;
    let silenced = json!({ "chat": chat, "from": "buyer", "text": "Пустите" });
    assert_eq!(seller.stack.try_control("avito/messages", &silenced).await, None, "Avito lets the buyer write no more");
}

#[tokio::test]
async fn avitos_sentence_in_the_place_of_all_words_is_shown_to_nobody_and_the_words_come_once_it_is_gone() {
    let seller = Seller::new().await;
    let (first, _) = seller.conversation("Анна").await;
    let (second, _) = seller.conversation("Борис").await;
    let switch = json!({ "user_id": seller.user_id, "tariff_placeholder": true });
    seller.stack.control("avito/switches", &switch).await;
    for chat in [&first, &second] {
        seller.avito_message(json!({ "chat": chat, "from": "buyer", "text": "Отдадите?", "webhook": false })).await;
    }
    seller.poll_now().await;
    let status = wait_until(LATER, "the account's status", async || {
        let accounts = seller.get("/api/avito/accounts").await;
        let status = accounts.body["items"][0]["status"].clone();
        (status != "active").then_some(status)
    })
    .await;
    assert_eq!(status, "blocked");

    let switch = json!({ "user_id": seller.user_id, "tariff_placeholder": false });
    seller.stack.control("avito/switches", &switch).await;
    seller.poll_now().await;
    for buyer in ["Анна", "Борис"] {
        assert_eq!(seller.said(LATER, buyer, "Отдадите?").await.said(), ["Здравствуйте", "Отдадите?"]);
    }
}

#[tokio::test]
async fn a_buyer_whose_name_shows_nothing_has_a_topic_with_a_name() {
    let seller = Seller::new().await;
    for name in ["\u{3164}", "\u{2800}\u{200b}", "\u{202e}\u{200d}", " \n "] {
        let chat = seller.chat(name).await;
        seller.buyer_writes(&chat, "Здравствуйте").await;
    }
    let topics = wait_until(LATER, "four topics", async || {
        let topics = seller.topics().await;
        (topics.len() == 4 && topics.iter().all(|topic| topic.said() == ["Здравствуйте"])).then_some(topics)
    })
    .await;
    for topic in topics {
        assert!(topic.name.as_deref().is_some_and(|name| name.contains("Стол дубовый")), "{:?}", topic.name);
    }
}

#[tokio::test]
async fn numbers_beyond_all_bounds_are_cut_and_what_they_stand_beside_arrives() {
    let seller = Seller::new().await;
    let token = json!({ "target": "avito", "method": "token", "kind": "raw", "find": "\"expires_in\":86400",
                        "replace": "\"expires_in\":1000000000000",
                        "scope": { "contains": format!("id-{}", seller.user_id) } });
    let token = seller.stack.fault(token).await;
    let expire = json!({ "target": "avito", "kind": "token_expired", "scope": { "user_id": seller.user_id } });
    seller.stack.fault(expire).await;
    let (chat, thread) = seller.conversation("Анна").await;
    seller.operator_writes(thread, "Добрый день").await;
    seller.answered(LATER, &chat, "Добрый день").await;
    seller.stack.mend(token).await;

    let in_30_000 = 884_541_340_800_i64;
    let (other, _) = seller.conversation("Борис").await;
    let messages =
        [(&chat, "Из прошлого", Some(-5)), (&chat, "Из будущего", Some(in_30_000)), (&other, "Сейчас", None)];
    for (chat, text, created) in messages {
        // Avito lists the first one below what was read already, where no poll looks: a webhook reports it.
        let mut message = json!({ "chat": chat, "from": "buyer", "text": text, "webhook": created == Some(-5) });
        if let Some(created) = created {
            message["created"] = json!(created);
        }
        seller.avito_message(message).await;
        seller.poll_now().await;
        seller.posted(text).await;
    }
    let watermark = "SELECT coalesce(watermark, 0) <= extract(epoch FROM now()) + 300 FROM account_polls WHERE avito_account_id = $1";
    let row = database().await.query_one(watermark, &[&seller.account_id]).await.expect("the account");
    assert!(row.get::<_, bool>(0), "the watermark does not move beyond now");
}
