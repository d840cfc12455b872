//! The main job: a buyer's messages appear in a topic, and an operator's answers reach the buyer.

use serde_json::json;

use super::support::{SOON, Seller, numbered, wait_until};

#[tokio::test]
async fn a_buyers_text_opens_a_topic_with_a_pinned_header_and_the_answer_reaches_the_buyer() {
    let seller = Seller::new().await;
    let chat = seller.chat("Анна").await;

    seller.buyer_writes(&chat, "Ещё <b>продаёте</b>? 5 < 6 & \"да\"").await;

    let topic = seller.said(SOON, "Анна", "Ещё <b>продаёте</b>? 5 < 6 & \"да\"").await;
    assert_eq!(topic.name.as_deref(), Some("Стол дубовый · Анна"));
    let topic = wait_until(SOON, "the pinned header", async || {
        seller.topic_of("Анна").await.filter(|topic| topic.headers().iter().any(|header| header.pinned))
    })
    .await;
    let [header] = topic.headers()[..] else { panic!("one header: {topic:?}") };
    assert_eq!(header.text.as_deref(), Some("Стол дубовый\n12 000 ₽ · Москва\nПокупатель: Анна\nАккаунт: Лавка"));
    assert_eq!(header.content["entities"][0]["url"], "https://www.avito.ru/stol_1");
    let calls = seller.telegram_calls(0).await;
    let photo = calls.iter().find_map(|call| call.params["link_preview_options"]["url"].as_str());
    assert!(photo.is_some_and(|url| url.contains("/item.png")), "the item's photo above it: {photo:?}");
    assert_eq!(topic.posts(), ["Ещё <b>продаёте</b>? 5 < 6 & \"да\""]);

    let answer = seller.operator_writes(topic.thread(), "Да, <i>продаю</i>").await;

    assert_eq!(seller.answered(SOON, &chat, "Да, <i>продаю</i>").await, ["Да, <i>продаю</i>"]);
    seller.receipt(SOON, "Анна", answer).await;
}

#[tokio::test]
async fn two_chats_have_two_topics_and_each_answer_goes_to_its_own() {
    let seller = Seller::new().await;
    let (first, second) = (seller.chat("Борис").await, seller.chat("Вера").await);

    seller.buyer_writes(&first, "Я Борис").await;
    seller.buyer_writes(&second, "Я Вера").await;
    let boris = seller.said(SOON, "Борис", "Я Борис").await;
    let vera = seller.said(SOON, "Вера", "Я Вера").await;
    seller.operator_writes(boris.thread(), "Борису").await;
    seller.operator_writes(vera.thread(), "Вере").await;

    assert_eq!(seller.answered(SOON, &first, "Борису").await, ["Борису"]);
    assert_eq!(seller.answered(SOON, &second, "Вере").await, ["Вере"]);
    assert_eq!(seller.topics().await.len(), 2);
    assert_eq!(boris.said(), ["Я Борис"]);
    assert_eq!(vera.said(), ["Я Вера"]);
}

#[tokio::test]
async fn twenty_messages_of_one_chat_arrive_complete_and_in_order() {
    let seller = Seller::new().await;
    let chat = seller.chat("Галина").await;
    let texts = numbered("Вопрос", 20);

    for text in &texts {
        seller.buyer_writes(&chat, text).await;
    }

    assert_eq!(seller.said(SOON, "Галина", "Вопрос 20").await.said(), texts);
}

#[tokio::test]
async fn twenty_answers_in_one_topic_arrive_complete_and_in_order() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Дарья").await;
    let texts = numbered("Ответ", 20);

    for text in &texts {
        seller.operator_writes(thread, text).await;
    }

    assert_eq!(seller.answered(SOON, &chat, "Ответ 20").await, texts);
}

