//! Pictures, voice messages and locations, both ways: they arrive in the topic or in the chat as they were sent.

#[path = "e2e/long_voice.rs"]
mod long_voice;
#[cfg(target_os = "linux")]
#[path = "e2e/processes.rs"]
mod processes;
#[path = "e2e/support/mod.rs"]
mod support;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use support::{GroupMessage, LATER, SOON, Seller, Topic, database, variable, wait_until};

const VOICE: &[u8] = include_bytes!("../../../functions/shared/tests/fixtures/voice.mp4");
const AAC: &[u8] = include_bytes!("../../../functions/shared/tests/fixtures/aac.mp4");

/// Lists the bot's posts besides the header, in order: `photo`, `album`, `voice`, …, or the text.
fn posts(topic: &Topic) -> Vec<String> {
    let mut posts: Vec<String> = Vec::new();
    let mut album = Value::Null;
    for message in topic.messages.iter().filter(|message| message.from_bot && !message.deleted) {
        let group = message.content["media_group_id"].clone();
        match &message.text {
            Some(text) if text.contains("\nАккаунт: ") => {}
            Some(text) => posts.push(text.clone()),
            None if !group.is_null() && group == album => {}
            None if !group.is_null() => posts.push("album".to_owned()),
            None => posts.extend(kind(message)),
        }
        album = group;
    }
    posts
}

fn kind(message: &GroupMessage) -> Option<String> {
    let kinds = ["photo", "voice", "document", "venue", "location"];
    kinds.iter().find(|kind| message.content.get(**kind).is_some()).map(|kind| (*kind).to_owned())
}

async fn shows(seller: &Seller, buyer: &str, expected: &[&str]) -> Topic {
    wait_until(LATER, &format!("{expected:?} in the topic of {buyer}"), async || {
        let topic = seller.topic_of(buyer).await?;
        (posts(&topic).iter().skip(1).collect::<Vec<_>>() == expected).then_some(topic)
    })
    .await
}

async fn buyer_sends(seller: &Seller, chat: &str, message: Value) -> String {
    let mut message = message;
    message["chat"] = json!(chat);
    message["from"] = json!("buyer");
    seller.avito_message(message).await
}

/// Lists the calls by which the bot posted after `since`.
async fn posted(seller: &Seller, since: u64) -> Vec<(String, u16)> {
    let calls = seller.telegram_calls(since).await.into_iter();
    calls.filter(|call| call.method.starts_with("send")).map(|call| (call.method, call.status)).collect()
}

/// Lists the account's messages in an Avito chat: `image` or the text.
async fn sent(seller: &Seller, chat: &str) -> Vec<String> {
    let answer = seller.stack.ask(&format!("avito/chats?chat={chat}")).await;
    let messages = answer["chats"][0]["messages"].as_array().cloned().unwrap_or_default();
    let own = messages.into_iter().filter(|message| message["author_id"] == seller.user_id);
    own.map(|message| message["content"]["text"].as_str().unwrap_or("image").to_owned()).collect()
}

async fn has_sent(seller: &Seller, chat: &str, expected: &[&str]) {
    wait_until(LATER, &format!("{expected:?} in Avito"), async || (sent(seller, chat).await == expected).then_some(()))
        .await;
}

