//! The control API under `/_local/`: plays the people on the other side, sets faults, and returns the records. A guard
//! refuses web pages, since a browser of this machine could reach it.

mod avito;
mod faults;
mod records;
mod telegram;
mod time;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use base64::Engine;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::world::World;

/// The routes of the control API.
pub(crate) fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/_local/telegram/bots", post(telegram::bots))
        .route("/_local/telegram/chats", post(telegram::chats))
        .route("/_local/telegram/switches", post(telegram::switches))
        .route("/_local/telegram/messages", post(telegram::messages))
        .route("/_local/telegram/callback", post(telegram::callback))
        .route("/_local/telegram/topics", get(telegram::topics))
        .route("/_local/avito/accounts", post(avito::accounts::accounts))
        .route("/_local/avito/switches", post(avito::accounts::switches))
        .route(
            "/_local/avito/subscriptions",
            post(avito::accounts::subscribe).get(avito::accounts::subscriptions).delete(avito::accounts::unsubscribe),
        )
        .route("/_local/avito/chats", post(avito::create_chat).get(avito::chats))
        .route("/_local/avito/chats/state", post(avito::chat_state))
        .route("/_local/avito/messages", post(avito::messages))
        .route("/_local/avito/read", post(avito::read))
        .route("/_local/webhooks/telegram/redeliver", post(telegram::redeliver))
        .route("/_local/webhooks/avito/redeliver", post(avito::redeliver))
        .route("/_local/webhooks", get(records::webhooks))
        .route("/_local/calls", get(records::calls))
        .route("/_local/faults", post(faults::add).delete(faults::clear))
        .route("/_local/faults/{id}", delete(faults::remove))
        .route("/_local/limits", post(faults::limits))
        .route("/_local/queues", post(faults::queues))
        .route("/_local/time", post(time::pass))
        .route("/_local/reset", post(records::reset))
        .fallback(async || Failure(StatusCode::NOT_FOUND, "There is nothing at this address.".to_owned()))
        .layer(middleware::from_fn(guard))
        .layer(DefaultBodyLimit::max(80 * 1024 * 1024))
        .with_state(world)
}

/// A refusal of the control API: its status, and a sentence that says why.
pub(crate) struct Failure(StatusCode, String);

impl Failure {
    fn bad(why: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, why.into())
    }

    fn not_found(why: &str) -> Self {
        Self(StatusCode::NOT_FOUND, why.to_owned())
    }

    fn conflict(why: &str) -> Self {
        Self(StatusCode::CONFLICT, why.to_owned())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response<Body> {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

/// The answer of a handler.
type Answer = Result<Json<serde_json::Value>, Failure>;

/// Parses a body. The refusal says what is wrong with it.
fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Failure::bad(error.to_string()))
}

/// The bytes of a file given as base64.
fn decoded(base64: &str) -> Result<Bytes, Failure> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64);
    bytes.map(Bytes::from).map_err(|_| Failure::bad("The file is not base64."))
}

async fn guard(request: Request, next: Next) -> Response<Body> {
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if !text(header::HOST).is_some_and(is_local) {
        return Failure(StatusCode::FORBIDDEN, "Only for this machine.".to_owned()).into_response();
    }
    let foreign = |origin: &str| !origin.split_once("://").is_some_and(|(_, host)| is_local(host));
    if text(header::ORIGIN).is_some_and(foreign) {
        return Failure(StatusCode::FORBIDDEN, "Not for web pages of others.".to_owned()).into_response();
    }
    if request.method() == Method::POST && !is_json(headers) {
        let why = "Content-Type has to be application/json.".to_owned();
        return Failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, why).into_response();
    }
    next.run(request).await
}

fn is_local(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    matches!(name.map_or(host, |(name, _)| name), "127.0.0.1" | "localhost")
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_loopback_names_are_local() {
        for host in ["127.0.0.1", "localhost", "127.0.0.1:8080", "localhost:1"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["example.com", "127.0.0.1.example.com", "localhost.example.com:80", "null", "0.0.0.0"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
