//! Albums and pictures of operators: one caption decides for all of an album, and a picture under a command stays inside.

use serde_json::{Value, json};

use super::support::{LATER, SOON, Seller, database, new_number, wait_until};

/// Lists what the account wrote in an Avito chat: the kind of each message, with its text.
async fn sent(seller: &Seller, chat: &str) -> Vec<String> {
    let answer = seller.stack.ask(&format!("avito/chats?chat={chat}")).await;
    let messages = answer["chats"][0]["messages"].as_array().expect("messages").clone();
    let own = messages.into_iter().filter(|message| message["author_id"] == json!(seller.user_id));
    own.map(|message| {
        let kind = message["type"].as_str().unwrap_or_default().to_owned();
        message["content"]["text"].as_str().filter(|_| kind == "text").map_or(kind.clone(), str::to_owned)
    })
    .collect()
}

/// Waits until the account has written this in an Avito chat, and nothing else.
async fn has_sent(seller: &Seller, chat: &str, expected: &[&str]) {
    let mut last = Vec::new();
    let found = super::support::try_until(LATER, async || {
        last = sent(seller, chat).await;
        (last == expected).then_some(())
    });
    assert!(found.await.is_some(), "expected {expected:?}, sent {last:?}");
}

/// Sends an album of three pictures, of which one has these members besides; returns their ids.
async fn album(seller: &Seller, thread: i64, captioned: usize, caption: &str) -> [i64; 3] {
    let group = format!("album-{}", new_number());
    let mut ids = [0; 3];
    for (index, id) in ids.iter_mut().enumerate() {
        let mut picture = json!({ "thread_id": thread, "photo": true, "media_group_id": group });
        if index == captioned {
            picture["caption"] = json!(caption);
        }
        *id = seller.operator_sends(picture).await;
    }
    ids
}

#[tokio::test]
async fn the_caption_of_an_album_follows_its_last_picture_wherever_it_stands() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;

    album(&seller, thread, 0, "Вид спереди").await;
    has_sent(&seller, &chat, &["image", "image", "image", "Вид спереди"]).await;
    album(&seller, thread, 1, "Вид сбоку").await;

    has_sent(&seller, &chat, &["image", "image", "image", "Вид спереди", "image", "image", "image", "Вид сбоку"]).await;
}

#[tokio::test]
async fn an_album_that_stays_inside_answers_nobody() {
    let seller = Seller::new().await;
    let (_, thread) = seller.conversation("Анна").await;
    album(&seller, thread, 2, "// свои").await;

    let inside = "SELECT FROM inside_albums WHERE bot_id = $1";
    wait_until(SOON, "the album is kept inside", async || {
        database().await.query_opt(inside, &[&seller.bot_id]).await.expect("the albums").map(|_| ())
    })
    .await;
    assert_eq!(seller.get("/api/dialogs").await.body["items"][0]["state"], "waiting");
}

#[tokio::test]
async fn an_album_under_a_note_or_a_command_stays_inside_as_a_whole() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    for (captioned, caption) in
        [(0, "// свои"), (2, "// свои"), (0, "/close"), (2, "/q нет"), (1, "/close@Another_bot")]
    {
        album(&seller, thread, captioned, caption).await;
    }

    seller.posted("а то, что над ней").await;
    seller.posted("готовых ответов ещё нет").await;
    seller.operator_writes(thread, "Дальше").await;
    has_sent(&seller, &chat, &["Дальше"]).await;
}

#[tokio::test]
async fn a_picture_under_a_canned_reply_goes_before_it_and_one_under_another_command_does_not_go() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Борис").await;
    let replies = json!({ "canned_replies": { "адрес": "Ленина, 1" } });
    assert_eq!(seller.patch("/api/clients/me", &replies).await.status, 200);

    seller.operator_sends(json!({ "thread_id": thread, "photo": true, "caption": "/q адрес" })).await;
    has_sent(&seller, &chat, &["image", "Ленина, 1"]).await;
    let under = seller.operator_sends(json!({ "thread_id": thread, "photo": true, "caption": "/reopen" })).await;

    assert_eq!(seller.posted("а то, что над ней").await.reply_to, Some(under));
    album(&seller, thread, 0, "/q адрес").await;
    has_sent(&seller, &chat, &["image", "Ленина, 1", "image", "image", "image", "Ленина, 1"]).await;
}

#[tokio::test]
async fn del_on_any_picture_deletes_the_whole_album_with_its_caption() {
    for replied in 0..3 {
        let seller = Seller::new().await;
        let (chat, thread) = seller.conversation("Анна").await;
        let pictures = album(&seller, thread, 0, "Вот").await;
        has_sent(&seller, &chat, &["image", "image", "image", "Вот"]).await;

        seller.operator_sends(json!({ "thread_id": thread, "reply_to": pictures[replied], "text": "/del" })).await;

        has_sent(&seller, &chat, &["deleted", "deleted", "deleted", "deleted"]).await;
    }
}

#[tokio::test]
async fn a_caption_that_avito_refuses_has_buttons_of_its_own_and_the_pictures_stay() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let body: Value = json!({ "error": { "code": 400, "message": "Слишком грубо" } });
    let fault = json!({ "target": "avito", "method": "messages.send", "kind": "status", "status": 400, "body": body,
        "scope": { "user_id": seller.user_id }, "times": 1 });
    seller.stack.fault(fault).await;

    album(&seller, thread, 1, "Вот").await;
    let notice = seller.posted("Слишком грубо").await;
    let again = notice.content["reply_markup"]["inline_keyboard"][0][0]["callback_data"].clone();
    let press = json!({ "chat_id": seller.group, "message_id": notice.message_id, "data": again });
    seller.stack.control("telegram/callback", &press).await;

    has_sent(&seller, &chat, &["image", "image", "image", "Вот"]).await;
}

#[tokio::test]
async fn another_picture_in_a_sent_answer_replaces_the_former_one() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    let picture = seller.operator_sends(json!({ "thread_id": thread, "photo": true, "caption": "Вот" })).await;
    has_sent(&seller, &chat, &["image", "Вот"]).await;

    seller.operator_sends(json!({ "thread_id": thread, "edit": picture, "photo": true, "caption": "Вот" })).await;

    has_sent(&seller, &chat, &["deleted", "deleted", "image", "Вот"]).await;
    seller.operator_writes(thread, "Дальше").await;
    assert_eq!(seller.answered(SOON, &chat, "Дальше").await.len(), 5);
}
