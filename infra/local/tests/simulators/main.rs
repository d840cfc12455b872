//! The simulators over real loopback HTTP, as the functions and the stack meet them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use frankenstein::response::MethodResponse;
use frankenstein::types::{ChatFullInfo, ChatMember, File, ForumTopic, Message, User};
use frankenstein::updates::{Update, UpdateContent, WebhookInfo};
use serde_json::{Value, json};
use tuberry_local::{Simulators, SimulatorsConfig};

const TOKEN: &str = "7001:simulated-secret";
const GROUP: i64 = -1_001_234_567_890;

type Received = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

/// A webhook receiver that refuses as many times as `refusals` says.
struct Receiver {
    url: String,
    received: Received,
    refusals: Arc<Mutex<usize>>,
}

impl Receiver {
    async fn start(answer: Value) -> Self {
        let (received, refusals) = (Received::default(), Arc::new(Mutex::new(0)));
        let state = (Arc::clone(&received), Arc::clone(&refusals), answer);
        let app = Router::new().fallback(receive).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, received, refusals }
    }

    fn bodies(&self) -> Vec<Value> {
        self.received.lock().expect("a lock").iter().map(|(_, body)| body.clone()).collect()
    }

    /// Waits until so many webhooks came.
    async fn wait_for(&self, count: usize) -> Vec<Value> {
        for _ in 0..500 {
            let bodies = self.bodies();
            if bodies.len() >= count {
                return bodies;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} of {count} webhooks came", self.bodies().len());
    }
}

async fn receive(
    State((received, refusals, answer)): State<(Received, Arc<Mutex<usize>>, Value)>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, axum::Json<Value>) {
    let body = serde_json::from_slice(&body).expect("JSON");
    received.lock().expect("a lock").push((headers, body));
    let mut refusals = refusals.lock().expect("a lock");
    if *refusals > 0 {
        *refusals -= 1;
        return (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({})));
    }
    (StatusCode::OK, axum::Json(answer))
}

/// Running simulators, and a client for them.
struct Lab {
    simulators: Simulators,
    client: reqwest::Client,
}

impl Lab {
    async fn start() -> Self {
        let simulators = Simulators::start(SimulatorsConfig::on_free_ports()).await.expect("simulators");
        Self { simulators, client: reqwest::Client::builder().no_proxy().build().expect("a client") }
    }

    async fn control(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/_local/{path}", self.simulators.control_base());
        let answer = self.client.post(url).json(&body).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.expect("JSON")
    }

    async fn ask(&self, path: &str) -> Value {
        let url = format!("{}/_local/{path}", self.simulators.control_base());
        self.client.get(url).send().await.expect("an answer").json().await.expect("JSON")
    }

    /// Starts simulators with a bot that is administrator of a forum.
    async fn with_forum() -> Self {
        let lab = Self::start().await;
        lab.control("telegram/bots", json!({ "token": TOKEN, "username": "tuberry_bot" })).await;
        let group = json!({ "chat_id": GROUP, "title": "Продажи", "is_forum": true, "bot_token": TOKEN });
        lab.control("telegram/chats", group).await;
        lab
    }

