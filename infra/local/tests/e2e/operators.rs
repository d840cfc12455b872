//! Receipts, buttons, edits and commands of operators; topics that are deleted, bots that are thrown out, groups
//! without topics.

use reqwest::Method;
use serde_json::{Value, json};

use super::support::{GroupMessage, LATER, SOON, Seller, database, update, wait_until};

/// Waits until a message of the group carries this reaction.
async fn reaction(seller: &Seller, message_id: i64, emoji: &str) {
    wait_until(SOON, &format!("{emoji} on the message"), async || {
        let topics = seller.all_topics().await;
        let message =
            topics.iter().flat_map(|topic| &topic.messages).find(|message| message.message_id == message_id)?;
        (message.reactions == [emoji]).then_some(())
    })
    .await;
}

/// Presses the button with this index under a post.
async fn press(seller: &Seller, post: &GroupMessage, index: usize) {
    let data = post.content["reply_markup"]["inline_keyboard"][0][index]["callback_data"].clone();
    let press = json!({ "chat_id": seller.group, "message_id": post.message_id, "data": data });
    seller.stack.control("telegram/callback", &press).await;
}

/// Presses a button twice. The second press may find it gone already.
async fn press_twice(seller: &Seller, post: &GroupMessage, index: usize) {
    press(seller, post, index).await;
    let data = post.content["reply_markup"]["inline_keyboard"][0][index]["callback_data"].clone();
    let again = json!({ "chat_id": seller.group, "message_id": post.message_id, "data": data });
    let _ = seller.stack.try_control("telegram/callback", &again).await;
}

/// Lets Avito refuse or delay the account's next answer.
async fn answers_fail(seller: &Seller, fault: Value) {
    let mut fault = fault;
    fault["target"] = json!("avito");
    fault["method"] = fault.get("method").cloned().unwrap_or_else(|| json!("messages.send"));
    fault["scope"] = json!({ "user_id": seller.user_id });
    fault["times"] = json!(1);
    seller.stack.fault(fault).await;
}

async fn edits(seller: &Seller, thread: i64, message_id: i64, text: &str) {
    seller.operator_sends(json!({ "thread_id": thread, "edit": message_id, "text": text })).await;
}

async fn replies(seller: &Seller, thread: i64, to: i64, text: &str) -> i64 {
    seller.operator_sends(json!({ "thread_id": thread, "reply_to": to, "text": text })).await
}

#[tokio::test]
async fn an_answer_that_has_to_wait_gets_the_waiting_receipt_and_then_the_sent_receipt() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    answers_fail(&seller, json!({ "kind": "status", "status": 429, "retry_after": 20 })).await;

    let answer = seller.operator_writes(thread, "Да").await;

    reaction(&seller, answer, "👀").await;
    reaction(&seller, answer, "👌").await;
    assert_eq!(seller.answers(&chat).await, ["Да"]);
}

#[tokio::test]
async fn an_answer_that_avito_confirms_late_gets_the_waiting_receipt_and_then_the_sent_receipt() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    // The call's answer and the echo both come late, but before the worker gives up.
    answers_fail(&seller, json!({ "kind": "latency", "latency_ms": 8000 })).await;

    let answer = seller.operator_writes(thread, "Да").await;

    reaction(&seller, answer, "👀").await;
    reaction(&seller, answer, "👌").await;
    assert_eq!(seller.answers(&chat).await, ["Да"]);
}

