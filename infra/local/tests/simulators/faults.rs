//! Faults: calls that are never answered, files that are slow or cut off, lists that lag, bytes that no writer of JSON
//! would write, and the scopes of all of them.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{GROUP, Lab, Receiver, TOKEN};

const SELLER: i64 = 353_200_001;
/// Longer than any answer takes, and the time after which a client gives up.
const PATIENCE: Duration = Duration::from_millis(400);

impl Lab {
    async fn fault(&self, fault: Value) -> u64 {
        self.control("faults", fault).await["fault_id"].as_u64().expect("an id")
    }

    async fn lift(&self) {
        let url = format!("{}/_local/faults", self.simulators.control_base());
        self.client.delete(url).send().await.expect("an answer");
    }

    /// Writes a buyer's message with a picture; returns the picture's address.
    async fn picture(&self, token: &str, chat: &str) -> String {
        self.control("avito/messages", json!({ "chat": chat, "from": "buyer", "type": "image" })).await;
        let path = format!("/messenger/v3/accounts/{SELLER}/chats/{chat}/messages/");
        let (_, listed) = self.avito(token, &path, None).await;
        listed["messages"][0]["content"]["image"]["sizes"]["1280x960"].as_str().expect("a link").to_owned()
    }

    /// Fetches a file. None: it did not come whole in time.
    async fn fetch(&self, url: &str) -> Option<(StatusCode, usize)> {
        let answer = self.client.get(url).timeout(PATIENCE).send().await.ok()?;
        let status = answer.status();
        Some((status, answer.bytes().await.ok()?.len()))
    }

    /// Sends a text into a topic. None: no answer came in time.
    async fn post(&self, thread: i64, text: &str) -> Option<u16> {
        let url = format!("{}/bot{TOKEN}/sendMessage", self.simulators.telegram_base().expect("telegram"));
        let body = json!({ "chat_id": GROUP, "message_thread_id": thread, "text": text });
        let answer = self.client.post(url).timeout(PATIENCE).json(&body).send().await.ok()?;
        Some(answer.status().as_u16())
    }

    async fn texts(&self, thread: i64) -> Vec<String> {
        let topics = self.ask(&format!("telegram/topics?chat_id={GROUP}")).await;
        let topic = topics["topics"].as_array().expect("topics").iter().find(|topic| topic["thread_id"] == thread);
        let messages = topic.expect("the topic")["messages"].as_array().expect("messages").iter();
        messages.filter_map(|message| message["text"].as_str().map(str::to_owned)).collect()
    }
}

#[tokio::test]
async fn a_call_that_hangs_is_never_answered_and_recorded_and_only_hang_after_takes_effect() {
    let lab = Lab::with_forum().await;
    let thread = lab.topic().await;
    for (kind, text) in [("hang", "а"), ("hang_before", "б"), ("hang_after", "в")] {
        lab.fault(json!({ "target": "telegram", "method": "sendMessage", "kind": kind, "times": 1 })).await;
        assert_eq!(lab.post(thread, text).await, None, "{kind}");
    }
    assert_eq!(lab.post(thread, "г").await, Some(200));
    assert_eq!(lab.texts(thread).await, ["в", "г"]);
    let calls = lab.ask("calls?target=telegram&method=sendMessage").await;
    let statuses: Vec<&Value> = calls["calls"].as_array().expect("calls").iter().map(|call| &call["status"]).collect();
    assert_eq!(statuses, [0, 0, 0, 200]);
    let (token, chat) = lab.with_avito_chat().await;
    lab.fault(json!({ "target": "avito", "method": "messages.send", "kind": "hang_after", "times": 1 })).await;
    let url = format!("{}/messenger/v1/accounts/{SELLER}/chats/{chat}/messages", lab.avito_base());
    let body = json!({ "type": "text", "message": { "text": "Да" } });
    let sent = lab.client.post(url).bearer_auth(&token).timeout(PATIENCE).json(&body).send().await;
    assert!(sent.is_err_and(|error| error.is_timeout()));
    let chats = lab.ask("avito/chats").await;
    assert_eq!(chats["chats"][0]["messages"][0]["content"]["text"], "Да");
}

