//! The client against a server of a few lines, and against the official specification.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;
use crate::platform::{certainty::Certainty, secrets::Secret};

/// The server's reaction to the one request that it gets.
enum Act {
    Answer(u16, &'static str, String),
    Reset,
    Silence,
}

/// A client of a server that acts once; the handle returns the request that the server got.
async fn server(act: Act) -> (Client, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let handle = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut request = Vec::new();
        while !is_whole(&request) {
            let mut chunk = [0; 4096];
            let read = socket.read(&mut chunk).await.expect("a request");
            assert!(read > 0, "the request was cut");
            request.extend_from_slice(&chunk[..read]);
        }
        match act {
            Act::Answer(status, headers, body) => {
                let answer = format!("HTTP/1.1 {status} S\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
                socket.write_all(answer.as_bytes()).await.expect("an answer");
            }
            Act::Reset => drop(socket),
            Act::Silence => tokio::time::sleep(Duration::from_secs(5)).await,
        }
        String::from_utf8(request).expect("text")
    });
    (client(&base), handle)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    body.len() >= length
}

fn client(base: &str) -> Client {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    Client::new(http, base.parse().expect("an address"))
}

fn token() -> Secret {
    Secret::new("token-of-a-test".to_owned())
}

async fn answering(status: u16, body: &str) -> Client {
    server(Act::Answer(status, "", body.to_owned())).await.0
}

async fn sent(client: &Client) -> Result<Reply<Message>, Error> {
    client.send_text(&token(), 1, "u2i-1", "да").await
}

const MESSAGE: &str = r#"{"id":"bdcc","created":1563202313,"direction":"in","type":"text","content":{"text":"да"}}"#;

