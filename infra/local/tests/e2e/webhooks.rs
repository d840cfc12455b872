//! The webhooks' answers to Avito, to Telegram and to strangers who find the addresses.

use reqwest::Method;
use serde_json::json;

use super::support::{Answer, SOON, Seller, Stack, notification, update};

const WRONG_SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Returns the address with another secret at its end.
fn elsewhere(url: &str) -> String {
    format!("{}/{WRONG_SECRET}", url.rsplit_once('/').expect("a path").0)
}

async fn send(stack: &Stack, url: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    stack.call(Method::POST, url, &all, body.into()).await
}

/// Checks that an answer is a problem with a request id; returns its status, code and sentence.
fn problem(answer: &Answer) -> (u16, &str, &str) {
    assert_eq!(answer.kind, "application/problem+json", "{answer:?}");
    assert_eq!(answer.body["status"], answer.status);
    let text = |name: &str| answer.body[name].as_str().filter(|text| !text.is_empty()).expect("a text");
    assert!(!text("request_id").is_empty());
    (answer.status, text("code"), text("detail"))
}

#[tokio::test]
async fn avitos_webhook_takes_probes_and_other_json_and_refuses_wrong_requests() {
    let seller = Seller::new().await;
    let (stack, url) = (&seller.stack, seller.avito_webhook().await);
    let (chat, _) = seller.conversation("Олег").await;

    for harmless in ["{}", "[]", "7", "null", "\"text\"", r#"{"payload":{"type":"new_kind","value":{"x":1}}}"#] {
        assert_eq!(send(stack, &url, &[], harmless).await.status, 200, "{harmless}");
    }
    let not_json = send(stack, &url, &[("accept-language", "en")], "not JSON").await;
    assert_eq!(problem(&not_json), (400, "malformed", "The body is not JSON."));
    let huge = format!(r#"{{"padding":"{}"}}"#, "x".repeat(256 * 1024));
    let huge = send(stack, &url, &[("accept-language", "ru-RU,ru;q=0.9")], huge).await;
    assert_eq!(problem(&huge), (413, "too_large", "Запрос слишком велик."));
    let probe = send(stack, &elsewhere(&url), &[("accept-language", "en-GB")], "{}").await;
    assert_eq!(problem(&probe), (404, "not_found", "Not found."));

    let forged = notification(&seller, &chat, "forged", "Подделка").to_string();
    assert_eq!(send(stack, &elsewhere(&url), &[], forged).await.status, 404);
    let of_no_account = elsewhere(&url).replace(&format!("/{}/", seller.account_id), &format!("/{}/", i64::MAX));
    let unstorable = notification(&seller, "u2i-\0", "nul", "Подделка").to_string();
    assert_eq!(problem(&send(stack, &of_no_account, &[], unstorable).await).0, 404, "Postgres is not to blame");
    let mut of_another = notification(&seller, &chat, "another", "Чужое");
    of_another["payload"]["value"]["user_id"] = json!(seller.user_id + 1);
    assert_eq!(send(stack, &url, &[], of_another.to_string()).await.status, 200);
    let good = notification(&seller, &chat, "good", "Метка").to_string();
    assert_eq!(send(stack, &url, &[], good).await.status, 200);

    assert_eq!(seller.said(SOON, "Олег", "Метка").await.said(), ["Здравствуйте", "Метка"]);
}

#[tokio::test]
async fn a_notification_of_a_chat_that_avito_does_not_know_opens_no_topic() {
    let seller = Seller::new().await;
    let url = seller.avito_webhook().await;

    let made_up = notification(&seller, "u2i-made-up", "made-up", "Поверьте мне").to_string();
    assert_eq!(send(&seller.stack, &url, &[], made_up).await.status, 200);

    // The bot takes the dialog that waits longest first, so it handled the made-up one before this.
    seller.conversation("Павел").await;
    assert_eq!(seller.topics().await.len(), 1);
}

#[tokio::test]
async fn telegrams_webhook_takes_updates_that_it_cannot_use_and_refuses_wrong_secrets() {
    let seller = Seller::new().await;
    let (stack, (url, secret)) = (&seller.stack, seller.telegram_webhook().await);
    let (chat, thread) = seller.conversation("Раиса").await;
    let right = [("x-telegram-bot-api-secret-token", secret.as_str())];

    for harmless in
        ["{}", "[]", r#"{"update_id":1}"#, r#"{"update_id":2,"message":{"text":5}}"#, r#"{"update_id":3,"new":{}}"#]
    {
        assert_eq!(send(stack, &url, &right, harmless).await.status, 200, "{harmless}");
    }
    let not_json = send(stack, &url, &right, "update").await;
    assert_eq!(problem(&not_json), (400, "malformed", "Тело запроса не JSON."));
    let huge = format!(r#"{{"update_id":4,"padding":"{}"}}"#, "x".repeat(256 * 1024));
    assert_eq!(problem(&send(stack, &url, &right, huge).await).0, 413);

    let forged = update(&seller, thread, 900_000, "Подделка").to_string();
    let wrong = [("x-telegram-bot-api-secret-token", WRONG_SECRET)];
    for (url, headers) in [(&elsewhere(&url), &right[..]), (&url, &wrong[..]), (&url, &[][..])] {
        assert_eq!(problem(&send(stack, url, headers, forged.clone()).await).0, 404);
    }

    seller.operator_writes(thread, "Метка").await;
    assert_eq!(seller.answered(SOON, &chat, "Метка").await, ["Метка"]);
}