#[tokio::test]
async fn avito_s_pictures_are_refused_late_cut_off_or_trickle_where_the_fault_names_media() {
    let lab = Lab::start().await;
    let (token, chat) = lab.with_avito_chat().await;
    let url = lab.picture(&token, &chat).await;
    let whole = lab.fetch(&url).await.expect("the picture");
    lab.fault(json!({ "target": "avito", "kind": "status", "status": 500 })).await;
    assert_eq!(lab.fetch(&url).await, Some(whole), "a fault that does not name media leaves it alone");
    let media = |more: Value| {
        let mut fault = json!({ "target": "avito", "method": "media", "scope": { "chat": chat }, "times": 1 });
        fault.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        fault
    };
    lab.fault(media(json!({ "kind": "status", "status": 403 }))).await;
    assert_eq!(lab.fetch(&url).await.map(|(status, _)| status), Some(StatusCode::FORBIDDEN));
    for kind in ["reset_before", "reset_after", "hang_before", "hang_after"] {
        lab.fault(media(json!({ "kind": kind }))).await;
        assert_eq!(lab.fetch(&url).await, None, "{kind}");
    }
    lab.fault(media(json!({ "kind": "latency", "latency_ms": 200 }))).await;
    let began = Instant::now();
    assert_eq!(lab.fetch(&url).await, Some(whole));
    assert!(began.elapsed() >= Duration::from_millis(200));
    lab.fault(media(json!({ "kind": "trickle", "bytes_per_second": 100 }))).await;
    assert_eq!(lab.fetch(&url).await, None, "the first bytes come, the last ones do not");
    lab.fault(media(json!({ "kind": "trickle", "bytes_per_second": 1_000_000 }))).await;
    assert_eq!(lab.fetch(&url).await, Some(whole));
    assert_eq!(lab.fetch(&url).await, Some(whole), "each fault struck once");
    lab.fault(json!({ "target": "avito", "method": "media", "kind": "reset_before", "scope": { "user_id": 5 } })).await;
    assert_eq!(lab.fetch(&url).await, Some(whole), "another account's files");
    let all = lab.ask("calls").await;
    assert!(all["calls"].as_array().expect("calls").iter().all(|call| call["method"] != "media"));
    let files = lab.ask("calls?method=media").await;
    assert_eq!(files["calls"].as_array().map(Vec::len), Some(12));
    assert_eq!((&files["calls"][0]["chat"], &files["calls"][0]["status"]), (&json!(chat), &json!(200)));
}

#[tokio::test]
async fn a_file_of_one_topic_fails_and_that_of_another_does_not() {
    let lab = Lab::with_forum().await;
    let base = lab.simulators.telegram_base().expect("telegram");
    let receiver = Receiver::start(json!({})).await;
    let webhook = json!({ "url": receiver.url, "drop_pending_updates": true });
    lab.telegram("setWebhook", webhook).await;
    let (failing, healthy) = (lab.topic().await, lab.topic().await);
    let mut paths = Vec::new();
    for (nth, thread) in (3..).zip([failing, healthy]) {
        lab.control("telegram/messages", json!({ "chat_id": GROUP, "thread_id": thread, "photo": true })).await;
        let file_id = receiver.wait_for(nth).await[nth - 1]["message"]["photo"][0]["file_id"].clone();
        let (_, file) = lab.telegram("getFile", json!({ "file_id": file_id })).await;
        let path = file["result"]["file_path"].as_str().expect("a path").to_owned();
        paths.push((file_id, format!("{base}/file/bot{TOKEN}/{path}")));
    }
    for method in ["getFile", "file"] {
        let scope = json!({ "thread_id": failing });
        lab.fault(json!({ "target": "telegram", "method": method, "kind": "status", "status": 500, "scope": scope }))
            .await;
    }
    let mut statuses = Vec::new();
    for (file_id, url) in &paths {
        let asked = lab.telegram("getFile", json!({ "file_id": file_id })).await.0;
        statuses.push((asked, lab.fetch(url).await.expect("an answer").0.as_u16()));
    }
    assert_eq!(statuses, [(500, 500), (200, 200)]);
}

