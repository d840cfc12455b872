//! Postgres, Redis or SQS are away: only messages that are stored durably are acknowledged, and all of those arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use serde_json::json;

use super::runtime_api::{Function, NOWHERE, run_to_end};
use super::support::{LATER, SOON, Seller, database_proxy, notification, update, wait_until};

fn nowhere(scheme: &str) -> String {
    format!("{scheme}://{NOWHERE}")
}

/// Returns an address of Postgres at which no server listens.
fn no_database() -> String {
    format!("postgres://postgres@{NOWHERE}/tuberry")
}

/// Opens an address that accepts connections and never answers; returns it with the number of connections.
async fn doorstep() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let came = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&came);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (address, came)
}

#[tokio::test]
async fn a_function_opens_only_the_connections_that_an_event_needs() {
    let seller = Seller::new().await;
    let (url, secret) = seller.telegram_webhook().await;
    let ((postgres, asked), (redis, cached), (sqs, queued)) = tokio::join!(doorstep(), doorstep(), doorstep());
    let postgres = format!("postgres://postgres@{postgres}/tuberry");
    let (redis, sqs) = (format!("redis://{redis}"), format!("http://{sqs}"));
    let doors = [("DATABASE_URL", &*postgres), ("REDIS_URL", &*redis), ("AWS_ENDPOINT_URL", &*sqs)];
    let webhook = Function::start("telegram-webhook", &doors).await;
    let came = || [&asked, &cached, &queued].map(|door| door.load(Ordering::SeqCst) > 0);

    let said = update(&seller, 1, 900_100, "Ау");
    let wrong = webhook.post(&url, &[("x-telegram-bot-api-secret-token", "wrong")], &said).await;
    assert_eq!((wrong.0, came()), (404, [false, false, false]), "a wrong header is refused without a connection");

    webhook.post(&url, &[("x-telegram-bot-api-secret-token", secret.as_str())], &said).await;
    assert_eq!(came(), [true, false, false]);
}

#[tokio::test]
async fn with_sqs_away_a_buyers_message_is_taken_and_the_sweep_brings_it_to_the_topic() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Анна").await;
    let url = seller.avito_webhook().await;
    let webhook = Function::start("avito-webhook", &[("AWS_ENDPOINT_URL", &nowhere("http"))]).await;

    let event = notification(&seller, &chat, "sqs-away", "Без очереди");
    assert_eq!(webhook.post(&url, &[], &event).await.0, 200);

    assert_eq!(seller.said(LATER, "Анна", "Без очереди").await.said(), ["Здравствуйте", "Без очереди"]);
}

#[tokio::test]
async fn with_sqs_away_an_operators_answer_is_taken_and_the_sweep_brings_it_to_the_buyer() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Борис").await;
    let (url, secret) = seller.telegram_webhook().await;
    let webhook = Function::start("telegram-webhook", &[("AWS_ENDPOINT_URL", &nowhere("http"))]).await;

    let header = [("x-telegram-bot-api-secret-token", secret.as_str())];
    let said = update(&seller, thread, 900_001, "Без очереди");
    assert_eq!(webhook.post(&url, &header, &said).await.0, 200);

    assert_eq!(seller.answered(LATER, &chat, "Без очереди").await, ["Без очереди"]);
}

#[tokio::test]
async fn with_postgres_away_a_buyers_message_waits_in_the_intake_queue_and_arrives() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Вера").await;
    let url = seller.avito_webhook().await;
    let webhook = Function::start("avito-webhook", &[("DATABASE_URL", &no_database())]).await;

    for number in 1..=3 {
        let event = notification(&seller, &chat, &format!("db-away-{number}"), &format!("Без базы {number}"));
        assert_eq!(webhook.post(&url, &[], &event).await.0, 200);
    }

    let said = seller.said(SOON, "Вера", "Без базы 3").await.said();
    assert_eq!(said, ["Здравствуйте", "Без базы 1", "Без базы 2", "Без базы 3"]);
}

#[tokio::test]
async fn messages_that_came_while_postgres_was_away_are_not_overtaken_by_later_ones() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Лада").await;
    let url = seller.avito_webhook().await;
    let postgres = database_proxy().await;
    let webhook = Function::start("avito-webhook", &[("DATABASE_URL", &postgres.address)]).await;
    let send = async |text: &str, written_at: i64| {
        let mut event = notification(&seller, &chat, &format!("way-{text}"), text);
        event["payload"]["value"]["created"] = json!(written_at);
        assert_eq!(webhook.post(&url, &[], &event).await.0, 200, "{text}");
    };

    // The function that reads the queue has started before the seconds in which messages wait for each other.
    postgres.shut();
    send("Раньше", Timestamp::now().as_second()).await;
    postgres.open();
    seller.said(SOON, "Лада", "Раньше").await;

    let began = Timestamp::now().as_second();
    send("До", began + 1).await;
    postgres.shut();
    send("Вместо", began + 2).await;
    postgres.open();
    send("После", began + 3).await;

    let said = seller.said(SOON, "Лада", "После").await.said();
    assert_eq!(said, ["Здравствуйте", "Раньше", "До", "Вместо", "После"]);
}

#[tokio::test]
async fn a_buffered_message_is_recorded_when_postgres_is_back_by_the_invocation_that_found_it_away() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Майя").await;
    let postgres = database_proxy().await;
    let consumer = Function::start("record-intake", &[("DATABASE_URL", &postgres.address)]).await;
    let buffered = notification(&seller, &chat, "buffered-long", "Дождалось").to_string();
    let task = json!({ "v": "1", "account_id": seller.account_id, "payload": buffered });

    postgres.shut();
    let back = async {
        wait_until(SOON, "it tries again", async || (postgres.turned_away() > 1).then_some(())).await;
        postgres.open();
    };
    tokio::join!(consumer.work(&task), back);

    assert_eq!(seller.said(SOON, "Майя", "Дождалось").await.said(), ["Здравствуйте", "Дождалось"]);
}

