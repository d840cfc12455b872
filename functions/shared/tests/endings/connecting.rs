//! The calls that a person waits for, who connects a bot or an account: each fails in every way. The answer says what is wrong, no
//! call is repeated, and once the failure is over the same request succeeds: nothing stays behind that would stand in its way.

use std::time::Duration;

use serde_json::{Value, json};
use tuberry::tenancy::{accounts, accounts::webhooks::WebhookState, bots};

use crate::{
    matrix::FAILURES,
    support::{World, must, variable},
};

const CALL_TIMEOUT: Duration = Duration::from_millis(400);

/// The running stack; calls to the outside end early.
fn impatient() -> World {
    World::with_call_timeout(&[], CALL_TIMEOUT)
}

/// Adds a fault of this kind, and returns its id.
async fn fail(world: &World, (name, kind): (&str, &str), mut fault: Value) -> u64 {
    fault["kind"] = json!(kind);
    if kind == "status" {
        fault["status"] = json!(must(name.parse::<u16>()));
    }
    world.control("faults", &fault).await["fault_id"].as_u64().unwrap_or_default()
}

async fn lift(world: &World, fault: u64) {
    must(world.app.outside().delete(format!("{}/_local/faults/{fault}", variable("STACK_CONTROL"))).send().await);
}

/// Counts the calls of a method for which `is_mine`.
async fn count(world: &World, method: &str, is_mine: impl Fn(&Value) -> bool) -> usize {
    let calls = world.ask(&format!("calls?method={method}")).await;
    calls["calls"].as_array().into_iter().flatten().filter(|call| is_mine(call)).count()
}

#[tokio::test]
async fn a_bot_that_telegram_does_not_let_connect_is_refused_in_words_and_connects_once_it_does() {
    let (world, impatient) = (World::new(), impatient());
    let owner = world.owner().await;
    for call in ["getMe", "getChat", "getChatMember", "setWebhook"] {
        for failure in FAILURES {
            let cell = format!("{call} · {}", failure.0);
            let bot = world.outside_bot(Value::Null).await;
            let scope = json!({ "token": bot.token.expose() });
            let fault = fail(&world, failure, json!({ "target": "telegram", "method": call, "scope": scope })).await;
            let error = impatient.connect_bot(&owner, &bot).await.map(|_| ()).expect_err(&cell);
            let is_right = match (call, failure.0) {
                ("getChat" | "getChatMember", "403") => matches!(error, bots::ConnectError::Group(_)),
                ("setWebhook", _) => matches!(error, bots::ConnectError::Webhook(_)),
                _ => matches!(error, bots::ConnectError::Telegram(_)),
            };
            assert!(is_right, "{cell}: {error:?}");
            let hint = bot.token.expose().split(':').next().unwrap_or_default().to_owned();
            assert_eq!(count(&world, call, |called| called["token_hint"] == hint.as_str()).await, 1, "{cell}");
            lift(&world, fault).await;
            must(world.connect_bot(&owner, &bot).await.map_err(|error| format!("{cell}, again: {error}")));
        }
    }
}

#[tokio::test]
async fn an_account_whose_keys_avito_does_not_check_is_refused_in_words_and_connects_once_it_does() {
    let (world, impatient) = (World::new(), impatient());
    let owner = world.owner().await;
    let (bot, _) = world.bot(&owner).await;
    for call in ["token", "self"] {
        for failure in FAILURES {
            let cell = format!("{call} · {}", failure.0);
            let outside = world.outside_account().await;
            let scope = if call == "token" {
                json!({ "contains": outside.api_client_id })
            } else {
                json!({ "user_id": outside.user_id })
            };
            let fault = fail(&world, failure, json!({ "target": "avito", "method": call, "scope": scope })).await;
            let error = impatient.connect_account(&owner, bot.id, &outside).await.map(|_| ()).expect_err(&cell);
            let is_right = match failure.0 {
                "403" => matches!(error, accounts::ConnectError::Keys | accounts::ConnectError::Tariff),
                _ => matches!(error, accounts::ConnectError::Avito(_)),
            };
            assert!(is_right, "{cell}: {error:?}");
            lift(&world, fault).await;
            must(
                world
                    .connect_account(&owner, bot.id, &outside)
                    .await
                    .map_err(|error| format!("{cell}, again: {error}")),
            );
        }
    }
}

#[tokio::test]
async fn an_account_whose_webhook_avito_does_not_take_is_connected_and_says_why_it_is_not_reported() {
    let (world, impatient) = (World::new(), impatient());
    let owner = world.owner().await;
    let (bot, _) = world.bot(&owner).await;
    for call in ["subscriptions", "webhook.register"] {
        for failure in FAILURES {
            let cell = format!("{call} · {}", failure.0);
            let outside = world.outside_account().await;
            let scope = json!({ "user_id": outside.user_id });
            let fault = fail(&world, failure, json!({ "target": "avito", "method": call, "scope": scope })).await;
            let account = must(
                impatient.connect_account(&owner, bot.id, &outside).await.map_err(|error| format!("{cell}: {error}")),
            );
            if (call, failure.0) == ("webhook.register", "cut after") {
                // It was done all the same, and Avito says so when it is asked.
                assert_eq!(
                    (account.webhook_state, account.webhook_error),
                    (Some(WebhookState::Registered), None),
                    "{cell}"
                );
            } else {
                assert!(account.webhook_error.is_some(), "{cell}: {:?}", account.webhook_state);
            }
            let calls = count(&world, call, |called| called["user_id"] == outside.user_id).await;
            assert!(calls <= 2, "{cell}: {calls} calls");
            lift(&world, fault).await;
        }
    }
}
