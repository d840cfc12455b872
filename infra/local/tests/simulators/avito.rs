//! Avito: chats, messages, tokens and webhooks.

use serde_json::json;

use crate::{Lab, Receiver};

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
