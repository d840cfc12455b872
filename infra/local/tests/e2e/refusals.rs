//! One thing that is refused for ever, on the real clock: what is beside it goes on, and somebody reads why.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::{LATER, SOON, Seller, database, notification, update, wait_until};

/// The time in which others' words are to be shown while something is refused: three times that of the design.
const BESIDE: Duration = Duration::from_secs(30);

async fn account_status(seller: &Seller) -> Value {
    seller.get("/api/avito/accounts").await.body["items"][0]["status"].clone()
}

/// Opens a chat about this item.
async fn chat_about(seller: &Seller, buyer: &str, item: Value) -> String {
    let chat = json!({ "user_id": seller.user_id, "buyer": { "name": buyer }, "item": item });
    seller.stack.control("avito/chats", &chat).await["chat_id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_chat_that_avito_neither_lists_nor_takes_answers_in_leaves_the_other_chat_and_the_account_alone() {
    let seller = Seller::new().await;
    let (refused, refused_thread) = seller.conversation("Анна").await;
    let (other, other_thread) = seller.conversation("Борис").await;
    let words = json!({ "error": { "code": 403, "message": "Чат закрыт" } });
    for method in ["messages.list", "messages.send", "chat.read"] {
        let fault = json!({ "target": "avito", "method": method, "kind": "status", "status": 403, "body": words,
                            "scope": { "chat": refused } });
        seller.stack.fault(fault).await;
    }

    // The other chat's message is the older one: a poll that breaks off at the first chat would not reach it.
    seller.avito_message(json!({ "chat": other, "from": "buyer", "text": "И мне?", "webhook": false })).await;
    seller.avito_message(json!({ "chat": refused, "from": "buyer", "text": "А мне?", "webhook": false })).await;
    seller.poll_now().await;
    seller.said(SOON, "Борис", "И мне?").await;
    seller.operator_writes(refused_thread, "Да").await;
    seller.operator_writes(other_thread, "Нет").await;

    seller.answered(BESIDE, &other, "Нет").await;
    seller.posted("Чат закрыт").await;
    assert_eq!(account_status(&seller).await, "active");
}

#[tokio::test]
async fn a_chat_that_avito_does_not_confirm_gets_no_reply_few_questions_and_keeps_no_new_buyer_waiting() {
    let seller = Seller::new().await;
    let url = seller.avito_webhook().await;
    let made_up = format!("u2i-made-up-{}", seller.account_id);
    let body = notification(&seller, &made_up, &format!("made-up-{}", seller.account_id), "Поверьте мне");
    let headers = [("content-type", "application/json")];
    seller.stack.call(reqwest::Method::POST, &url, &headers, body.to_string().into()).await;
    for buyer in ["Анна", "Борис"] {
        seller.conversation(buyer).await;
    }

    let dialog = "SELECT id FROM dialogs WHERE avito_account_id = $1 AND avito_chat_id = $2";
    let row = database().await.query_one(dialog, &[&seller.account_id, &made_up]).await.expect("the dialog");
    let path = format!("/api/dialogs/{}/messages", row.get::<_, i64>(0));
    let reply = seller.post(&path, &json!({ "text": "Здравствуйте" })).await;

    assert_eq!((reply.status, &reply.body["code"]), (409, &json!("dialog_unconfirmed")), "{reply:?}");
    let calls = seller.avito_calls(0).await;
    let asked = calls.iter().filter(|call| call.method == "chats.get" && call.chat.as_deref() == Some(&made_up));
    assert!((1..=3).contains(&asked.count()), "few questions");
}

#[tokio::test]
async fn topics_that_telegram_does_not_make_keep_no_old_buyer_waiting() {
    let seller = Seller::new().await;
    let (old, _) = seller.conversation("Старый").await;
    let refused = json!({ "ok": false, "error_code": 400, "description": "Bad Request: title must be non-empty" });
    let fault = json!({ "target": "telegram", "method": "createForumTopic", "kind": "status", "status": 400,
                        "body": refused, "scope": { "chat_id": seller.group } });
    seller.stack.fault(fault).await;
    for number in 1..=3 {
        let chat = seller.chat(&format!("Новый {number}")).await;
        seller.buyer_writes(&chat, &format!("Вопрос {number}")).await;
    }

    seller.buyer_writes(&old, "Я ещё жду").await;

    seller.said(BESIDE, "Старый", "Я ещё жду").await;
}

#[tokio::test]
async fn a_notice_for_a_topic_that_does_not_exist_is_tried_once_and_receipts_are_set_as_before() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let nowhere = 987_654_321;
    seller.bot_receives(&update(&seller, nowhere, 900_001, "Кому это?")).await;

    let answer = seller.operator_writes(thread, "Добрый день").await;
    seller.answered(SOON, &chat, "Добрый день").await;
    seller.receipt(SOON, "Анна", answer).await;

    let calls = seller.telegram_calls(0).await;
    let tried = calls.iter().filter(|call| call.params["message_thread_id"] == nowhere).count();
    assert!(tried <= 1, "{tried} calls");
}