/// Waits until so many of the seller's messages that meet a condition are recorded.
async fn recorded(seller: &Seller, expected: i64, condition: &str) {
    let database = database().await;
    let count = format!("SELECT count(*) FROM messages WHERE avito_account_id = $1 AND {condition}");
    wait_until(LATER, &format!("{expected} messages recorded with {condition}"), async || {
        let found = database.query_one(count.as_str(), &[&seller.account_id]).await.expect("a number");
        (found.get::<_, i64>(0) == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn consecutive_pictures_are_one_album_and_later_messages_stand_below() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Анна").await;
    let since = seller.stack.calls_so_far().await;

    for _ in 0..3 {
        buyer_sends(&seller, &chat, json!({ "type": "image" })).await;
    }
    shows(&seller, "Анна", &["album"]).await;
    buyer_sends(&seller, &chat, json!({ "type": "image" })).await;
    seller.buyer_writes(&chat, "Вот такой").await;

    let topic = shows(&seller, "Анна", &["album", "photo", "Вот такой"]).await;
    assert_eq!(topic.messages.iter().filter(|message| message.content.get("photo").is_some()).count(), 4);
    let posted = posted(&seller, since).await;
    assert_eq!(
        posted.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>(),
        ["sendMediaGroup", "sendPhoto", "sendMessage"]
    );
}

#[tokio::test]
async fn a_picture_that_telegram_cannot_fetch_is_uploaded() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Борис").await;
    let body = json!({ "ok": false, "error_code": 400, "description": "Bad Request: failed to get HTTP URL content" });
    let fault = json!({ "target": "telegram", "method": "sendPhoto", "scope": { "chat_id": seller.group }, "kind": "status",
                        "status": 400, "body": body, "times": 1 });
    seller.stack.fault(fault).await;
    let since = seller.stack.calls_so_far().await;

    buyer_sends(&seller, &chat, json!({ "type": "image" })).await;

    shows(&seller, "Борис", &["photo"]).await;
    assert_eq!(posted(&seller, since).await, [("sendPhoto".to_owned(), 400), ("sendPhoto".to_owned(), 200)]);
    let calls = seller.telegram_calls(since).await;
    let last = calls.iter().rfind(|call| call.method == "sendPhoto").expect("a call");
    assert!(last.params["file0"]["bytes"].as_u64().is_some_and(|bytes| bytes > 100), "{last:?}");
}

#[tokio::test]
async fn an_album_that_is_refused_is_sent_again_by_upload_and_then_picture_by_picture() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Вера").await;
    let fault = json!({ "target": "telegram", "method": "sendMediaGroup", "scope": { "chat_id": seller.group },
                        "kind": "status", "status": 400, "times": 2 });
    seller.stack.fault(fault).await;
    let since = seller.stack.calls_so_far().await;

    for _ in 0..3 {
        buyer_sends(&seller, &chat, json!({ "type": "image" })).await;
    }

    shows(&seller, "Вера", &["photo", "photo", "photo"]).await;
    let methods: Vec<_> = posted(&seller, since).await.into_iter().map(|(method, _)| method).collect();
    assert_eq!(methods, ["sendMediaGroup", "sendMediaGroup", "sendPhoto", "sendPhoto", "sendPhoto"]);
}

#[tokio::test]
async fn a_voice_message_is_posted_as_a_voice_note_or_else_as_a_file_or_a_line() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Галина").await;

    buyer_sends(&seller, &chat, json!({ "type": "voice", "voice": STANDARD.encode(VOICE) })).await;
    let topic = shows(&seller, "Галина", &["voice"]).await;
    buyer_sends(&seller, &chat, json!({ "type": "voice", "voice": STANDARD.encode(AAC) })).await;
    buyer_sends(&seller, &chat, json!({ "type": "voice", "voice_id": "there-is-none" })).await;

    let line = "🎤 Голосовое сообщение — откройте чат в Avito";
    shows(&seller, "Галина", &["voice", "document", line]).await;
    let note = topic.messages.iter().find(|message| message.content.get("voice").is_some()).expect("a voice note");
    assert_eq!(note.content["voice"]["duration"], 2);
    let api = format!("{}/bot{}", variable("TELEGRAM_API_BASE"), seller.bot_token);
    let id = note.content["voice"]["file_id"].as_str().expect("an id");
    let file = seller.stack.get(&format!("{api}/getFile?file_id={id}"), None).await;
    let path = file.body["result"]["file_path"].as_str().expect("a path").to_owned();
    let address = format!("{}/file/bot{}/{path}", variable("TELEGRAM_API_BASE"), seller.bot_token);
    let ogg = reqwest::get(address).await.expect("the file").bytes().await.expect("the whole file");
    assert!(ogg.starts_with(b"OggS") && ogg.windows(8).any(|window| window == b"OpusHead"));
    assert!(ogg.len() > VOICE.len() / 2, "all packets are in it");
}