    async fn telegram(&self, method: &str, params: Value) -> (u16, Value) {
        let url = format!("{}/bot{TOKEN}/{method}", self.simulators.telegram_base().expect("telegram"));
        let answer = self.client.post(url).json(&params).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    async fn topic(&self) -> i64 {
        let (_, topic) = self.telegram("createForumTopic", json!({ "chat_id": GROUP, "name": "iPhone" })).await;
        topic["result"]["message_thread_id"].as_i64().expect("a thread")
    }

    /// Creates an account with a chat; returns a token and the chat's id.
    async fn with_avito_chat(&self) -> (String, String) {
        let account = json!({ "client_id": "id", "client_secret": "secret", "user_id": 353_200_001 });
        self.control("avito/accounts", account).await;
        let item = json!({ "title": "iPhone 15", "price_string": "70 000 ₽", "city": "Москва" });
        let chat = json!({ "user_id": 353_200_001, "buyer": { "name": "Анна" }, "item": item });
        let chat = self.control("avito/chats", chat).await["chat_id"].as_str().expect("an id").to_owned();
        let form = [("grant_type", "client_credentials"), ("client_id", "id"), ("client_secret", "secret")];
        let url = format!("{}/token", self.avito_base());
        let token: Value =
            self.client.post(url).form(&form).send().await.expect("an answer").json().await.expect("JSON");
        assert_eq!(token["expires_in"], 86_400);
        (token["access_token"].as_str().expect("a token").to_owned(), chat)
    }

    fn avito_base(&self) -> String {
        self.simulators.avito_base().expect("avito")
    }

    async fn avito(&self, token: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}{path}", self.avito_base());
        let request = match body {
            Some(body) => self.client.post(url).json(&body),
            None => self.client.get(url),
        };
        let answer = request.bearer_auth(token).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

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
async fn a_buyer_s_message_comes_by_webhook_and_stands_newest_first_in_both_lists() {
    let lab = Lab::start().await;
    let (token, chat) = lab.with_avito_chat().await;
    let receiver = Receiver::start(json!({})).await;
    let (status, ok) = lab.avito(&token, "/messenger/v3/webhook", Some(json!({ "url": receiver.url }))).await;
    assert_eq!((status, ok), (200, json!({ "ok": true })));
    lab.control("avito/messages", json!({ "chat": chat, "from": "buyer", "text": "В наличии?" })).await;
    let encoded = chat.replace('~', "%7E");
    let messages = format!("/messenger/v1/accounts/353200001/chats/{encoded}/messages");
    let answer = json!({ "type": "text", "message": { "text": "Да" } });
    let (status, sent) = lab.avito(&token, &messages, Some(answer)).await;
    assert_eq!((status, &sent["direction"]), (200, &json!("out")));
    let bodies = receiver.wait_for(2).await;
    let value = &bodies[0]["payload"]["value"];
    assert_eq!((&value["content"]["text"], &value["chat_id"]), (&json!("В наличии?"), &json!(chat)));
    assert_eq!(bodies[0]["version"], "v3.0.0");
    assert_eq!(bodies[1]["payload"]["value"]["author_id"], bodies[1]["payload"]["value"]["user_id"]);
    let signature = receiver.received.lock().expect("a lock")[0].0["x-avito-messenger-signature"].clone();
    assert_eq!(signature.len(), 64);
    let list = format!("/messenger/v3/accounts/353200001/chats/{encoded}/messages/?limit=1");
    let (_, listed) = lab.avito(&token, &list, None).await;
    assert_eq!(listed["messages"][0]["content"]["text"], "Да");
    assert_eq!(listed["meta"]["has_more"], true);
    let (_, chats) = lab.avito(&token, "/messenger/v2/accounts/353200001/chats?unread_only=true", None).await;
    assert_eq!(chats["chats"][0]["last_message"]["id"], sent["id"]);
    let bare = json!({ "target": "avito", "method": "messages.list", "kind": "bare_array" });
    lab.control("faults", bare).await;
    assert!(lab.avito(&token, &list, None).await.1.is_array());
}

#[tokio::test]
async fn avito_refuses_unknown_tokens_chats_members_and_paths() {
    let lab = Lab::start().await;
    let (token, chat) = lab.with_avito_chat().await;
    let send = format!("/messenger/v1/accounts/353200001/chats/{chat}/messages");
    let long = json!({ "type": "text", "message": { "text": "x".repeat(1001) } });
    let cases = [
        ("unknown", "/core/v1/accounts/self".to_owned(), None, 401),
        (&token, "/messenger/v2/accounts/1/chats".to_owned(), None, 403),
        (&token, "/messenger/v2/accounts/353200001/chats/u2i-nowhere".to_owned(), None, 404),
        (&token, "/messenger/v2/accounts/353200001/chats?limit=101".to_owned(), None, 400),
        (&token, "/messenger/v2/accounts/353200001/chats?page=1".to_owned(), None, 400),
        (&token, format!("/messenger/v3/accounts/353200001/chats/{chat}/messages"), None, 404),
        (&token, send, Some(long), 400),
        (&token, "/messenger/v3/webhook".to_owned(), Some(json!({ "url": "http://a", "events": [] })), 400),
    ];
    for (token, path, body, status) in cases {
        let (got, answer) = lab.avito(token, &path, body).await;
        assert_eq!(got, status, "{path}: {answer}");
        assert_eq!(answer["error"]["code"], status, "{path}");
    }
    lab.control("faults", json!({ "target": "avito", "kind": "token_expired" })).await;
    assert_eq!(lab.avito(&token, "/core/v1/accounts/self", None).await.0, 403);
}

#[tokio::test]
async fn a_buyer_s_picture_can_be_fetched_from_its_link() {
    let lab = Lab::start().await;
    let (token, chat) = lab.with_avito_chat().await;
    lab.control("avito/messages", json!({ "chat": chat, "from": "buyer", "type": "image" })).await;
    let path = format!("/messenger/v3/accounts/353200001/chats/{chat}/messages/");
    let (_, listed) = lab.avito(&token, &path, None).await;
    let url = listed["messages"][0]["content"]["image"]["sizes"]["1280x960"].as_str().expect("a link");
    let bytes = lab.client.get(url).send().await.expect("an answer").bytes().await.expect("bytes");
    assert!(bytes.starts_with(b"\x89PNG"));
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
async fn the_state_outlives_a_restart() {
    let path = std::env::temp_dir().join(format!("tuberry-simulators-{}.json", std::process::id()));
    let config = SimulatorsConfig { state_file: Some(path.clone()), ..SimulatorsConfig::on_free_ports() };
    let simulators = Simulators::start(config.clone()).await.expect("simulators");
    let lab = Lab { simulators, client: reqwest::Client::new() };
    let (token, chat) = lab.with_avito_chat().await;
    lab.control("avito/messages", json!({ "chat": chat, "from": "buyer", "type": "image" })).await;
    lab.simulators.stop().expect("saved");
    let simulators = Simulators::start(config).await.expect("simulators again");
    let lab = Lab { simulators, client: reqwest::Client::new() };
    let (status, chats) = lab.avito(&token, "/messenger/v2/accounts/353200001/chats", None).await;
    assert_eq!((status, &chats["chats"][0]["id"]), (200, &json!(chat)));
    std::fs::remove_file(path).expect("a file");
}

#[tokio::test]
async fn the_control_api_refuses_requests_from_a_foreign_page() {
    let lab = Lab::start().await;
    let url = format!("{}/_local/reset", lab.simulators.control_base());
    let post = || lab.client.post(&url);
    let status = async |request: reqwest::RequestBuilder| request.send().await.expect("an answer").status().as_u16();
    assert_eq!(status(post().json(&json!({}))).await, 200);
    assert_eq!(status(post().body("{}")).await, 415);
    assert_eq!(status(post().json(&json!({})).header("origin", "http://evil.example")).await, 403);
    assert_eq!(status(post().json(&json!({})).header("host", "evil.example")).await, 403);
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
async fn with_an_expiry_fault_on_the_token_call_a_new_token_ends_the_earlier_ones() {
    let lab = Lab::start().await;
    let (first, _) = lab.with_avito_chat().await;
    let (second, _) = lab.with_avito_chat().await;
    assert_eq!(lab.avito(&first, "/core/v1/accounts/self", None).await.0, 200);
    lab.control("faults", json!({ "target": "avito", "method": "token", "kind": "token_expired" })).await;
    let (third, _) = lab.with_avito_chat().await;
    assert_eq!(lab.avito(&second, "/core/v1/accounts/self", None).await.0, 403);
    assert_eq!(lab.avito(&third, "/core/v1/accounts/self", None).await.0, 200);
}

#[tokio::test]
async fn a_withheld_avito_webhook_is_lost_and_a_repeated_one_keeps_its_message_id() {
    let lab = Lab::start().await;
    let (token, chat) = lab.with_avito_chat().await;
    let receiver = Receiver::start(json!({})).await;
    lab.avito(&token, "/messenger/v3/webhook", Some(json!({ "url": receiver.url }))).await;
    lab.control("faults", json!({ "target": "avito", "kind": "webhook_withheld", "times": 1 })).await;
    let writes = |text: &str| json!({ "chat": chat, "from": "buyer", "text": text, "webhook_times": 1 });
    lab.control("avito/messages", writes("Первое")).await;
    let id = lab.control("avito/messages", writes("Второе")).await["message_id"].clone();
    lab.control("webhooks/avito/redeliver", json!({ "message_id": id })).await;
    let bodies = receiver.wait_for(2).await;
    for body in &bodies {
        assert_eq!(body["payload"]["value"]["id"], id);
    }
    assert_ne!(bodies[0]["id"], bodies[1]["id"]);
}
