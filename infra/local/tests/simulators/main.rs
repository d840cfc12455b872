//! The simulators over real loopback HTTP, as the functions and the stack meet them.

mod avito;
mod control;
mod faults;
mod telegram;
mod unknowns;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
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