#[tokio::test]
async fn locations_links_calls_and_kinds_without_content_are_posted() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Дарья").await;
    let location = json!({ "kind": "house", "lat": 55.75, "lon": 37.6, "text": "Москва, Тверская, 1", "title": "Дом" });

    buyer_sends(&seller, &chat, json!({ "type": "location", "location": location })).await;
    let topic = shows(&seller, "Дарья", &["venue"]).await;
    let venue = topic.messages.iter().find(|message| message.content.get("venue").is_some()).expect("a venue");
    assert_eq!(venue.content["venue"]["address"], "Москва, Тверская, 1");
    for (message, line) in [
        (json!({ "type": "call", "call": { "status": "missed" } }), "📞 Пропущенный звонок через Avito"),
        (json!({ "type": "video" }), "🎬 Видео — откройте чат в Avito"),
        (json!({ "type": "link", "link": { "url": "https://example.com" } }), "🔗 https://example.com"),
    ] {
        buyer_sends(&seller, &chat, message).await;
        seller.said(SOON, "Дарья", line).await;
    }
}

#[tokio::test]
async fn a_message_that_the_buyer_deletes_gets_a_notice_and_a_quote_is_a_reply() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Елена").await;
    let id = seller.buyer_writes(&chat, "Отдадите за 5?").await;
    let asked = seller.said(SOON, "Елена", "Отдадите за 5?").await;
    let question = asked.messages.last().expect("a message").message_id;

    buyer_sends(&seller, &chat, json!({ "text": "Ау", "quote": id, "webhook": false })).await;
    let topic = seller.said(LATER, "Елена", "Ау").await;
    assert_eq!(
        topic.messages.iter().rfind(|message| message.from_bot).and_then(|message| message.reply_to),
        Some(question)
    );

    buyer_sends(&seller, &chat, json!({ "type": "deleted", "message_id": id })).await;
    let topic = seller.said(SOON, "Елена", "🗑 Сообщение удалено в Avito.").await;
    assert_eq!(
        topic.messages.iter().rfind(|message| message.from_bot).and_then(|message| message.reply_to),
        Some(question)
    );
}

#[tokio::test]
async fn an_operators_pictures_reach_the_buyer_in_order_with_the_caption_behind_the_last() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Жанна").await;

    seller.operator_sends(json!({ "thread_id": thread, "photo": true, "caption": "Вот он" })).await;
    has_sent(&seller, &chat, &["image", "Вот он"]).await;
    // None of an album can be sent before all of it is recorded.
    let busy = json!({ "target": "avito", "method": "messages.image", "scope": { "user_id": seller.user_id },
                       "kind": "status", "status": 429, "retry_after": 1 });
    let busy = seller.stack.fault(busy).await;
    for caption in [Some("Три вида"), None, None] {
        let mut picture = json!({ "thread_id": thread, "photo": true, "media_group_id": "77" });
        if let Some(caption) = caption {
            picture["caption"] = json!(caption);
        }
        seller.operator_sends(picture).await;
    }
    recorded(&seller, 3, "media_group_id = '77' AND telegram_message_id IS NOT NULL").await;
    seller.stack.mend(busy).await;
    has_sent(&seller, &chat, &["image", "Вот он", "image", "image", "image", "Три вида"]).await;
}