#[tokio::test]
async fn every_answer_that_the_buyer_has_read_gets_the_read_receipt() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let first = seller.operator_writes(thread, "Раз").await;
    let second = seller.operator_writes(thread, "Два").await;
    reaction(&seller, second, "👌").await;

    seller.stack.control("avito/read", &json!({ "chat": chat })).await;

    wait_until(LATER, "👍 on both answers", async || {
        seller.stack.run_schedule("poll-avito").await;
        let topic = seller.topic_of("Анна").await?;
        let is_read = |id| topic.message(id).reactions == ["👍"];
        (is_read(first) && is_read(second)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_refused_answer_is_sent_again_by_its_button_once() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let body = json!({ "error": { "code": 400, "message": "Слишком грубо" } });
    answers_fail(&seller, json!({ "kind": "status", "status": 400, "body": body })).await;
    let answer = seller.operator_writes(thread, "Нет!").await;
    reaction(&seller, answer, "💔").await;
    let notice = seller.posted("Слишком грубо").await;
    assert_eq!(notice.reply_to, Some(answer));

    press_twice(&seller, &notice, 0).await;

    reaction(&seller, answer, "👌").await;
    let edited = seller.posted("Отправляю ещё раз").await;
    assert_eq!((edited.message_id, edited.content.get("reply_markup")), (notice.message_id, None));
    assert_eq!(seller.answers(&chat).await, ["Нет!"]);
}

#[tokio::test]
async fn a_refused_answer_that_is_cancelled_is_never_sent() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    answers_fail(&seller, json!({ "kind": "status", "status": 400 })).await;
    seller.operator_writes(thread, "Нет!").await;
    let notice = seller.posted("не принял").await;

    press(&seller, &notice, 1).await;

    seller.posted("Отменено").await;
    seller.operator_writes(thread, "Добрый день").await;
    assert_eq!(seller.answered(SOON, &chat, "Добрый день").await, ["Добрый день"]);
}

#[tokio::test]
async fn an_edited_answer_is_deleted_and_only_its_latest_text_is_sent_even_when_every_call_is_cut() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let answer = seller.operator_writes(thread, "Да").await;
    reaction(&seller, answer, "👌").await;
    for method in ["messages.delete", "messages.send"] {
        answers_fail(&seller, json!({ "method": method, "kind": "reset_after" })).await;
    }

    edits(&seller, thread, answer, "Да, пр").await;
    edits(&seller, thread, answer, "Да, продаю").await;
    edits(&seller, thread, answer, "Да, продаю").await;

    assert_eq!(seller.answered(SOON, &chat, "Да, продаю").await, ["", "Да, продаю"]);
    seller.operator_writes(thread, "Приезжайте").await;
    assert_eq!(seller.answered(SOON, &chat, "Приезжайте").await, ["", "Да, продаю", "Приезжайте"]);
}

#[tokio::test]
async fn an_answer_edited_before_it_was_sent_is_sent_once_with_its_new_text() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    answers_fail(&seller, json!({ "kind": "status", "status": 429, "retry_after": 20 })).await;
    let answer = seller.operator_writes(thread, "Да").await;
    reaction(&seller, answer, "👀").await;

    edits(&seller, thread, answer, "Нет").await;
    seller.operator_writes(thread, "Продано").await;

    assert_eq!(seller.answered(SOON, &chat, "Продано").await, ["Нет", "Продано"]);
}

#[tokio::test]
async fn an_answer_that_avito_does_not_delete_stays_and_its_writer_is_notified() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let answer = seller.operator_writes(thread, "Да").await;
    reaction(&seller, answer, "👌").await;
    answers_fail(&seller, json!({ "method": "messages.delete", "kind": "status", "status": 400 })).await;

    edits(&seller, thread, answer, "Нет").await;

    assert_eq!(seller.posted("Avito не удалил").await.reply_to, Some(answer));
    seller.operator_writes(thread, "Добрый день").await;
    assert_eq!(seller.answered(SOON, &chat, "Добрый день").await, ["Да", "Добрый день"]);
}

#[tokio::test]
async fn del_deletes_an_answer_that_was_sent_and_cancels_one_that_waits() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let sent = seller.operator_writes(thread, "Да").await;
    reaction(&seller, sent, "👌").await;

    let del = replies(&seller, thread, sent, "/del").await;
    reaction(&seller, del, "👌").await;
    answers_fail(&seller, json!({ "kind": "status", "status": 429, "retry_after": 20 })).await;
    let waiting = seller.operator_writes(thread, "Нет").await;
    reaction(&seller, waiting, "👀").await;
    let del = replies(&seller, thread, waiting, "/del").await;
    reaction(&seller, del, "👌").await;

    seller.operator_writes(thread, "Добрый день").await;
    assert_eq!(seller.answered(SOON, &chat, "Добрый день").await, ["", "Добрый день"]);
}

