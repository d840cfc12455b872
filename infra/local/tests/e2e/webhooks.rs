//! The webhooks' answers to Avito, to Telegram and to strangers who find the addresses.

use reqwest::Method;
use serde_json::json;

use super::support::{Answer, SOON, Seller, Stack, database, notification, update, wait_until};

const WRONG_SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Returns the address with another secret at its end.
fn elsewhere(url: &str) -> String {
    format!("{}/{WRONG_SECRET}", url.rsplit_once('/').expect("a path").0)
}

/// Lists bodies that are no JSON, too deep, or too large.
fn unreadable() -> Vec<Vec<u8>> {
    let deep = format!(r#"{{"update_id":4,"deep":{}{}}}"#, "[".repeat(2000), "]".repeat(2000));
    let huge = format!(r#"{{"update_id":4,"padding":"{}"}}"#, "x".repeat(1100 * 1024));
    vec![Vec::new(), b"not JSON".to_vec(), b"\xff\x00{".to_vec(), deep.into_bytes(), huge.into_bytes()]
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
async fn avitos_webhook_takes_any_body_with_the_right_secret_and_none_with_a_wrong_one() {
    let seller = Seller::new().await;
    let (stack, url) = (&seller.stack, seller.avito_webhook().await);
    let (chat, _) = seller.conversation("Олег").await;

    for harmless in ["{}", "[]", "7", "null", "\"text\"", r#"{"payload":{"type":"new_kind","value":{"x":1}}}"#] {
        assert_eq!(send(stack, &url, &[], harmless).await.status, 200, "{harmless}");
    }
    for unreadable in unreadable() {
        let beginning = String::from_utf8_lossy(&unreadable[..unreadable.len().min(40)]).into_owned();
        assert_eq!(send(stack, &url, &[], unreadable.clone()).await.status, 200, "{beginning}");
        let stranger = send(stack, &elsewhere(&url), &[("accept-language", "ru-RU,ru;q=0.9")], unreadable).await;
        assert_eq!(problem(&stranger), (404, "not_found", "Не найдено."), "{beginning}");
    }
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
async fn telegrams_webhook_takes_any_body_with_the_right_secrets_and_none_with_a_wrong_one() {
    let seller = Seller::new().await;
    let (stack, (url, secret)) = (&seller.stack, seller.telegram_webhook().await);
    let (chat, thread) = seller.conversation("Раиса").await;
    let right = [("x-telegram-bot-api-secret-token", secret.as_str())];

    for harmless in
        ["{}", "[]", r#"{"update_id":1}"#, r#"{"update_id":2,"message":{"text":5}}"#, r#"{"update_id":3,"new":{}}"#]
    {
        assert_eq!(send(stack, &url, &right, harmless).await.status, 200, "{harmless}");
    }
    for unreadable in unreadable() {
        assert_eq!(send(stack, &url, &right, unreadable.clone()).await.status, 200);
        let wrong = [("x-telegram-bot-api-secret-token", WRONG_SECRET)];
        assert_eq!(problem(&send(stack, &url, &wrong, unreadable).await).0, 404);
    }

    let forged = update(&seller, thread, 900_000, "Подделка").to_string();
    let wrong = [("x-telegram-bot-api-secret-token", WRONG_SECRET)];
    for (url, headers) in [(&elsewhere(&url), &right[..]), (&url, &wrong[..]), (&url, &[][..])] {
        assert_eq!(problem(&send(stack, url, headers, forged.clone()).await).0, 404);
    }

    seller.operator_writes(thread, "Метка").await;
    assert_eq!(seller.answered(SOON, &chat, "Метка").await, ["Метка"]);
}

#[tokio::test]
async fn a_message_that_a_broken_notification_was_about_is_found_by_a_poll_at_once() {
    let seller = Seller::new().await;
    let (stack, url) = (&seller.stack, seller.avito_webhook().await);
    let (chat, _) = seller.conversation("Олег").await;
    let database = database().await;
    let postpone = "UPDATE account_polls SET next_poll_at = now() + interval '1 hour' WHERE avito_account_id = $1";
    database.execute(postpone, &[&seller.account_id]).await.expect("the account");

    let silent = json!({ "chat": chat, "from": "buyer", "text": "Ещё тут?", "webhook": false });
    stack.control("avito/messages", &silent).await;
    assert_eq!(send(stack, &url, &[], r#"{"payload":{"type":"message","value":{"text":"#).await.status, 200);
    let due = "SELECT next_poll_at <= now() + interval '1 minute' FROM account_polls WHERE avito_account_id = $1";
    let is_due: bool = database.query_one(due, &[&seller.account_id]).await.expect("the account").get(0);
    assert!(is_due, "the next schedule polls the account");

    stack.run_schedule("poll-avito").await;
    seller.said(SOON, "Олег", "Ещё тут?").await;
}

#[tokio::test]
async fn a_message_with_a_lone_surrogate_a_nul_or_the_escape_of_one_is_shown_as_far_as_it_is_text() {
    let seller = Seller::new().await;
    let (stack, url) = (&seller.stack, seller.avito_webhook().await);
    let (chat, _) = seller.conversation("Олег").await;

    let marked = notification(&seller, &chat, "marked", "МЕТКА").to_string();
    for (id, text, shown) in [
        ("m-1", r"что значит \\u0000?", r"что значит \u0000?"),
        ("m-2", r"Куп\u0000лю", "Куплю"),
        ("m-3", r"\ud83d сегодня", "\u{fffd} сегодня"),
    ] {
        let body = marked.replace("marked", id).replace("МЕТКА", text);
        assert_eq!(send(stack, &url, &[], body).await.status, 200);
        seller.said(SOON, "Олег", shown).await;
    }
    let typed = r"«\u0000» \ud83d \\";
    seller.buyer_writes(&chat, typed).await;
    seller.said(SOON, "Олег", typed).await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_refused_in_its_topic_and_one_with_many_entities_is_sent() {
    let seller = Seller::new().await;
    let (stack, (url, secret)) = (&seller.stack, seller.telegram_webhook().await);
    let (chat, thread) = seller.conversation("Раиса").await;
    let right = [("x-telegram-bot-api-secret-token", secret.as_str())];

    let mut decorated = update(&seller, thread, 900_001, "Пишу");
    let entity = json!({ "type": "bold", "offset": 0, "length": 1 });
    decorated["message"]["entities"] = json!(vec![entity; 8000]);
    assert_eq!(send(stack, &url, &right, decorated.to_string()).await.status, 200);
    assert_eq!(seller.answered(SOON, &chat, "Пишу").await, ["Пишу"]);

    let deep = format!("\"text\":\"Да\",\"quote\":{}{}", "[".repeat(5000), "]".repeat(5000));
    let deep = update(&seller, thread, 900_002, "Да").to_string().replace("\"text\":\"Да\"", &deep);
    assert_eq!(send(stack, &url, &right, deep).await.status, 200);
    let notice = wait_until(SOON, "a refusal", async || {
        let topics = seller.all_topics().await.into_iter().flat_map(|topic| topic.messages);
        topics
            .into_iter()
            .find(|message| message.text.as_deref().is_some_and(|text| text.contains("не удалось прочитать")))
    });
    notice.await;

    seller.operator_writes(thread, "Метка").await;
    assert_eq!(seller.answered(SOON, &chat, "Метка").await, ["Пишу", "Метка"]);
}
