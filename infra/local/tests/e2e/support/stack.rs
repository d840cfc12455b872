//! The running stack: its API, its simulators, its functions and its database.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tuberry_local::proxy::Proxy;

use super::{Call, new_number, variable};

/// An answer of the API.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) body: Value,
}

/// The running stack, as it is used from outside.
#[derive(Clone)]
pub(crate) struct Stack {
    client: reqwest::Client,
    api: String,
    control: String,
}

impl Stack {
    pub(crate) fn new() -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build();
        Self { client: client.expect("a client"), api: variable("STACK_API"), control: variable("STACK_CONTROL") }
    }

    /// Calls the API with these headers.
    pub(crate) async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.api) };
        let mut request = self.client.request(method, url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("the stack answers");
        let status = answer.status().as_u16();
        let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_owned();
        let text = answer.text().await.expect("a whole answer");
        Answer { status, kind, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        let bearer = token.map(|token| format!("Bearer {token}")).unwrap_or_default();
        let headers: &[(&str, &str)] = if token.is_some() { &[("authorization", &bearer)] } else { &[] };
        self.call(Method::GET, path, headers, Vec::new()).await
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Answer {
        let bearer = token.map(|token| format!("Bearer {token}")).unwrap_or_default();
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(token.map(|_| ("authorization", bearer.as_str())));
        self.call(Method::POST, path, &headers, body.to_string().into_bytes()).await
    }

    /// Sends a command to the simulators.
    pub(crate) async fn control(&self, path: &str, body: &Value) -> Value {
        let answer = self.client.post(format!("{}/_local/{path}", self.control)).json(body).send().await;
        let answer = answer.expect("the simulators answer");
        let (status, text) = (answer.status(), answer.text().await.expect("a whole answer"));
        assert_eq!(status, StatusCode::OK, "/_local/{path} says {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Sends a command to the simulators. None: they refused it or did not answer.
    pub(crate) async fn try_control(&self, path: &str, body: &Value) -> Option<Value> {
        let answer = self.client.post(format!("{}/_local/{path}", self.control)).json(body).send().await.ok()?;
        if answer.status() == StatusCode::OK { answer.json().await.ok() } else { None }
    }

    /// Reads from the simulators.
    pub(crate) async fn ask(&self, path_and_query: &str) -> Value {
        let answer = self.client.get(format!("{}/_local/{path_and_query}", self.control)).send().await;
        answer.expect("the simulators answer").json().await.expect("JSON")
    }

    /// Lists the calls that the simulators answered after `since`.
    pub(crate) async fn calls(&self, since: u64, target: &str) -> Vec<Call> {
        let answer = self.ask(&format!("calls?target={target}&since={since}")).await;
        serde_json::from_value(answer["calls"].clone()).expect("calls")
    }

    /// Returns the present end of the record of calls.
    pub(crate) async fn calls_so_far(&self) -> u64 {
        self.ask(&format!("calls?since={}", u64::MAX)).await["next"].as_u64().expect("a number")
    }

    /// Starts a fault; returns its id.
    pub(crate) async fn fault(&self, fault: Value) -> u64 {
        self.control("faults", &fault).await["fault_id"].as_u64().expect("an id")
    }

    /// Ends a fault.
    pub(crate) async fn mend(&self, fault: u64) {
        let answer = self.client.delete(format!("{}/_local/faults/{fault}", self.control)).send().await;
        assert!(answer.expect("the simulators answer").status().is_success());
    }

    /// Runs a function as its schedule does.
    pub(crate) async fn run_schedule(&self, name: &str) {
        let (endpoint, stack) = (variable("AWS_ENDPOINT_URL"), variable("STACK_NAME"));
        let url = format!("{endpoint}/2015-03-31/functions/{stack}-{name}/invocations");
        let answer = self.client.post(url).body("{}").send().await.expect("the emulator answers");
        assert_eq!(answer.status(), StatusCode::OK, "{name}");
        assert_eq!(answer.headers().get("x-amz-function-error"), None, "{name}");
    }

    /// Returns the fields that the Login Widget gives to the page when this person signs in now.
    pub(crate) fn widget(telegram_id: i64) -> Value {
        let mut fields = BTreeMap::from([
            ("auth_date", json!(Timestamp::now().as_second())),
            ("first_name", json!("Ольга")),
            ("id", json!(telegram_id)),
            ("username", json!(format!("olga_{}", new_number()))),
        ]);
        let mut lines = String::new();
        for (name, value) in &fields {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            write!(lines, "{}{name}={value}", if lines.is_empty() { "" } else { "\n" }).expect("a text grows");
        }
        let key = Sha256::digest(variable("MASTER_BOT_TOKEN"));
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any key will do");
        mac.update(lines.as_bytes());
        fields.insert("hash", json!(hex::encode(mac.finalize().into_bytes())));
        json!(fields)
    }

    /// Signs in a person for the first time; returns the access token.
    pub(crate) async fn newcomer(&self) -> String {
        self.sign_in(new_number()).await
    }

    /// Signs in the person with this Telegram id; returns the access token.
    pub(crate) async fn sign_in(&self, telegram_id: i64) -> String {
        let answer = self.post("/api/auth/telegram", None, &Self::widget(telegram_id)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["access_token"].as_str().expect("a token").to_owned()
    }
}

/// Connects to the stack's database, past any pooler: for facts that cannot be seen from outside, and for clocks.
pub(crate) async fn database() -> tokio_postgres::Client {
    try_database().await.expect("the database")
}

/// Connects as [`database`] does. None: the database is away.
pub(crate) async fn try_database() -> Option<tokio_postgres::Client> {
    let (client, connection) =
        tokio_postgres::connect(&variable("MIGRATION_DATABASE_URL"), tokio_postgres::NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// Starts a proxy in front of the database as functions reach it.
pub(crate) async fn database_proxy() -> Proxy {
    Proxy::start(&variable("DATABASE_URL"), 0).await.expect("a free port")
}
