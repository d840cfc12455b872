//! The control API, and what is kept over a restart.

use serde_json::json;
use tuberry_local::{Simulators, SimulatorsConfig};

use crate::Lab;

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
