//! Bodies of requests, and problems as answers.

use super::*;
use axum::routing::post;

#[derive(serde::Deserialize, garde::Validate)]
struct Greeting {
    #[garde(length(min = 1, max = 10))]
    name: String,
}

async fn greet(Json(greeting): Json<Greeting>) -> String {
    assert_ne!(greeting.name, "panic");
    greeting.name
}

async fn ask(kind: &str, language: &str, body: impl Into<Body>) -> (u16, serde_json::Value) {
    let router = Router::new().route("/greet", post(greet));
    let request = Request::post("/greet").header("content-type", kind).header("accept-language", language);
    let request = request.body(body.into()).unwrap_or_default();
    let response = answer(router, request, Edge { route: "POST /greet", request_id: "r1" }).await;
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), BODY_LIMIT).await.unwrap_or_default();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn a_problem_speaks_the_callers_language_and_names_the_request() {
    let (status, body) = ask("application/json", "de, en;q=0.8", "{").await;
    assert_eq!((status, &body["code"], &body["request_id"]), (400, &"malformed".into(), &"r1".into()));
    assert_eq!(body["detail"], "The body is not JSON.");
    let (_, body) = ask("application/json", "ru-RU", "{").await;
    assert_eq!(body["detail"], "Тело запроса не JSON.");
}

#[tokio::test]
async fn each_kind_of_bad_body_has_its_status() {
    let deep = format!(r#"{{"name":{}{}}}"#, "[".repeat(80), "]".repeat(80));
    for (kind, body, status) in [
        ("text/plain", r#"{"name":"a"}"#.to_owned(), 415),
        ("application/json", r#"{"name":""}"#.to_owned(), 422),
        ("application/json", r#"{"name":5}"#.to_owned(), 422),
        ("application/json", "{}".to_owned(), 422),
        ("application/json", deep, 400),
        ("application/json", format!(r#"{{"name":"{}"}}"#, "a".repeat(BODY_LIMIT)), 413),
    ] {
        assert_eq!(ask(kind, "en", body.clone()).await.0, status, "{}", &body[..body.len().min(40)]);
    }
}

#[tokio::test]
async fn a_panic_becomes_a_500_without_details() {
    let (status, body) = ask("application/json", "en", r#"{"name":"panic"}"#).await;
    assert_eq!((status, &body["detail"]), (500, &"Internal error.".into()));
}