#[tokio::test]
async fn a_closed_dialog_opens_again_when_its_buyer_writes() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let closed = async || {
        let answer = seller.stack.ask(&format!("telegram/topics?chat_id={}", seller.group)).await;
        let topics = answer["topics"].as_array().expect("topics").clone();
        topics.iter().find(|topic| topic["thread_id"] == thread).expect("the topic")["closed"].clone()
    };

    seller.operator_writes(thread, "/close").await;
    wait_until(SOON, "the topic is closed", async || (closed().await == true).then_some(())).await;
    seller.buyer_writes(&chat, "Вы здесь?").await;

    seller.said(SOON, "Анна", "Вы здесь?").await;
    assert_eq!(closed().await, false);
}

#[tokio::test]
async fn a_buyer_is_blocked_only_after_the_question_was_answered() {
    let seller = Seller::new().await;
    let (_, thread) = seller.conversation("Анна").await;
    let blocked = async || {
        let calls = seller.stack.calls(0, "avito").await;
        calls.into_iter().filter(|call| call.method == "blacklist" && call.user_id == Some(seller.user_id)).count()
    };

    seller.operator_writes(thread, "/block").await;
    let question = seller.posted("Заблокировать покупателя").await;
    assert_eq!(blocked().await, 0);
    press_twice(&seller, &question, 0).await;

    seller.posted("Покупатель заблокирован").await;
    assert_eq!(blocked().await, 1);
}

#[tokio::test]
async fn a_block_or_a_deletion_that_avito_does_not_allow_leaves_the_account_active() {
    let seller = Seller::new().await;
    let (_, blocking) = seller.conversation("Анна").await;
    let (_, deleting) = seller.conversation("Мария").await;
    let answer = seller.operator_writes(deleting, "Да").await;
    reaction(&seller, answer, "👌").await;
    let database = database().await;
    let changed = async || {
        let changed = "SELECT status_changed_at::text FROM avito_accounts WHERE id = $1";
        database.query_one(changed, &[&seller.account_id]).await.expect("the account").get::<_, Option<String>>(0)
    };
    let before = changed().await;
    for method in ["blacklist", "messages.delete"] {
        let scope = json!({ "user_id": seller.user_id });
        let forbidden = json!({ "target": "avito", "kind": "status", "status": 403, "method": method, "scope": scope });
        seller.stack.fault(forbidden).await;
    }

    seller.operator_writes(blocking, "/block").await;
    press(&seller, &seller.posted("Заблокировать покупателя").await, 0).await;
    replies(&seller, deleting, answer, "/del").await;

    seller.posted("Avito не заблокировал").await;
    seller.posted("Avito не удалил").await;
    assert_eq!(changed().await, before, "the account's status never changed");
    let (chat, thread) = seller.conversation("Ольга").await;
    seller.operator_writes(thread, "Добрый день").await;
    assert_eq!(seller.answered(SOON, &chat, "Добрый день").await, ["Добрый день"]);
}

#[tokio::test]
async fn a_new_topic_begins_with_a_replay_of_delivered_messages_and_not_of_waiting_ones() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let answer = seller.operator_writes(thread, "Да").await;
    reaction(&seller, answer, "👌").await;
    let fault = json!({
        "target": "telegram", "kind": "topic_deleted", "scope": { "chat_id": seller.group }, "thread_id": thread,
    });
    seller.stack.fault(fault).await;

    seller.buyer_writes(&chat, "Беру!").await;

    let topic = seller.said(SOON, "Анна", "Беру!").await;
    assert_ne!(topic.thread(), thread);
    let [replay, waited] = topic.posts()[..] else { panic!("two posts: {topic:?}") };
    assert!(replay.contains("Анна: Здравствуйте") && replay.contains("Вы: Да"), "{replay}");
    assert!(!replay.contains("Беру") && waited == "Беру!");
}