#[tokio::test]
async fn two_sellers_at_once_do_not_see_each_others_buyers() {
    let (one, other) = tokio::join!(Seller::new(), Seller::new());
    let (chat_of_one, chat_of_other) = tokio::join!(one.chat("Егор"), other.chat("Егор"));

    let (to_one, to_other) = (numbered("Первому", 5), numbered("Второму", 5));
    for (text_to_one, text_to_other) in to_one.iter().zip(&to_other) {
        tokio::join!(one.buyer_writes(&chat_of_one, text_to_one), other.buyer_writes(&chat_of_other, text_to_other));
    }

    assert_eq!(one.said(SOON, "Егор", "Первому 5").await.said(), to_one);
    assert_eq!(other.said(SOON, "Егор", "Второму 5").await.said(), to_other);
    assert_eq!((one.topics().await.len(), other.topics().await.len()), (1, 1));
}

#[tokio::test]
async fn an_update_that_telegram_repeats_answers_the_buyer_once() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Жанна").await;
    let answer = seller.operator_writes(thread, "Один раз").await;
    seller.answered(SOON, &chat, "Один раз").await;

    for _ in 0..3 {
        let again = json!({ "chat_id": seller.group, "message_id": answer });
        let sent = seller.stack.control("webhooks/telegram/redeliver", &again).await;
        assert_eq!(sent["updates"][0]["status"], 200);
    }

    // Anything that the repeats sent would stand before this one.
    seller.operator_writes(thread, "Дальше").await;
    assert_eq!(seller.answered(SOON, &chat, "Дальше").await, ["Один раз", "Дальше"]);
}

#[tokio::test]
async fn an_answer_too_long_for_avito_arrives_in_parts_in_order_with_one_receipt() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Зоя").await;
    let words: Vec<String> = (100..475).map(|number| format!("слово{number}")).collect();
    let text = words.chunks(5).map(|words| words.join(" ")).collect::<Vec<_>>().join(". ");
    assert!((2500..4096).contains(&text.chars().count()), "{}", text.chars().count());

    let long = seller.operator_writes(thread, &text).await;
    seller.receipt(SOON, "Зоя", long).await;

    let parts = seller.answers(&chat).await;
    assert!(parts.len() > 2 && parts.iter().all(|part| part.chars().count() <= 1000), "{} parts", parts.len());
    assert_eq!(parts.join(" "), text);
}

#[tokio::test]
async fn a_note_stays_inside_and_a_sticker_is_refused_in_the_topic() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Инна").await;

    seller.operator_writes(thread, "// торгуется, уступим 500").await;
    let sticker = seller.operator_sends(json!({ "thread_id": thread, "sticker": true })).await;
    seller.operator_writes(thread, "Дальше").await;

    assert_eq!(seller.answered(SOON, &chat, "Дальше").await, ["Дальше"]);
    let refusal = wait_until(SOON, "the refusal of the sticker", async || {
        let topic = seller.topic_of("Инна").await?;
        topic.messages.into_iter().find(|message| message.from_bot && message.reply_to == Some(sticker))
    })
    .await;
    let text = refusal.text.expect("a text");
    assert!(text.starts_with("💔 Не отправлено"), "{text}");
    wait_until(SOON, "the reaction on the sticker", async || {
        (seller.topic_of("Инна").await?.message(sticker).reactions == ["💔"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn our_own_echo_is_not_mirrored_but_an_answer_from_avitos_app_is() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Карина").await;
    seller.operator_writes(thread, "Отвечаю из темы").await;
    seller.answered(SOON, &chat, "Отвечаю из темы").await;

    seller.avito_message(json!({ "chat": chat, "from": "seller_app", "text": "Отвечаю из приложения" })).await;

    let topic = seller.said(SOON, "Карина", "Отвечаю из приложения").await;
    assert_eq!(topic.posts(), ["Здравствуйте", "Вы ответили в Avito:\nОтвечаю из приложения"]);
    assert_eq!(seller.answers(&chat).await, ["Отвечаю из темы", "Отвечаю из приложения"]);
}