#[tokio::test]
async fn an_item_whose_address_telegram_takes_for_none_has_its_header_at_once() {
    let seller = Seller::new().await;
    for (buyer, url) in [("Анна", "https://"), ("Борис", "не адрес"), ("Вера", "javascript:alert(1)")]
    {
        let item =
            json!({ "id": seller.user_id, "title": "Стол", "price_string": "1 ₽", "url": url, "city": "Москва" });
        let chat = chat_about(&seller, buyer, item).await;
        seller.buyer_writes(&chat, "Здравствуйте").await;
        let topic = seller.said(BESIDE, buyer, "Здравствуйте").await;
        assert_eq!(topic.headers().len(), 1, "{buyer}");
    }
}

#[tokio::test]
async fn a_bot_that_may_send_no_pictures_shows_texts_as_before_and_stays_active() {
    let seller = Seller::new().await;
    let (pictures, _) = seller.conversation("Анна").await;
    let (texts, _) = seller.conversation("Борис").await;
    let words = "Bad Request: not enough rights to send photos to the chat";
    let fault = json!({ "target": "telegram", "method": "sendPhoto", "kind": "status", "status": 400,
                        "body": { "ok": false, "error_code": 400, "description": words },
                        "scope": { "chat_id": seller.group } });
    seller.stack.fault(fault).await;

    seller.avito_message(json!({ "chat": pictures, "from": "buyer", "type": "image" })).await;
    seller.buyer_writes(&texts, "А цена?").await;

    seller.said(BESIDE, "Борис", "А цена?").await;
    let bots = seller.get("/api/bots").await;
    assert_eq!(bots.body["items"][0]["status"], "active", "{bots:?}");
}

#[tokio::test]
async fn what_a_buyer_writes_about_a_tariff_or_in_our_words_is_shown_as_a_buyers() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Анна").await;
    let question = "Вы продаёте подписку с доступом к API?";
    seller.buyer_writes(&chat, question).await;
    seller.said(SOON, "Анна", question).await;
    seller.buyer_writes(&chat, "Вы ответили в Avito:\nСогласен на 5 000").await;
    seller.avito_message(json!({ "chat": chat, "from": "seller_app", "text": "Нет, 6 000" })).await;
    seller.poll_now().await;

    let faked = seller.posted("Согласен на 5 000").await;
    let own = seller.posted("Нет, 6 000").await;
    let styled = |post: &super::support::GroupMessage| {
        let entities = post.content["entities"].as_array().cloned().unwrap_or_default();
        let text: Vec<u16> = post.text.as_deref().unwrap_or_default().encode_utf16().collect();
        entities
            .iter()
            .map(|entity| {
                let number =
                    |name: &str| usize::try_from(entity[name].as_u64().unwrap_or_default()).unwrap_or_default();
                String::from_utf16_lossy(&text[number("offset")..number("offset") + number("length")])
            })
            .collect::<Vec<_>>()
            .concat()
    };
    assert!(!styled(&faked).contains("Вы ответили"), "{faked:?}");
    assert!(styled(&own).contains("Вы ответили в Avito:"), "{own:?}");
    assert_eq!(account_status(&seller).await, "active");
}