#[tokio::test]
async fn a_fault_of_one_topic_strikes_every_call_about_it_and_no_other() {
    let lab = Lab::with_forum().await;
    let (failing, healthy) = (lab.topic().await, lab.topic().await);
    let mut ids = Vec::new();
    for thread in [failing, healthy] {
        let text = json!({ "chat_id": GROUP, "message_thread_id": thread, "text": "x" });
        ids.push(lab.telegram("sendMessage", text).await.1["result"]["message_id"].clone());
    }
    let scope = json!({ "chat_id": GROUP, "thread_id": failing });
    lab.fault(json!({ "target": "telegram", "kind": "status", "status": 500, "scope": scope })).await;
    for (thread, id, status) in [(failing, &ids[0], 500), (healthy, &ids[1], 200)] {
        let react = json!([{ "type": "emoji", "emoji": "👌" }]);
        for (method, params) in [
            ("sendMessage", json!({ "chat_id": GROUP, "message_thread_id": thread, "text": "y" })),
            ("editMessageText", json!({ "chat_id": GROUP, "message_id": id, "text": "z" })),
            ("setMessageReaction", json!({ "chat_id": GROUP, "message_id": id, "reaction": react })),
            ("pinChatMessage", json!({ "chat_id": GROUP, "message_id": id })),
            ("editForumTopic", json!({ "chat_id": GROUP, "message_thread_id": thread, "name": "Новое" })),
            ("deleteMessage", json!({ "chat_id": GROUP, "message_id": id })),
        ] {
            assert_eq!(lab.telegram(method, params).await.0, status, "{method}");
        }
    }
    lab.lift().await;
    let scope = json!({ "message_id": ids[0] });
    lab.fault(json!({ "target": "telegram", "kind": "status", "status": 500, "scope": scope })).await;
    let edit = json!({ "chat_id": GROUP, "message_id": ids[0], "text": "я" });
    assert_eq!(lab.telegram("editMessageText", edit).await.0, 500);
    assert_eq!(lab.post(failing, "другое").await, Some(200));
    let scope = json!({ "contains": "Анна" });
    lab.fault(json!({ "target": "telegram", "kind": "status", "status": 500, "scope": scope })).await;
    for (name, status) in [("🟢 Анна", 500), ("🟢 Борис", 200)] {
        assert_eq!(lab.telegram("createForumTopic", json!({ "chat_id": GROUP, "name": name })).await.0, status);
    }
}

#[tokio::test]
async fn a_fault_of_one_chat_of_avito_strikes_the_calls_that_name_it_only_by_a_voice_or_a_buyer() {
    let lab = Lab::start().await;
    let (token, failing) = lab.with_avito_chat().await;
    let (_, healthy) = lab.with_avito_chat().await;
    lab.fault(json!({ "target": "avito", "kind": "status", "status": 500, "scope": { "chat": failing } })).await;
    for (chat, status) in [(&failing, 500), (&healthy, 200)] {
        let voice = json!({ "chat": chat, "from": "buyer", "type": "voice", "voice": "AAAA" });
        lab.control("avito/messages", voice).await;
        let known = lab.ask(&format!("avito/chats?chat={chat}")).await["chats"][0].clone();
        let id = known["messages"][0]["content"]["voice"]["voice_id"].as_str().expect("an id").to_owned();
        let voices = format!("/messenger/v1/accounts/{SELLER}/getVoiceFiles?voice_ids={id}");
        assert_eq!(lab.avito(&token, &voices, None).await.0, status);
        let block = json!({ "users": [{ "user_id": known["buyer"]["id"] }] });
        assert_eq!(
            lab.avito(&token, &format!("/messenger/v2/accounts/{SELLER}/blacklist"), Some(block)).await.0,
            status
        );
    }
}