#[tokio::test]
async fn a_message_that_avito_does_not_take_is_refused_in_the_topic_at_once() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Зоя").await;
    for (message, word) in [
        (json!({ "voice": true }), "голосовые"),
        (json!({ "video": true }), "видео"),
        (json!({ "sticker": true }), "стикеры"),
        (json!({ "document": true }), "из файлов"),
        (json!({ "contact": { "phone_number": "+70000000000", "first_name": "А" } }), "контакты"),
        (
            json!({ "document": { "base64": STANDARD.encode("no picture"), "name": "a.png", "mime": "image/png" } }),
            "из файлов",
        ),
    ] {
        let mut message = message;
        message["thread_id"] = json!(thread);
        let id = seller.operator_sends(message).await;
        wait_until(SOON, &format!("a refusal with «{word}»"), async || {
            let topic = seller.topic_of("Зоя").await?;
            let is_refusal = |message: &&GroupMessage| {
                message.reply_to == Some(id) && message.text.as_ref().is_some_and(|text| text.contains(word))
            };
            topic.messages.iter().find(is_refusal).map(|_| ())
        })
        .await;
    }
    assert_eq!(sent(&seller, &chat).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_picture_whose_answer_was_lost_is_found_in_the_chat_and_not_sent_again() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Инна").await;
    let fault = json!({ "target": "avito", "method": "messages.image", "scope": { "user_id": seller.user_id },
                        "kind": "reset_after", "times": 1 });
    seller.stack.fault(fault).await;
    let without_webhooks =
        json!({ "target": "avito", "kind": "webhook_withheld", "scope": { "user_id": seller.user_id } });
    seller.stack.fault(without_webhooks).await;

    seller.operator_sends(json!({ "thread_id": thread, "photo": true, "caption": "Раз" })).await;
    has_sent(&seller, &chat, &["image", "Раз"]).await;
    let topic = seller.topic_of("Инна").await.expect("a topic");
    assert_eq!(posts(&topic).len(), 1, "nothing is mirrored: {:?}", posts(&topic));
}

/// Checks that one event took at most 24 MiB beside the 64 MiB that a worker has anyway.
#[cfg(target_os = "linux")]
fn assert_within_the_memory_of_one_event(function: &str) {
    let peak = processes::peak_memory(function).expect("the worker runs");
    assert!(peak < 64 + 24, "{peak} MiB");
}

fn png(bytes: usize) -> String {
    let mut picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\0\0\0\x02\0\x08\x02\0\0\0".to_vec();
    picture.resize(bytes, 0);
    STANDARD.encode(picture)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_picture_of_nearly_twenty_megabytes_passes_within_the_memory_of_one_event() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Клим").await;

    let file = json!({ "base64": png(19 * 1024 * 1024), "name": "a.png", "mime": "image/png" });
    seller.operator_sends(json!({ "thread_id": thread, "document": file })).await;

    has_sent(&seller, &chat, &["image"]).await;
    assert_within_the_memory_of_one_event("deliver-to-avito");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_voice_message_of_an_hour_and_an_album_of_forty_megabytes_pass_within_the_memory_of_one_event_each() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Лев").await;
    let cannot_fetch =
        json!({ "ok": false, "error_code": 400, "description": "Bad Request: failed to get HTTP URL content" });
    let fault = json!({ "target": "telegram", "method": "sendMediaGroup", "scope": { "chat_id": seller.group },
                        "kind": "status", "status": 400, "body": cannot_fetch, "times": 1 });
    seller.stack.fault(fault).await;

    let hours = long_voice::repeated(VOICE, 5_400);
    buyer_sends(&seller, &chat, json!({ "type": "voice", "voice": STANDARD.encode(&hours) })).await;
    let topic = shows(&seller, "Лев", &["voice"]).await;
    let note = topic.messages.iter().find(|message| message.content.get("voice").is_some()).expect("a voice note");
    assert!(note.content["voice"]["duration"].as_u64().is_some_and(|seconds| seconds > 3600), "{note:?}");
    // However long this machine takes over their bytes, none is posted before all are recorded.
    seller.pause_posting().await;
    for _ in 0..10 {
        buyer_sends(&seller, &chat, json!({ "type": "image", "image": png(39 * 1024 * 1024 / 10) })).await;
    }
    recorded(&seller, 10, "origin = 'buyer' AND kind = 'image'").await;
    seller.resume_posting().await;
    shows(&seller, "Лев", &["voice", "album"]).await;

    assert_within_the_memory_of_one_event("deliver-to-telegram");
}