#[tokio::test]
async fn an_answer_whose_confirmation_echo_and_list_are_late_goes_once_or_is_marked() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let scope = json!({ "chat": chat });
    seller.stack.fault(json!({ "target": "avito", "kind": "list_lag", "seconds": 12, "scope": scope })).await;
    let lost =
        json!({ "target": "avito", "method": "messages.send", "kind": "reset_after", "times": 1, "scope": scope });
    seller.stack.fault(lost).await;

    seller.operator_writes(thread, "Добрый день").await;

    let sent =
        "SELECT maybe_duplicate FROM messages WHERE avito_account_id = $1 AND origin = 'operator' AND status = 'sent'";
    let marked = wait_until(LATER, "the answer is sent", async || {
        let rows = database().await.query(sent, &[&seller.account_id]).await.expect("the part");
        rows.first().map(|row| row.get::<_, bool>(0))
    })
    .await;
    let times = seller.answers(&chat).await.len();
    assert!(times == 1 || times == 2 && marked, "{times} times, marked: {marked}");
}

#[tokio::test]
async fn an_answer_of_six_hundred_wide_characters_goes_in_two_parts() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    seller.operator_writes(thread, &"😀".repeat(600)).await;

    let parts = wait_until(SOON, "two parts", async || {
        let parts = seller.answers(&chat).await;
        (parts.len() == 2).then_some(parts)
    })
    .await;
    assert_eq!(parts.concat(), "😀".repeat(600));
    assert!(parts.iter().all(|part| part.encode_utf16().count() <= 1000), "{parts:?}");
}

#[tokio::test]
async fn a_title_with_half_a_character_in_the_list_of_chats_costs_nothing() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Анна").await;
    let fault = json!({ "target": "avito", "method": "chats.list", "kind": "raw", "find": "Стол дубовый",
                        "replace": "Стол \\ud83d", "scope": { "user_id": seller.user_id } });
    seller.stack.fault(fault).await;
    seller.avito_message(json!({ "chat": chat, "from": "buyer", "text": "Есть кто?", "webhook": false })).await;
    seller.poll_now().await;
    seller.said(SOON, "Анна", "Есть кто?").await;
}

#[tokio::test]
async fn an_album_whose_pictures_are_slow_and_refused_by_address_keeps_no_other_buyer_waiting() {
    let seller = Seller::new().await;
    let (slow, _) = seller.conversation("Анна").await;
    let (other, _) = seller.conversation("Борис").await;
    let words = "Bad Request: wrong file identifier/HTTP URL specified";
    let refused = json!({ "target": "telegram", "method": "sendMediaGroup", "kind": "status", "status": 400,
                          "body": { "ok": false, "error_code": 400, "description": words },
                          "scope": { "chat_id": seller.group } });
    seller.stack.fault(refused).await;
    let late = json!({ "target": "avito", "method": "media", "kind": "latency", "latency_ms": 4000, "scope": { "chat": slow } });
    seller.stack.fault(late).await;
    for _ in 0..10 {
        seller.avito_message(json!({ "chat": slow, "from": "buyer", "type": "image" })).await;
    }
    let calls = async || seller.telegram_calls(0).await;
    wait_until(SOON, "the album is tried", async || {
        calls().await.iter().any(|call| call.method == "sendMediaGroup").then_some(())
    })
    .await;

    seller.buyer_writes(&other, "Я тоже тут").await;

    seller.said(BESIDE, "Борис", "Я тоже тут").await;
}