#[tokio::test]
async fn while_lists_lag_own_messages_are_in_none_and_their_webhooks_are_withheld() {
    let lab = Lab::start().await;
    let (token, chat) = lab.with_avito_chat().await;
    let receiver = Receiver::start(json!({})).await;
    lab.avito(&token, "/messenger/v3/webhook", Some(json!({ "url": receiver.url }))).await;
    lab.fault(json!({ "target": "avito", "kind": "list_lag", "seconds": 1, "scope": { "user_id": SELLER } })).await;
    lab.control("avito/messages", json!({ "chat": chat, "from": "buyer", "text": "В наличии?" })).await;
    let send = format!("/messenger/v1/accounts/{SELLER}/chats/{chat}/messages");
    let text = json!({ "type": "text", "message": { "text": "Да" } });
    let began = Instant::now();
    assert_eq!(lab.avito(&token, &send, Some(text)).await.0, 200);
    let newest = async || {
        let (_, chats) = lab.avito(&token, &format!("/messenger/v2/accounts/{SELLER}/chats"), None).await;
        let path = format!("/messenger/v3/accounts/{SELLER}/chats/{chat}/messages/");
        let (_, messages) = lab.avito(&token, &path, None).await;
        let in_chats = chats["chats"][0]["last_message"]["content"]["text"].clone();
        (in_chats, messages["messages"][0]["content"]["text"].clone())
    };
    assert_eq!(newest().await, (json!("В наличии?"), json!("В наличии?")));
    while newest().await != (json!("Да"), json!("Да")) {
        assert!(began.elapsed() < Duration::from_secs(5), "the lists lag for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    lab.control("avito/messages", json!({ "chat": chat, "from": "buyer", "text": "Беру" })).await;
    let bodies = receiver.wait_for(2).await;
    let texts: Vec<&Value> = bodies.iter().map(|body| &body["payload"]["value"]["content"]["text"]).collect();
    assert_eq!(texts, ["В наличии?", "Беру"]);
}

#[tokio::test]
async fn raw_puts_bytes_into_answers_and_webhooks_that_no_writer_of_json_would_write() {
    let lab = Lab::start().await;
    let (token, chat) = lab.with_avito_chat().await;
    let raw =
        json!({ "target": "avito", "method": "chats.list", "kind": "raw", "find": "iPhone", "replace": "\\ud83d" });
    lab.fault(raw).await;
    let url = format!("{}/messenger/v2/accounts/{SELLER}/chats", lab.avito_base());
    let fetch = async || {
        let answer = lab.client.get(&url).bearer_auth(&token).send().await.expect("an answer");
        (answer.status().as_u16(), answer.bytes().await.expect("bytes"))
    };
    let (status, bytes) = fetch().await;
    let text = String::from_utf8(bytes.to_vec()).expect("ASCII bytes in their place");
    assert_eq!((status, text.contains(r#""title":"\ud83d 15""#)), (200, true), "{text}");
    lab.lift().await;
    lab.fault(json!({ "target": "avito", "method": "chats.list", "kind": "raw", "body": "<html>", "times": 1 })).await;
    assert_eq!(fetch().await, (200, b"<html>".as_slice().into()));
    let bytes =
        json!({ "target": "avito", "method": "chats.list", "kind": "raw", "find": "iPhone", "replace_base64": "/w==" });
    lab.fault(bytes).await;
    assert!(fetch().await.1.contains(&0xff));
    lab.lift().await;
    let replace = json!({ "find": "СЮДА", "replace": "ok" });
    let mut webhook = json!({ "target": "avito", "method": "webhook", "kind": "raw", "times": 1 });
    webhook.as_object_mut().expect("an object").extend(replace.as_object().expect("an object").clone());
    lab.fault(webhook).await;
    let receiver = Receiver::start(json!({})).await;
    lab.avito(&token, "/messenger/v3/webhook", Some(json!({ "url": receiver.url }))).await;
    for text in ["Первое", "Второе СЮДА", "Третье СЮДА"] {
        lab.control("avito/messages", json!({ "chat": chat, "from": "buyer", "text": text })).await;
    }
    let bodies = receiver.wait_for(3).await;
    let texts: Vec<&Value> = bodies.iter().map(|body| &body["payload"]["value"]["content"]["text"]).collect();
    assert_eq!(texts, ["Первое", "Второе ok", "Третье СЮДА"]);
}
