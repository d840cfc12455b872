//! The Bot API: its answers, refusals, updates and files.

use std::time::Duration;

use frankenstein::response::MethodResponse;
use frankenstein::types::{ChatFullInfo, ChatMember, File, ForumTopic, Message, User};
use frankenstein::updates::{Update, UpdateContent, WebhookInfo};
use serde_json::{Value, json};

use crate::{GROUP, Lab, Receiver, TOKEN};

fn typed<T: serde::de::DeserializeOwned>((status, body): (u16, Value)) -> T {
    assert_eq!(status, 200, "{body}");
    serde_json::from_value::<MethodResponse<T>>(body).expect("a body that the client's types can read").result
}

#[tokio::test]
async fn answers_of_the_bot_api_can_be_read_by_the_typed_client() {
    let lab = Lab::with_forum().await;
    let me: User = typed(lab.telegram("getMe", json!({})).await);
    assert_eq!(me.username.as_deref(), Some("tuberry_bot"));
    let topic: ForumTopic =
        typed(lab.telegram("createForumTopic", json!({ "chat_id": GROUP, "name": "iPhone" })).await);
    let thread = topic.message_thread_id;
    let text = json!({ "chat_id": GROUP, "message_thread_id": thread, "text": "Здравствуйте" });
    let message: Message = typed(lab.telegram("sendMessage", text).await);
    assert_eq!((message.message_thread_id, message.is_topic_message), (Some(thread), Some(true)));
    assert!(message.reply_to_message.is_some_and(|topic| topic.forum_topic_created.is_some()));
    let member = json!({ "chat_id": GROUP, "user_id": 7001 });
    let member: ChatMember = typed(lab.telegram("getChatMember", member).await);
    assert!(matches!(member, ChatMember::Administrator(bot) if bot.can_manage_topics == Some(true)));
    let chat: ChatFullInfo = typed(lab.telegram("getChat", json!({ "chat_id": GROUP })).await);
    assert_eq!(chat.is_forum, Some(true));
    let _: Vec<ChatMember> = typed(lab.telegram("getChatAdministrators", json!({ "chat_id": GROUP })).await);
    let _: WebhookInfo = typed(lab.telegram("getWebhookInfo", json!({})).await);
    let pin = json!({ "chat_id": GROUP, "message_id": message.message_id });
    assert!(typed::<bool>(lab.telegram("pinChatMessage", pin).await));
}

#[tokio::test]
async fn mistakes_are_refused_in_the_words_of_the_bot_api() {
    let lab = Lab::with_forum().await;
    let thread = lab.topic().await;
    let cases = [
        ("sendMessage", json!({ "chat_id": 5, "text": "x" }), 400, "chat not found"),
        ("sendMessage", json!({ "chat_id": GROUP }), 400, "message text is empty"),
        ("sendMessage", json!({ "chat_id": GROUP, "text": "x".repeat(4097) }), 400, "message is too long"),
        ("sendMessage", json!({ "chat_id": GROUP, "text": "x", "thread_id": 1 }), 400, "thread_id"),
        (
            "sendMessage",
            json!({ "chat_id": GROUP, "text": "x", "message_thread_id": 1 }),
            400,
            "message thread not found",
        ),
        (
            "pinChatMessage",
            json!({ "chat_id": GROUP, "message_id": thread, "message_thread_id": thread }),
            400,
            "takes no",
        ),
        ("reopenForumTopic", json!({ "chat_id": GROUP, "message_thread_id": thread }), 400, "TOPIC_NOT_MODIFIED"),
        (
            "setMessageReaction",
            json!({ "chat_id": GROUP, "message_id": thread, "reaction": [{ "type": "emoji", "emoji": "✅" }] }),
            400,
            "REACTION_INVALID",
        ),
        ("sendTelegram", json!({}), 404, "Not Found"),
    ];
    for (method, params, status, why) in cases {
        let (got, body) = lab.telegram(method, params).await;
        let description = body["description"].as_str().expect("a description");
        assert!(got == status && description.contains(why), "{method}: {got} {description}");
    }
    let close = json!({ "chat_id": GROUP, "message_thread_id": thread });
    lab.telegram("closeForumTopic", close).await;
    let text = json!({ "chat_id": GROUP, "message_thread_id": thread, "text": "x" });
    assert_eq!(lab.telegram("sendMessage", text).await.1["description"], "Bad Request: TOPIC_CLOSED");
}