#[tokio::test]
async fn a_bot_that_was_thrown_out_works_again_when_it_is_let_in_again() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Анна").await;
    let kicked = json!({ "target": "telegram", "kind": "kicked", "scope": { "chat_id": seller.group } });
    let fault = seller.stack.fault(kicked).await;
    seller.buyer_writes(&chat, "Раз").await;
    let status = async || {
        let bots = seller.stack.get("/api/bots", Some(&seller.access_token)).await.body;
        bots.to_string().contains(r#""status":"error""#)
    };
    wait_until(SOON, "the bot is marked as broken", async || status().await.then_some(())).await;

    seller.stack.mend(fault).await;

    seller.said(SOON, "Анна", "Раз").await;
    wait_until(SOON, "the bot is marked as working", async || (!status().await).then_some(())).await;
}

#[tokio::test]
async fn without_topics_all_dialogs_share_one_chat_and_replies_find_their_buyers() {
    let seller = Seller::new().await;
    let (anna, _) = seller.conversation("Анна").await;
    let plain =
        json!({ "chat_id": seller.group, "title": "Магазин", "is_forum": false, "bot_token": seller.bot_token });
    seller.stack.control("telegram/chats", &plain).await;
    let boris = seller.chat("Борис").await;

    seller.buyer_writes(&boris, "Я Борис").await;
    let of_boris = seller.posted("Я Борис").await;
    seller.buyer_writes(&anna, "Я Анна").await;
    let of_anna = seller.posted("Я Анна").await;

    assert_eq!(of_boris.text.as_deref(), Some("Avito · Стол дубовый · Борис\nЯ Борис"));
    assert_eq!(of_anna.text.as_deref(), Some("Avito · Стол дубовый · Анна\nЯ Анна"));
    for (post, chat, text) in [(&of_anna, &anna, "Анне"), (&of_boris, &boris, "Борису")] {
        seller.operator_sends(json!({ "reply_to": post.message_id, "text": text })).await;
        assert_eq!(seller.answered(SOON, chat, text).await, [text]);
    }
}

#[tokio::test]
async fn without_topics_an_answer_that_is_faster_than_the_posts_confirmation_reaches_its_buyer() {
    let seller = Seller::new().await;
    let plain =
        json!({ "chat_id": seller.group, "title": "Магазин", "is_forum": false, "bot_token": seller.bot_token });
    seller.stack.control("telegram/chats", &plain).await;
    let chat = seller.chat("Анна").await;
    let slow = json!({
        "target": "telegram", "method": "sendMessage", "kind": "late_answer", "latency_ms": 2500,
        "scope": { "chat_id": seller.group },
    });
    seller.stack.fault(slow).await;

    seller.buyer_writes(&chat, "Продаёте?").await;
    let post = seller.posted("Продаёте?").await;
    seller.operator_sends(json!({ "reply_to": post.message_id, "text": "Да" })).await;

    assert_eq!(seller.answered(SOON, &chat, "Да").await, ["Да"]);
}

#[tokio::test]
async fn getid_is_answered_in_the_webhooks_own_response_with_group_and_topic() {
    let seller = Seller::new().await;
    let (url, secret) = seller.telegram_webhook().await;
    let asked = update(&seller, 70, 7, "/getid");
    let headers = [("x-telegram-bot-api-secret-token", secret.as_str()), ("content-type", "application/json")];

    let answer = seller.stack.call(Method::POST, &url, &headers, asked.to_string().into()).await;

    let text = format!("chat_id: {}\nmessage_thread_id: 70", seller.group);
    let call = json!({ "method": "sendMessage", "chat_id": seller.group, "message_thread_id": 70, "text": text });
    assert_eq!((answer.status, answer.body), (200, call));
}

#[tokio::test]
async fn a_canned_reply_is_sent_by_its_name_and_an_unknown_name_is_refused() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Борис").await;
    let replies = json!({ "canned_replies": { "адрес": "Ленина, 1, с 9 до 18" } });
    assert_eq!(seller.patch("/api/clients/me", &replies).await.status, 200);

    let unknown = seller.operator_writes(thread, "/q цена").await;
    seller.operator_writes(thread, "/q адрес").await;

    assert_eq!(seller.answered(SOON, &chat, "Ленина, 1, с 9 до 18").await, ["Ленина, 1, с 9 до 18"]);
    reaction(&seller, unknown, "💔").await;
}
