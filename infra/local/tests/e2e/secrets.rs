//! Functions read their secrets by name when the first event comes. The deployed ones do so all the time; these tests see
//! what happens while that is not possible.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::runtime_api::{Function, NOWHERE};
use super::support::{SOON, Seller, notification, variable};

/// Asks the emulator's Secrets Manager.
async fn secrets_manager(action: &str, body: Value) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let credential = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/secretsmanager/aws4_request, SignedHeaders=host, Signature=0";
    let request = client
        .post(variable("AWS_ENDPOINT_URL"))
        .header("authorization", credential)
        .header("x-amz-target", format!("secretsmanager.{action}"))
        .header("content-type", "application/x-amz-json-1.1");
    let answer = request.body(body.to_string()).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{action}: {}", answer.text().await.unwrap_or_default());
}

#[tokio::test]
async fn without_its_secrets_a_webhook_acknowledges_nothing_and_with_them_it_goes_on() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Алла").await;
    let url = seller.avito_webhook().await;
    let name = format!("tests-{}/DATABASE_URL", seller.account_id);
    let named = format!("secretsmanager:{name}");
    let webhook = Function::start("avito-webhook", &[("DATABASE_URL", &named)]).await;

    let event = notification(&seller, &chat, "secret", "С ключами");
    assert_eq!(webhook.post(&url, &[], &event).await.0, 503, "there is no such secret yet");
    secrets_manager("CreateSecret", json!({ "Name": name, "SecretString": variable("DATABASE_URL") })).await;
    assert_eq!(webhook.post(&url, &[], &event).await.0, 200);

    assert_eq!(seller.said(SOON, "Алла", "С ключами").await.said(), ["Здравствуйте", "С ключами"]);
}

#[tokio::test]
async fn with_secrets_manager_away_a_webhook_says_so_within_the_time_that_its_sender_waits() {
    let seller = Seller::new().await;
    let url = seller.avito_webhook().await;
    let away =
        [("DATABASE_URL", "secretsmanager:tests/DATABASE_URL"), ("AWS_ENDPOINT_URL", &*format!("http://{NOWHERE}"))];
    let webhook = Function::start("avito-webhook", &away).await;

    let began = Instant::now();
    let (status, headers, _) = webhook.post(&url, &[], &notification(&seller, "u2i-x", "away", "x")).await;
    assert_eq!((status, &headers["retry-after"]), (503, &json!("5")));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