#[tokio::test]
async fn an_update_is_repeated_with_its_id_and_before_later_ones_until_it_is_accepted() {
    let lab = Lab::with_forum().await;
    let receiver = Receiver::start(json!({})).await;
    *receiver.refusals.lock().expect("a lock") = 2;
    let webhook = json!({ "url": receiver.url, "secret_token": "s3cret", "drop_pending_updates": true });
    assert!(typed::<bool>(lab.telegram("setWebhook", webhook).await));
    let thread = lab.topic().await;
    let writes = json!({ "chat_id": GROUP, "thread_id": thread, "text": "Отвечаю" });
    lab.control("telegram/messages", writes).await;
    let bodies = receiver.wait_for(4).await;
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(bodies[1], bodies[2]);
    assert!(bodies[2]["message"]["forum_topic_created"].is_object());
    let update: Update = serde_json::from_value(bodies[3].clone()).expect("an update");
    let UpdateContent::Message(message) = update.content else { panic!("a message") };
    assert_eq!(message.text.as_deref(), Some("Отвечаю"));
    assert_eq!(message.reply_to_message.map(|topic| i64::from(topic.message_id)), Some(thread));
    let secret = receiver.received.lock().expect("a lock")[0].0["x-telegram-bot-api-secret-token"].clone();
    assert_eq!(secret, "s3cret");
    let record = lab.ask("webhooks").await;
    assert_eq!(record["failed"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_call_in_the_body_of_the_webhook_answer_is_carried_out() {
    let lab = Lab::with_forum().await;
    let receiver = Receiver::start(json!({ "method": "sendMessage", "chat_id": GROUP, "text": "Я тут" })).await;
    lab.telegram(
        "setWebhook",
        json!({ "url": receiver.url, "allowed_updates": ["message"], "drop_pending_updates": true }),
    )
    .await;
    lab.control("telegram/messages", json!({ "chat_id": GROUP, "text": "/getid" })).await;
    for _ in 0..500 {
        let topics = lab.ask(&format!("telegram/topics?chat_id={GROUP}")).await;
        if topics["topics"][0]["messages"][1]["text"] == "Я тут" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the call was not carried out");
}

#[tokio::test]
async fn a_photo_of_a_person_can_be_downloaded_and_sent_on() {
    let lab = Lab::with_forum().await;
    let receiver = Receiver::start(json!({})).await;
    lab.telegram("setWebhook", json!({ "url": receiver.url, "drop_pending_updates": true })).await;
    lab.control("telegram/messages", json!({ "chat_id": GROUP, "photo": true, "caption": "Вот" })).await;
    let update = receiver.wait_for(1).await.remove(0);
    let file_id = update["message"]["photo"][0]["file_id"].clone();
    let file: File = typed(lab.telegram("getFile", json!({ "file_id": file_id })).await);
    let base = lab.simulators.telegram_base().expect("telegram");
    let url = format!("{base}/file/bot{TOKEN}/{}", file.file_path.expect("a path"));
    let bytes = lab.client.get(url).send().await.expect("an answer").bytes().await.expect("bytes");
    assert!(bytes.starts_with(b"\x89PNG"));
    let part = reqwest::multipart::Part::bytes(bytes.to_vec()).file_name("again.png");
    let form = reqwest::multipart::Form::new().text("chat_id", GROUP.to_string()).part("photo", part);
    let answer =
        lab.client.post(format!("{base}/bot{TOKEN}/sendPhoto")).multipart(form).send().await.expect("an answer");
    let sent: MethodResponse<Message> = answer.json().await.expect("a message");
    assert_eq!(sent.result.photo.map(|sizes| (sizes[0].width, sizes[0].height)), Some((32, 24)));
}

#[tokio::test]
async fn a_connection_reset_after_the_call_hides_an_answer_but_not_the_effect() {
    let lab = Lab::with_forum().await;
    let fault = |kind: &str| json!({ "target": "telegram", "method": "sendMessage", "kind": kind, "times": 1 });
    lab.control("faults", fault("reset_after")).await;
    let base = lab.simulators.telegram_base().expect("telegram");
    let send = |text: &str| {
        let body = json!({ "chat_id": GROUP, "text": text });
        lab.client.post(format!("{base}/bot{TOKEN}/sendMessage")).json(&body).send()
    };
    assert!(send("after").await.is_err());
    lab.control("faults", fault("reset_before")).await;
    assert!(send("before").await.is_err());
    assert!(send("whole").await.is_ok());
    let topics = lab.ask(&format!("telegram/topics?chat_id={GROUP}")).await;
    let messages = topics["topics"][0]["messages"].as_array().expect("messages").clone();
    let texts: Vec<&Value> = messages.iter().map(|message| &message["text"]).collect();
    assert_eq!(texts, ["after", "whole"]);
    let calls = lab.ask("calls?target=telegram&method=sendMessage").await;
    let statuses: Vec<&Value> = calls["calls"].as_array().expect("calls").iter().map(|call| &call["status"]).collect();
    assert_eq!(statuses, [0, 0, 200]);
}

#[tokio::test]
async fn a_kicked_bot_gets_an_update_and_is_refused_until_the_fault_ends() {
    let lab = Lab::with_forum().await;
    let receiver = Receiver::start(json!({})).await;
    lab.telegram("setWebhook", json!({ "url": receiver.url, "drop_pending_updates": true })).await;
    let fault = json!({ "target": "telegram", "kind": "kicked", "scope": { "chat_id": GROUP } });
    lab.control("faults", fault).await;
    let text = json!({ "chat_id": GROUP, "text": "x" });
    let (status, body) = lab.telegram("sendMessage", text.clone()).await;
    assert_eq!((status, &body["description"]), (403, &json!("Forbidden: bot was kicked from the supergroup chat")));
    let url = format!("{}/_local/faults", lab.simulators.control_base());
    lab.client.delete(url).send().await.expect("an answer");
    assert_eq!(lab.telegram("sendMessage", text).await.0, 200);
    let bodies = receiver.wait_for(2).await;
    let status = |body: &Value| body["my_chat_member"]["new_chat_member"]["status"].clone();
    assert_eq!((status(&bodies[0]), status(&bodies[1])), (json!("kicked"), json!("administrator")));
    let _: Update = serde_json::from_value(bodies[0].clone()).expect("an update");
}

#[tokio::test]
async fn every_kind_of_update_can_be_read_by_the_typed_client() {
    let lab = Lab::with_forum().await;
    let receiver = Receiver::start(json!({})).await;
    lab.telegram("setWebhook", json!({ "url": receiver.url })).await;
    let thread = lab.topic().await;
    let target = json!({ "chat_id": GROUP, "message_thread_id": thread });
    let with = |target: &Value, more: Value| {
        let mut target = target.as_object().expect("an object").clone();
        target.extend(more.as_object().expect("an object").clone());
        Value::Object(target)
    };
    let keyboard = json!({ "inline_keyboard": [[{ "text": "Повторить", "callback_data": "retry:1" }]] });
    let sent = with(&target, json!({ "text": "Не доставлено", "reply_markup": keyboard }));
    let sent: Message = typed(lab.telegram("sendMessage", sent).await);
    lab.telegram("pinChatMessage", json!({ "chat_id": GROUP, "message_id": sent.message_id })).await;
    lab.telegram("editForumTopic", with(&target, json!({ "name": "🟢 iPhone" }))).await;
    lab.telegram("closeForumTopic", target.clone()).await;
    lab.telegram("reopenForumTopic", target.clone()).await;
    let person = json!({ "chat_id": GROUP, "thread_id": thread, "from": { "id": 9, "first_name": "Ирина" } });
    let contact = json!({ "phone_number": "70000000000", "first_name": "Ирина", "user_id": 9 });
    let location = json!({ "latitude": 55.75, "longitude": 37.61 });
    for more in [
        json!({ "text": "Ответ", "reply_to": sent.message_id }),
        json!({ "photo": true, "media_group_id": "1" }),
        json!({ "document": true }),
        json!({ "voice": true }),
        json!({ "audio": true }),
        json!({ "video": true }),
        json!({ "video_note": true }),
        json!({ "animation": true }),
        json!({ "sticker": true }),
        json!({ "contact": contact }),
        json!({ "location": location }),
        json!({ "venue": { "location": location, "title": "Склад", "address": "Тверская, 1" } }),
    ] {
        lab.control("telegram/messages", with(&person, more)).await;
    }
    let first = json!({ "chat_id": GROUP, "text": "Черновик" });
    let id = lab.control("telegram/messages", first).await["message_id"].clone();
    lab.control("telegram/messages", json!({ "chat_id": GROUP, "edit": id, "text": "Правка" })).await;
    let press = json!({ "chat_id": GROUP, "message_id": sent.message_id, "data": "retry:1" });
    let query = lab.control("telegram/callback", press).await;
    let fault = json!({ "target": "telegram", "kind": "migrated", "scope": { "chat_id": GROUP } });
    let moved = lab.control("faults", fault).await["migrate_to_chat_id"].clone();
    let (_, refused) = lab.telegram("sendMessage", json!({ "chat_id": GROUP, "text": "x" })).await;
    assert_eq!(refused["parameters"]["migrate_to_chat_id"], moved);
    let bodies = receiver.wait_for(23).await;
    for body in bodies {
        serde_json::from_value::<Update>(body.clone()).unwrap_or_else(|error| panic!("{error}: {body}"));
    }
    let answer = json!({ "callback_query_id": query["callback_query_id"] });
    assert!(typed::<bool>(lab.telegram("answerCallbackQuery", answer.clone()).await));
    assert_eq!(lab.telegram("answerCallbackQuery", answer).await.0, 400);
}

#[tokio::test]
async fn an_album_goes_out_as_one_and_an_avito_voice_arrives_as_a_file() {
    let lab = Lab::with_forum().await;
    let (_, chat) = lab.with_avito_chat().await;
    lab.control("avito/messages", json!({ "chat": chat, "from": "buyer", "type": "image" })).await;
    let listed = lab.ask("avito/chats").await;
    let url = listed["chats"][0]["messages"][0]["content"]["image"]["sizes"]["640x480"].clone();
    let media = json!([{ "type": "photo", "media": url, "caption": "Фото" }, { "type": "photo", "media": url }]);
    let album: Vec<Message> = typed(lab.telegram("sendMediaGroup", json!({ "chat_id": GROUP, "media": media })).await);
    assert!(album[0].media_group_id.is_some() && album[0].media_group_id == album[1].media_group_id);
    let part = reqwest::multipart::Part::bytes(b"\0\0\0\x18ftypmp42Opus".to_vec()).file_name("voice.mp4");
    let form = reqwest::multipart::Form::new().text("chat_id", GROUP.to_string()).part("voice", part);
    let url = format!("{}/bot{TOKEN}/sendVoice", lab.simulators.telegram_base().expect("telegram"));
    let sent: Value = lab.client.post(url).multipart(form).send().await.expect("an answer").json().await.expect("JSON");
    assert!(sent["result"]["document"].is_object() && sent["result"].get("voice").is_none());
}

#[tokio::test]
async fn names_of_which_nothing_is_left_and_links_that_lead_nowhere_are_refused() {
    let lab = Lab::with_forum().await;
    let thread = lab.topic().await;
    let description = async |method: &str, params: Value| lab.telegram(method, params).await.1["description"].clone();
    for name in ["\u{3164}", "\u{2800} \u{200b}", "\u{1}\u{202e}", "   "] {
        let create = json!({ "chat_id": GROUP, "name": name });
        let rename = json!({ "chat_id": GROUP, "message_thread_id": thread, "name": name });
        for (method, params) in [("createForumTopic", create), ("editForumTopic", rename)] {
            assert_eq!(description(method, params).await, "Bad Request: title must be non-empty", "{method} {name:?}");
        }
    }
    let icon_only = json!({ "chat_id": GROUP, "message_thread_id": thread, "name": "", "icon_custom_emoji_id": "5" });
    assert_eq!(lab.telegram("editForumTopic", icon_only).await.0, 200);
    for url in ["", "нет адреса", "https://", "javascript:alert(1)"] {
        let link = json!([{ "type": "text_link", "offset": 0, "length": 1, "url": url }]);
        let text = json!({ "chat_id": GROUP, "text": "x", "entities": link });
        assert_eq!(description("sendMessage", text).await, "Bad Request: ENTITY_URL_INVALID", "{url}");
        let button = json!({ "inline_keyboard": [[{ "text": "x", "url": url }]] });
        let text = json!({ "chat_id": GROUP, "text": "x", "reply_markup": button });
        assert_eq!(description("sendMessage", text).await, "Bad Request: BUTTON_URL_INVALID", "{url}");
    }
}

#[tokio::test]
async fn service_messages_of_one_bot_come_to_another_only_where_the_switch_says_so() {
    let lab = Lab::with_forum().await;
    let other = "7002:another-secret";
    lab.control("telegram/bots", json!({ "token": other, "username": "other_bot" })).await;
    let group = json!({ "chat_id": GROUP, "title": "Продажи", "is_forum": true, "bot_token": other });
    lab.control("telegram/chats", group).await;
    let receiver = Receiver::start(json!({})).await;
    let base = lab.simulators.telegram_base().expect("telegram");
    let webhook = json!({ "url": receiver.url, "drop_pending_updates": true });
    lab.client.post(format!("{base}/bot{other}/setWebhook")).json(&webhook).send().await.expect("an answer");
    let seen = lab.topic().await;
    lab.control("telegram/switches", json!({ "chat_id": GROUP, "bots_see_each_other": false })).await;
    lab.topic().await;
    lab.control("telegram/messages", json!({ "chat_id": GROUP, "text": "Всем" })).await;
    let bodies = receiver.wait_for(2).await;
    assert_eq!(bodies[0]["message"]["forum_topic_created"]["name"], "iPhone");
    assert_eq!(bodies[0]["message"]["message_id"], seen);
    assert_eq!(bodies[1]["message"]["text"], "Всем", "the second topic was not reported");
}