#[tokio::test]
async fn with_postgres_away_a_wrong_secret_is_still_refused() {
    let seller = Seller::new().await;
    seller.conversation("Глеб").await;
    let url = seller.avito_webhook().await;
    let webhook = Function::start("avito-webhook", &[("DATABASE_URL", &no_database())]).await;

    let wrong = format!("{}/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", url.rsplit_once('/').expect("a path").0);
    assert_eq!(webhook.post(&wrong, &[], &notification(&seller, "u2i-x", "x", "x")).await.0, 404);
}

#[tokio::test]
async fn with_postgres_and_sqs_away_nothing_is_acknowledged() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Дина").await;
    let url = seller.avito_webhook().await;
    let away = [("DATABASE_URL", &*no_database()), ("AWS_ENDPOINT_URL", &*nowhere("http"))];
    let webhook = Function::start("avito-webhook", &away).await;

    let event = notification(&seller, &chat, "all-away", "Никуда");
    let (status, headers, body) = webhook.post(&url, &[], &event).await;
    assert_eq!((status, &headers["retry-after"]), (503, &json!("5")), "{body}");
}

#[tokio::test]
async fn with_postgres_and_redis_away_the_secret_cannot_be_checked_and_nothing_is_acknowledged() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Егор").await;
    let url = seller.avito_webhook().await;
    let away = [("DATABASE_URL", &*no_database()), ("REDIS_URL", &*nowhere("redis"))];
    let webhook = Function::start("avito-webhook", &away).await;

    let event = notification(&seller, &chat, "unchecked", "Никуда");
    assert_eq!(webhook.post(&url, &[], &event).await.0, 503);
}

#[tokio::test]
async fn with_redis_away_a_buyers_message_is_taken() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Жанна").await;
    let url = seller.avito_webhook().await;
    let webhook = Function::start("avito-webhook", &[("REDIS_URL", &*nowhere("redis"))]).await;

    let event = notification(&seller, &chat, "redis-away", "Без Redis");
    assert_eq!(webhook.post(&url, &[], &event).await.0, 200);
    seller.said(SOON, "Жанна", "Без Redis").await;
}

#[tokio::test]
async fn with_postgres_away_telegram_is_asked_to_repeat_the_update() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Зоя").await;
    let (url, secret) = seller.telegram_webhook().await;
    let webhook = Function::start("telegram-webhook", &[("DATABASE_URL", &no_database())]).await;

    let header = [("x-telegram-bot-api-secret-token", secret.as_str())];
    let said = update(&seller, thread, 900_001, "Повторите");
    let (status, headers, body) = webhook.post(&url, &header, &said).await;
    assert_eq!((status, &headers["retry-after"]), (503, &json!("5")), "{body}");

    // The repeat meets a database, and the answer goes once.
    let healed = Function::start("telegram-webhook", &[]).await;
    for _ in 0..2 {
        assert_eq!(healed.post(&url, &header, &said).await.0, 200);
    }
    seller.operator_writes(thread, "Дальше").await;
    assert_eq!(seller.answered(SOON, &chat, "Дальше").await, ["Повторите", "Дальше"]);
}

#[tokio::test]
async fn a_function_whose_database_connection_broke_opens_another() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Инна").await;
    let url = seller.avito_webhook().await;
    let proxy = database_proxy().await;
    let webhook = Function::start("avito-webhook", &[("DATABASE_URL", &proxy.address)]).await;
    let event = |number: i32| notification(&seller, &chat, &format!("reconnect-{number}"), &format!("Текст {number}"));

    assert_eq!(webhook.post(&url, &[], &event(1)).await.0, 200);
    proxy.cut();
    assert_eq!(webhook.post(&url, &[], &event(2)).await.0, 200);

    let said = seller.said(SOON, "Инна", "Текст 2").await.said();
    assert_eq!(said, ["Здравствуйте", "Текст 1", "Текст 2"]);
}

#[test]
fn a_function_without_its_configuration_says_all_that_is_missing_and_ends() {
    let output = run_to_end("avito-webhook", &[("DATABASE_URL", "postgres://postgres@127.0.0.1/x"), ("REDIS_URL", "")]);
    assert!(!output.status.success());
    let sentence = String::from_utf8_lossy(&output.stderr);
    assert!(sentence.starts_with("avito-webhook: The environment is not complete: missing "), "{sentence}");
    for name in ["INTAKE_QUEUE_URL", "REDIS_URL", "TELEGRAM_QUEUE_URL"] {
        assert!(sentence.contains(name), "{sentence}");
    }
    assert!(!sentence.contains("DATABASE_URL") && sentence.trim().lines().count() == 1, "{sentence}");
    let output = run_to_end("deliver-to-avito", &[("SECRETS_KEY", "short"), ("AVITO_API_BASE", "nowhere")]);
    assert!(!output.status.success());
    let sentence = String::from_utf8_lossy(&output.stderr);
    for name in [
        "DATABASE_URL",
        "REDIS_URL",
        "AVITO_QUEUE_URL",
        "TELEGRAM_QUEUE_URL",
        "SECRETS_KEY is not",
        "AVITO_API_BASE is not",
    ] {
        assert!(sentence.contains(name), "{sentence}");
    }
    assert_eq!(sentence.trim().lines().count(), 1, "{sentence}");
}
