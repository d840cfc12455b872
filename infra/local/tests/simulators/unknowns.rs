//! The switches for what nobody knows of the real Avito, and the states of its chats.

use serde_json::{Value, json};

use crate::{Lab, Receiver};

const SELLER: i64 = 353_200_001;

/// Returns the statuses of: the list of chats (200 only if the chat is in it), the chat, its messages, an answer, a
/// deletion, a reading, a blocking.
async fn statuses(lab: &Lab, token: &str, chat: &str, buyer: &Value, own: &Value) -> [u16; 7] {
    let messenger = |version: u8, rest: &str| format!("/messenger/v{version}/accounts/{SELLER}/{rest}");
    let (_, listed) = lab.avito(token, &messenger(2, "chats"), None).await;
    let is_listed = listed["chats"].as_array().expect("chats").iter().any(|listed| listed["id"] == chat);
    let own = own.as_str().expect("an id");
    let text = json!({ "type": "text", "message": { "text": "Да" } });
    let block = json!({ "users": [{ "user_id": buyer }] });
    let mut all = [if is_listed { 200 } else { 404 }; 7];
    for (at, path, body) in [
        (1, messenger(2, &format!("chats/{chat}")), None),
        (2, messenger(3, &format!("chats/{chat}/messages/")), None),
        (3, messenger(1, &format!("chats/{chat}/messages")), Some(text)),
        (4, messenger(1, &format!("chats/{chat}/messages/{own}")), Some(json!({}))),
        (5, messenger(1, &format!("chats/{chat}/read")), Some(json!({}))),
        (6, messenger(2, "blacklist"), Some(block)),
    ] {
        all[at] = lab.avito(token, &path, body).await.0;
    }
    all
}

#[tokio::test]
async fn a_chat_that_is_closed_hidden_or_gone_refuses_what_its_state_says() {
    let lab = Lab::start().await;
    let (token, chat) = lab.with_avito_chat().await;
    let known = lab.ask("avito/chats").await["chats"][0].clone();
    assert_eq!(known["state"], "open");
    let own = json!({ "chat": chat, "from": "seller_app", "text": "Здравствуйте" });
    let own = lab.control("avito/messages", own).await["message_id"].clone();
    for (state, expected) in [
        ("closed", [200, 200, 200, 403, 403, 403, 403]),
        ("hidden", [200, 404, 404, 404, 404, 404, 404]),
        ("gone", [404, 404, 404, 404, 404, 404, 404]),
        ("open", [200, 200, 200, 200, 200, 200, 200]),
    ] {
        lab.control("avito/chats/state", json!({ "chat": chat, "state": state })).await;
        assert_eq!(statuses(&lab, &token, &chat, &known["buyer"]["id"], &own).await, expected, "{state}");
    }
}

async fn registered(lab: &Lab, token: &str) -> Vec<String> {
    let (_, answer) = lab.avito(token, "/messenger/v1/subscriptions", Some(json!({}))).await;
    let all = answer["subscriptions"].as_array().expect("subscriptions").iter();
    all.map(|one| one["url"].as_str().expect("an address").to_owned()).collect()
}

