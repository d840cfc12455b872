//! What is not ours: commands for other bots, their topics, groups that the bot has left. And edits of what was no answer.

use serde_json::json;

use super::support::{SOON, Seller, database, new_number, update, wait_until};

async fn edits(seller: &Seller, thread: i64, message_id: i64, text: &str) {
    seller.operator_sends(json!({ "thread_id": thread, "edit": message_id, "text": text })).await;
}

#[tokio::test]
async fn commands_for_another_bot_do_nothing_and_those_for_this_one_act() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let answer = seller.operator_writes(thread, "Да").await;
    seller.answered(SOON, &chat, "Да").await;
    let own = seller.bot_token.split(':').next().expect("a number").to_owned();

    for command in ["/close@Another_bot", "/help@Another_bot", "/nonsense@Another_bot"] {
        seller.operator_writes(thread, command).await;
    }
    seller.operator_sends(json!({ "thread_id": thread, "reply_to": answer, "text": "/del@Another_bot" })).await;
    seller
        .operator_sends(
            json!({ "thread_id": thread, "reply_to": answer, "text": format!("/DEL@shop_{own}_bot").to_lowercase() }),
        )
        .await;

    wait_until(SOON, "the answer is deleted by the second command", async || {
        (seller.answers(&chat).await == [""]).then_some(())
    })
    .await;
    let topic = seller.topic_of("Анна").await.expect("the topic");
    assert_eq!(topic.said(), ["Здравствуйте"], "no command of another bot was answered");
}

#[tokio::test]
async fn a_topic_that_another_bot_made_or_that_is_in_another_chat_is_left_alone() {
    let seller = Seller::new().await;
    let own: i64 = seller.bot_token.split(':').next().and_then(|id| id.parse().ok()).expect("a number");
    for (bot, group) in [(own + 1, seller.group), (own, seller.group - 1)] {
        let mut created = update(&seller, 4000, new_number(), "");
        created["message"]["from"] = json!({ "id": bot, "is_bot": true, "first_name": "Бот" });
        created["message"]["chat"]["id"] = json!(group);
        created["message"]["forum_topic_created"] = json!({ "name": "Стол дубовый · Анна", "icon_color": 1 });
        created["message"].as_object_mut().expect("a message").remove("text");
        seller.bot_receives(&created).await;
    }
    let removals = "SELECT count(*) FROM posts WHERE bot_id = $1 AND kind = 'remove_topic'";
    let count: i64 = database().await.query_one(removals, &[&seller.bot_id]).await.expect("a count").get(0);
    assert_eq!(count, 0);

    let mut created = update(&seller, 4001, new_number(), "");
    created["message"]["from"] = json!({ "id": own, "is_bot": true, "first_name": "Бот" });
    created["message"]["forum_topic_created"] = json!({ "name": "Чужая", "icon_color": 1 });
    created["message"].as_object_mut().expect("a message").remove("text");
    seller.bot_receives(&created).await;
    let count: i64 = database().await.query_one(removals, &[&seller.bot_id]).await.expect("a count").get(0);
    assert_eq!(count, 1, "one of our own that no dialog owns is removed");
}

#[tokio::test]
async fn in_another_group_a_reply_to_a_message_with_the_id_of_an_old_post_reaches_nobody() {
    let seller = Seller::new().await;
    let plain =
        json!({ "chat_id": seller.group, "title": "Магазин", "is_forum": false, "bot_token": seller.bot_token });
    seller.stack.control("telegram/chats", &plain).await;
    let chat = seller.chat("Анна").await;
    seller.buyer_writes(&chat, "Продаёте?").await;
    let post = seller.posted("Продаёте?").await;

    let group = seller.group - 1;
    let other = json!({ "chat_id": group, "title": "Новый", "is_forum": false, "bot_token": seller.bot_token });
    seller.stack.control("telegram/chats", &other).await;
    let change = json!({ "group_chat_id": group, "topic_mode": false });
    let changed = seller.patch(&format!("/api/bots/{}", seller.bot_id), &change).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let mut reply = update(&seller, 0, new_number(), "Не вам");
    reply["message"]["chat"] = json!({ "id": group, "type": "supergroup" });
    reply["message"]["reply_to_message"] = json!({ "message_id": post.message_id });
    for field in ["message_thread_id", "is_topic_message"] {
        reply["message"].as_object_mut().expect("a message").remove(field);
    }
    seller.bot_receives(&reply).await;

    // In the former group the post is found: there it stands.
    seller.operator_sends(json!({ "reply_to": post.message_id, "text": "Вам" })).await;
    assert_eq!(seller.answered(SOON, &chat, "Вам").await, ["Вам"]);
}

#[tokio::test]
async fn an_answer_in_the_group_before_the_last_one_gets_one_notice() {
    let seller = Seller::new().await;
    let (_, thread) = seller.conversation("Анна").await;
    for group in [seller.group - 1, seller.group - 2] {
        let chat = json!({ "chat_id": group, "title": "Новый", "is_forum": true, "bot_token": seller.bot_token });
        seller.stack.control("telegram/chats", &chat).await;
        let changed = seller.patch(&format!("/api/bots/{}", seller.bot_id), &json!({ "group_chat_id": group })).await;
        assert_eq!(changed.status, 200, "{changed:?}");
    }

    seller.operator_writes(thread, "Раз").await;
    seller.posted("Диалоги теперь в другой группе").await;
    seller.operator_writes(thread, "Два").await;

    let notices = "SELECT count(*) FROM posts WHERE bot_id = $1 AND kind = 'notice' AND telegram_chat_id = $2";
    let row = database().await.query_one(notices, &[&seller.bot_id, &seller.group]).await.expect("a count");
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_note_and_a_refused_message_that_are_edited_into_answers_are_sent_as_new_ones() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let note = seller.operator_writes(thread, "// уступим 500").await;
    let refused = seller.operator_writes(thread, "/nonsense").await;
    seller.posted("💔").await;

    edits(&seller, thread, note, "Уступлю 500").await;
    assert_eq!(seller.answered(SOON, &chat, "Уступлю 500").await, ["Уступлю 500"]);
    edits(&seller, thread, refused, "Приезжайте").await;

    assert_eq!(seller.answered(SOON, &chat, "Приезжайте").await, ["Уступлю 500", "Приезжайте"]);
    edits(&seller, thread, note, "Уступлю 300").await;
    assert_eq!(seller.answered(SOON, &chat, "Уступлю 300").await, ["", "Приезжайте", "Уступлю 300"]);
}

#[tokio::test]
async fn an_edit_of_an_answer_that_was_cancelled_is_refused_in_words() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let fault = json!({ "target": "avito", "method": "messages.send", "kind": "status", "status": 400,
        "scope": { "user_id": seller.user_id }, "times": 1 });
    seller.stack.fault(fault).await;
    let answer = seller.operator_writes(thread, "Нет!").await;
    let notice = seller.posted("не принял").await;
    let cancel = notice.content["reply_markup"]["inline_keyboard"][0][1]["callback_data"].clone();
    let press = json!({ "chat_id": seller.group, "message_id": notice.message_id, "data": cancel });
    seller.stack.control("telegram/callback", &press).await;
    seller.posted("Отменено").await;

    edits(&seller, thread, answer, "Да").await;

    assert_eq!(seller.posted("этот ответ отменён или удалён").await.reply_to, Some(answer));
    seller.operator_writes(thread, "Дальше").await;
    assert_eq!(seller.answered(SOON, &chat, "Дальше").await, ["Дальше"]);
}