#[tokio::test]
async fn a_text_is_sent_as_the_specification_says_and_its_message_read() {
    let (client, request) =
        server(Act::Answer(200, "X-RateLimit-Limit: 90\r\nX-RateLimit-Remaining: 17\r\n", MESSAGE.to_owned())).await;
    let reply = client.send_text(&token(), 353_200_001, "u2i-a~b/c ё", "да").await.expect("a message");
    let rate_limit = RateLimit { remaining: 17, limit: Some(90) };
    assert_eq!((reply.value.id.as_str(), reply.rate_limit), ("bdcc", Some(rate_limit)));
    let request = request.await.expect("a request");
    assert!(request.starts_with("POST /messenger/v1/accounts/353200001/chats/u2i-a~b%2Fc%20%D1%91/messages HTTP"));
    assert!(request.contains("authorization: Bearer token-of-a-test"));
    assert!(request.ends_with(r#"{"message":{"text":"да"},"type":"text"}"#));
}

#[tokio::test]
async fn messages_are_read_bare_and_wrapped() {
    for body in [format!("[{MESSAGE}]"), format!(r#"{{"messages":[{MESSAGE}],"meta":{{}}}}"#)] {
        let (client, request) = server(Act::Answer(200, "", body)).await;
        let reply = client.messages(&token(), 1, "u2i-1", 50, 0).await.expect("messages");
        assert_eq!(reply.value.len(), 1);
        let request = request.await.expect("a request");
        assert!(request.starts_with("GET /messenger/v3/accounts/1/chats/u2i-1/messages/?limit=50&offset=0 HTTP"));
    }
}

#[tokio::test]
async fn one_unreadable_message_does_not_hide_the_others() {
    let client = answering(200, &format!("[{{}}, {MESSAGE}, null]")).await;
    assert_eq!(client.messages(&token(), 1, "u2i-1", 100, 0).await.expect("messages").value.len(), 1);
}

#[tokio::test]
async fn a_message_without_an_id_gets_one_that_stays_the_same_in_each_list() {
    let nameless = r#"{"created":5,"type":"text","content":{"text":"Есть?"},"is_read":false}"#;
    let read_later = nameless.replace("false", "true");
    let mut seen = Vec::new();
    for list in [format!("[{nameless}]"), format!(r#"{{"messages":[{MESSAGE},{read_later}]}}"#)] {
        let messages =
            answering(200, &list).await.messages(&token(), 1, "u2i-1", 100, 0).await.expect("messages").value;
        seen.extend(messages.into_iter().filter(|message| message.id != "bdcc"));
    }
    assert_eq!((seen.len(), seen[0].content.text.as_deref()), (2, Some("Есть?")));
    assert!(seen[0].id == seen[1].id && seen[0].id.starts_with("nameless-"));
}

#[tokio::test]
async fn a_lone_surrogate_and_a_nul_cost_only_themselves() {
    let list = r#"{"chats":[{"id":"u2i-1","context":{"type":"item","value":{"title":"Стол\ud83d"}},
        "users":[{"id":8,"name":"А\u0000Б"}]},{"id":"u2i-2"}]}"#;
    let chats = answering(200, list).await.chats(&token(), 7, &ChatsQuery::default()).await.expect("chats").value.chats;
    let title = chats[0].item().and_then(|item| item.title.clone());
    assert_eq!((chats.len(), title.as_deref()), (2, Some("Стол\u{fffd}")));
    assert_eq!(counterpart(&chats[0], 7).and_then(|buyer| buyer.name), Some("АБ"));
    let refused = answering(400, r#"{"error":{"message":"не\u0000т\ud800"}}"#).await;
    assert_eq!(
        sent(&refused).await.err().and_then(|error| error.vendor_message().map(str::to_owned)),
        Some("нет\u{fffd}".into())
    );
}

#[tokio::test]
async fn chats_are_read_with_item_buyer_and_page() {
    let body = json!({"meta": {"has_more": true}, "chats": [{"id": "u2i-1", "updated": 5, "created": 4,
        "users": [{"id": 7, "name": "Продавец"}, {"id": 8, "name": "Анна", "public_user_profile": {"url": "https://avito.ru/u"}}],
        "context": {"type": "item", "value": {"id": 7_463_793_992_i64, "title": "Диван", "price_string": "3\u{a0}873 ₽",
            "url": "https://avito.ru/i", "location": {"title": "Казань"}, "images": {"main": {"140x105": "https://img"}}}},
        "last_message": {"id": "m", "author_id": 8, "type": "text", "content": {"text": "?"}, "created": 5}},
        {"id": "u2u-2", "users": [{"id": 7}], "context": {}, "last_message": {}}]});
    let (client, request) = server(Act::Answer(200, "", body.to_string())).await;
    let page = client.chats(&token(), 7, &ChatsQuery::default()).await.expect("chats").value;
    assert_eq!(page.has_more, Some(true));
    let chat = &page.chats[0];
    let item = chat.item().expect("an item");
    assert_eq!((item.id, item.city(), item.image_url()), (Some(7_463_793_992), Some("Казань"), Some("https://img")));
    let buyer = counterpart(chat, 7).expect("a buyer");
    assert_eq!(
        (buyer.id, chat.users[1].profile_url(), chat.chat_type()),
        (Some(8), Some("https://avito.ru/u"), Some("u2i"))
    );
    assert!(chat.last_message.as_ref().is_some_and(|message| message.author_id == Some(8)));
    let bare = &page.chats[1];
    assert!(counterpart(bare, 7).is_none() && bare.item().is_none() && bare.last_message.is_none());
    let request = request.await.expect("a request");
    let query = "unread_only=false&chat_types=u2i%2Cu2u&limit=100&offset=0";
    assert!(request.starts_with(&format!("GET /messenger/v2/accounts/7/chats?{query} HTTP")));
}

#[tokio::test]
async fn an_answer_without_a_token_is_an_error_whatever_its_status() {
    let keys = |client: Client| async move { client.token("id", &Secret::new("key of a test".to_owned())).await };
    let (client, request) = server(Act::Answer(200, "", r#"{"access_token":"t","expires_in":86400}"#.into())).await;
    let token = keys(client).await.expect("a token");
    assert_eq!((token.access_token.expose(), token.expires_in.as_secs()), ("t", 86400));
    let form = "grant_type=client_credentials&client_id=id&client_secret=key+of+a+test";
    assert!(request.await.expect("a request").ends_with(form));

    let refused = keys(answering(200, r#"{"error":"invalid_client","error_description":"no"}"#).await).await.err();
    assert!(matches!(refused, Some(Error::Refused { status: 200, message, .. }) if message == "no"));
    let refused = keys(answering(401, r#"{"error":{"code":401,"message":"no"}}"#).await).await.err();
    assert!(matches!(refused, Some(Error::Unauthorized { status: 401, .. })));
    for body in ["", "<html>", r#"{"error":"temporarily_unavailable"}"#, "{}"] {
        let error = keys(answering(200, body).await).await.err();
        assert!(matches!(error, Some(Error::Unavailable { status: 200 })), "{body}");
    }
}

#[tokio::test]
async fn an_account_and_subscriptions_are_read() {
    let client = answering(200, r#"{"id":94235311,"name":"Пётр","phone":"7111"}"#).await;
    let account = client.own_account(&token()).await.expect("an account").value;
    assert_eq!((account.id, account.name.as_deref()), (94_235_311, Some("Пётр")));
    let client = answering(200, r#"{"subscriptions":[{"url":"https://a/b","version":3}]}"#).await;
    let subscriptions = client.subscriptions(&token()).await.expect("a list").value;
    assert_eq!((subscriptions[0].url.as_str(), subscriptions[0].version.as_deref()), ("https://a/b", Some("3")));
}

#[tokio::test]
async fn a_webhook_registered_before_is_no_error() {
    for (status, body) in [(200, r#"{"ok":true}"#), (409, r#"{"error":{"code":409,"message":"exists"}}"#)] {
        let client = answering(status, body).await;
        assert!(client.register_webhook(&token(), "https://a/b").await.is_ok(), "{status}");
    }
    let client = answering(200, r#"{"ok":false}"#).await;
    assert!(matches!(client.unsubscribe_webhook(&token(), "https://a/b").await, Err(Error::Refused { .. })));
}

#[tokio::test]
async fn a_person_is_blocked_for_another_reason_and_an_empty_answer_is_success() {
    let (client, request) = server(Act::Answer(200, "", String::new())).await;
    client.block(&token(), 7, 8, Some(9)).await.expect("blocked");
    let request = request.await.expect("a request");
    assert!(request.starts_with("POST /messenger/v2/accounts/7/blacklist HTTP"));
    assert!(request.ends_with(r#"{"users":[{"context":{"item_id":9,"reason_id":4},"user_id":8}]}"#));
    let refused = answering(400, r#"{"error":{"code":400,"message":"no"}}"#).await.block(&token(), 7, 8, None).await;
    assert!(matches!(refused, Err(Error::Refused { .. })));
}

#[tokio::test]
async fn after_an_unreadable_answer_a_send_may_be_done_and_to_a_read_avito_is_out_of_order() {
    for body in ["", "<html>", "{}", "[]"] {
        let error = sent(&answering(200, body).await).await.err();
        assert!(matches!(error, Some(Error::Unknown(_))), "{body}");
        assert_eq!(error.map(|error| error.certainty()), Some(Certainty::MaybeDone), "{body}");
        let read = answering(200, body).await.chat(&token(), 1, "u2i-1").await;
        assert!(matches!(read, Err(Error::Unavailable { status: 200 })), "{body}");
    }
    let chats = answering(200, "{}").await.chats(&token(), 1, &ChatsQuery::default()).await;
    assert!(chats.is_err(), "an object without chats is not an account without chats");
}

#[tokio::test]
async fn after_a_cut_or_silent_connection_the_outcome_is_unknown() {
    let (client, _server) = server(Act::Reset).await;
    assert!(sent(&client).await.is_err_and(|error| error.certainty() == Certainty::MaybeDone));
    let (client, server) = server(Act::Silence).await;
    assert!(
        sent(&client.with_timeout(Duration::from_millis(100)))
            .await
            .is_err_and(|error| error.certainty() == Certainty::MaybeDone)
    );
    server.abort();
}

#[tokio::test]
async fn a_refused_connection_means_that_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let error = sent(&client(&format!("http://{address}"))).await.expect_err("no server listens");
    assert!(
        matches!(error, Error::NotSent(_)) && error.certainty() == Certainty::NotDone && error.retry_in().is_some()
    );
    let mut chain = format!("{error}");
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        chain = format!("{chain}: {inner} {inner:?}");
        source = inner.source();
    }
    assert!(!chain.contains("messenger") && !chain.contains("token-of-a-test"), "{chain}");
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let (client, _server) = server(Act::Answer(429, "Retry-After: 7\r\n", "{}".into())).await;
    assert_eq!(sent(&client).await.err().and_then(|error| error.retry_in()), Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn an_id_of_dots_does_not_climb_the_path() {
    for id in ["", ".", ".."] {
        let outcome = client("http://127.0.0.1:9").mark_read(&token(), 1, id).await;
        assert!(matches!(outcome, Err(Error::Refused { status: 404, .. })));
    }
}

/// One of the official specifications. None: they are not at hand.
#[expect(clippy::print_stdout, reason = "a test that cannot run here says so")]
fn specification(name: &str) -> Option<Value> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/specs");
    let folder = std::env::var_os("TUBERRY_SPECS").map_or_else(beside, PathBuf::from);
    let Ok(text) = std::fs::read(folder.join(name)) else {
        println!("{name} is not at hand: not compared");
        return None;
    };
    Some(serde_json::from_slice(&text).expect("JSON"))
}

#[test]
fn every_path_and_method_is_in_the_official_specification() {
    let ours = [
        ("avito-authorization.openapi.json", "/token", "post"),
        ("avito-user.openapi.json", "/core/v1/accounts/self", "get"),
        ("avito-messenger.openapi.json", "/messenger/v2/accounts/{user_id}/chats", "get"),
        ("avito-messenger.openapi.json", "/messenger/v2/accounts/{user_id}/chats/{chat_id}", "get"),
        ("avito-messenger.openapi.json", "/messenger/v3/accounts/{user_id}/chats/{chat_id}/messages/", "get"),
        ("avito-messenger.openapi.json", "/messenger/v1/accounts/{user_id}/chats/{chat_id}/messages", "post"),
        ("avito-messenger.openapi.json", "/messenger/v1/accounts/{user_id}/chats/{chat_id}/read", "post"),
        (
            "avito-messenger.openapi.json",
            "/messenger/v1/accounts/{user_id}/chats/{chat_id}/messages/{message_id}",
            "post",
        ),
        ("avito-messenger.openapi.json", "/messenger/v2/accounts/{user_id}/blacklist", "post"),
        ("avito-messenger.openapi.json", "/messenger/v3/webhook", "post"),
        ("avito-messenger.openapi.json", "/messenger/v1/webhook/unsubscribe", "post"),
        ("avito-messenger.openapi.json", "/messenger/v1/subscriptions", "post"),
    ];
    for (file, path, method) in ours {
        let Some(specification) = specification(file) else { return };
        assert!(specification["paths"][path][method].is_object(), "{method} {path}");
    }
}

#[test]
fn the_parameters_of_lists_and_the_kinds_of_messages_are_those_of_the_specification() {
    let Some(specification) = specification("avito-messenger.openapi.json") else { return };
    let components = &specification["components"];
    let query = serde_json::to_value(ChatsQuery::default()).expect("JSON");
    for name in query.as_object().expect("an object").keys() {
        let known = components["parameters"].as_object().expect("parameters").values();
        assert!(known.clone().any(|parameter| parameter["name"] == **name && parameter["in"] == "query"), "{name}");
    }
    let kinds = &components["schemas"]["WebhookMessage"]["properties"]["type"]["enum"];
    for word in kinds.as_array().expect("a list") {
        let word = word.as_str().expect("a word").to_owned();
        assert!(!matches!(Kind::from(word.clone()), Kind::Other(_)), "{word}");
    }
}