async fn register(lab: &Lab, token: &str, url: &str) {
    let (status, _) = lab.avito(token, "/messenger/v3/webhook", Some(json!({ "url": url }))).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn of_several_addresses_an_account_with_one_subscription_keeps_the_newest() {
    let lab = Lab::start().await;
    let (token, _) = lab.with_avito_chat().await;
    let (ours, theirs) = ("http://127.0.0.1:9/ours", "https://crm.example.com/hook");
    register(&lab, &token, ours).await;
    let foreign = json!({ "user_id": SELLER, "url": theirs });
    let listed = lab.control("avito/subscriptions", foreign.clone()).await;
    assert_eq!(registered(&lab, &token).await, [ours, theirs]);
    assert_eq!(listed["subscriptions"][1], json!({ "url": theirs, "foreign": true }));
    lab.control("avito/switches", json!({ "user_id": SELLER, "subscriptions": "one" })).await;
    assert_eq!(registered(&lab, &token).await, [theirs]);
    register(&lab, &token, ours).await;
    assert_eq!(registered(&lab, &token).await, [ours]);
    lab.control("avito/subscriptions", foreign).await;
    let listed = lab.ask(&format!("avito/subscriptions?user_id={SELLER}")).await;
    assert_eq!(listed["mode"], "one");
    assert_eq!(listed["subscriptions"], json!([{ "url": theirs, "foreign": true }]));
    let url = format!("{}/_local/avito/subscriptions?user_id={SELLER}&url={theirs}", lab.simulators.control_base());
    lab.client.delete(url).send().await.expect("an answer");
    assert!(registered(&lab, &token).await.is_empty());
}

#[tokio::test]
async fn a_foreign_product_that_takes_its_address_back_has_it_after_each_registration_of_ours() {
    let lab = Lab::start().await;
    let (token, _) = lab.with_avito_chat().await;
    lab.control("avito/switches", json!({ "user_id": SELLER, "subscriptions": "one" })).await;
    let theirs = "https://crm.example.com/hook";
    let foreign = json!({ "user_id": SELLER, "url": theirs, "takes_back": true });
    lab.control("avito/subscriptions", foreign).await;
    for ours in ["http://127.0.0.1:9/a", "http://127.0.0.1:9/b"] {
        register(&lab, &token, ours).await;
        assert_eq!(registered(&lab, &token).await, [theirs]);
    }
    let later = json!({ "user_id": SELLER, "url": theirs, "takes_back": true, "after_ms": 300 });
    lab.control("avito/subscriptions", later).await;
    register(&lab, &token, "http://127.0.0.1:9/c").await;
    assert_eq!(registered(&lab, &token).await, ["http://127.0.0.1:9/c"]);
    for _ in 0..500 {
        if registered(&lab, &token).await == [theirs] {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the address was not taken back");
}

#[tokio::test]
async fn hashed_ids_stand_in_lists_only_and_blocking_takes_them() {
    let lab = Lab::start().await;
    let (token, chat) = lab.with_avito_chat().await;
    let receiver = Receiver::start(json!({})).await;
    register(&lab, &token, &receiver.url).await;
    lab.control("avito/switches", json!({ "user_id": SELLER, "hashed_ids": true })).await;
    let buyer = lab.ask("avito/chats").await["chats"][0]["buyer"]["id"].clone();
    lab.control("avito/messages", json!({ "chat": chat, "from": "seller_app", "text": "Добрый день" })).await;
    lab.control("avito/messages", json!({ "chat": chat, "from": "buyer", "text": "В наличии?" })).await;
    let bodies = receiver.wait_for(2).await;
    assert_eq!(bodies[0]["payload"]["value"]["author_id"], SELLER);
    assert_eq!(bodies[1]["payload"]["value"]["author_id"], buyer);
    let messages = format!("/messenger/v3/accounts/{SELLER}/chats/{chat}/messages/");
    let (_, listed) = lab.avito(&token, &messages, None).await;
    let (newest, own) = (&listed["messages"][0], &listed["messages"][1]);
    assert_eq!((&newest["direction"], &own["direction"]), (&json!("in"), &json!("out")));
    let (_, chats) = lab.avito(&token, &format!("/messenger/v2/accounts/{SELLER}/chats"), None).await;
    let users: Vec<&Value> =
        chats["chats"][0]["users"].as_array().expect("users").iter().map(|user| &user["id"]).collect();
    assert_eq!(users, [&newest["author_id"], &own["author_id"]]);
    assert_eq!(chats["chats"][0]["last_message"]["author_id"], newest["author_id"]);
    assert!(users.iter().all(|id| **id != buyer && **id != json!(SELLER)));
    let block = json!({ "users": [{ "user_id": newest["author_id"] }] });
    lab.avito(&token, &format!("/messenger/v2/accounts/{SELLER}/blacklist"), Some(block)).await;
    let url = format!("{}/_local/avito/messages", lab.simulators.control_base());
    let writes = json!({ "chat": chat, "from": "buyer", "text": "Ау" });
    let answer = lab.client.post(url).json(&writes).send().await.expect("an answer");
    assert_eq!(answer.status(), 409, "the buyer is blocked");
}

#[tokio::test]
async fn without_its_tariff_an_account_gets_avito_s_sentence_in_place_of_every_text() {
    let lab = Lab::start().await;
    let (token, chat) = lab.with_avito_chat().await;
    let receiver = Receiver::start(json!({})).await;
    register(&lab, &token, &receiver.url).await;
    lab.control("avito/switches", json!({ "user_id": SELLER, "tariff_placeholder": true })).await;
    lab.control("avito/messages", json!({ "chat": chat, "from": "buyer", "text": "В наличии?" })).await;
    let by_webhook = receiver.wait_for(1).await[0]["payload"]["value"]["content"]["text"].clone();
    let (_, chats) = lab.avito(&token, &format!("/messenger/v2/accounts/{SELLER}/chats"), None).await;
    let messages = format!("/messenger/v3/accounts/{SELLER}/chats/{chat}/messages/");
    let text = async || lab.avito(&token, &messages, None).await.1["messages"][0]["content"]["text"].clone();
    assert!(by_webhook.as_str().is_some_and(|text| text.contains("подписку с доступом к API")), "{by_webhook}");
    assert_eq!(chats["chats"][0]["last_message"]["content"]["text"], by_webhook);
    assert_eq!(text().await, by_webhook);
    lab.control("avito/switches", json!({ "user_id": SELLER, "tariff_placeholder": "Оплатите тариф" })).await;
    assert_eq!(text().await, "Оплатите тариф");
    lab.control("avito/switches", json!({ "user_id": SELLER, "tariff_placeholder": false })).await;
    assert_eq!(text().await, "В наличии?");
}
