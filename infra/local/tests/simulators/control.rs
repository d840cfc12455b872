//! The control API, and what is kept over a restart.

use serde_json::json;
use tuberry_local::{Simulators, SimulatorsConfig};

use crate::{GROUP, Lab, TOKEN};

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
async fn time_that_passes_for_one_account_and_bot_expires_tokens_and_frees_limits() {
    let lab = Lab::with_forum().await;
    let (token, chat) = lab.with_avito_chat().await;
    lab.control("limits", json!({ "telegram": true })).await;
    let text = json!({ "chat_id": GROUP, "text": "x" });
    let send = async || lab.telegram("sendMessage", text.clone()).await.0;
    for _ in 0..20 {
        assert_eq!(send().await, 200);
    }
    assert_eq!(send().await, 429);
    let own = json!({ "chat": chat, "from": "seller_app", "text": "Да" });
    let id = lab.control("avito/messages", own).await["message_id"].as_str().expect("an id").to_owned();
    let pass = json!({ "seconds": 3601, "user_id": 353_200_001, "bot_token": TOKEN });
    lab.control("time", pass).await;
    assert_eq!(send().await, 200);
    let delete = format!("/messenger/v1/accounts/353200001/chats/{chat}/messages/{id}");
    let (status, _) = lab.avito(&token, &delete, Some(json!({}))).await;
    assert_eq!(status, 400, "the hour in which Avito deletes is over");
    lab.control("time", json!({ "seconds": 86_400, "user_id": 353_200_001 })).await;
    assert_eq!(lab.avito(&token, "/core/v1/accounts/self", None).await.0, 403, "the token has expired");
}

#[tokio::test]
async fn records_are_read_page_by_page() {
    let lab = Lab::with_forum().await;
    for _ in 0..5 {
        lab.telegram("getMe", json!({})).await;
    }
    let first = lab.ask("calls?method=getMe&limit=3").await;
    let rest = lab.ask(&format!("calls?method=getMe&limit=3&since={}", first["next"])).await;
    let numbers = |page: &serde_json::Value| -> Vec<u64> {
        page["calls"].as_array().expect("calls").iter().filter_map(|call| call["seq"].as_u64()).collect()
    };
    assert_eq!((numbers(&first).len(), numbers(&rest).len()), (3, 2));
    assert!(numbers(&first).last() < numbers(&rest).first());
    let end = lab.ask(&format!("calls?since={}", u64::MAX)).await;
    assert_eq!((&end["calls"], &end["next"]), (&json!([]), &rest["next"]));
    assert_eq!(lab.ask("webhooks?target=avito&receiver=5&limit=2").await["attempts"], json!([]));
}
