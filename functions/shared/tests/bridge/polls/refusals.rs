//! Polls that Avito refuses: broken keys, outages, expired tokens and rate limits.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use tuberry::{
    platform::db::{Scope, Statement},
    tenancy::accounts::{self, Keys},
};

use crate::support::{must, shop::Shop};

#[tokio::test]
async fn the_owner_of_an_account_with_broken_keys_is_notified_once_and_the_account_is_polled_ever_more_rarely() {
    let shop = Shop::polled().await;
    shop.poll_when_due().await;
    shop.has_keys("another secret").await;

    let since = shop.calls_so_far().await;
    shop.poll_when_due().await;
    assert_eq!(shop.calls(since).await, ["chats.list", "token"]);
    assert_eq!(shop.notices().await, 1);
    for _ in 0..3 {
        shop.poll().await;
    }
    assert_eq!(shop.calls(since).await.len(), 2, "nothing between");
    assert!((239..=360).contains(&shop.seconds_to_next_poll().await));

    let since = shop.calls_so_far().await;
    an_hour_later(&shop).await;
    shop.poll_when_due().await;
    assert_eq!(shop.calls(since).await, ["chats.list", "token"]);
    assert!((2879..=4320).contains(&shop.seconds_to_next_poll().await), "it was refused an hour ago");
    assert_eq!(shop.notices().await, 1);

    shop.has_keys(&shop.outside.api_client_secret).await;
    an_hour_later(&shop).await;
    shop.poll_when_due().await;
    shop.poll_when_due().await;
    assert!(shop.is_polled_rarely().await, "its keys are valid again");
    assert_eq!(shop.notices().await, 1);
}

/// Makes what is known of the account's refusal an hour older.
async fn an_hour_later(shop: &Shop) {
    shop.change(
        "UPDATE avito_accounts SET token_due_at = token_due_at - interval '1 hour', probed_at = probed_at - interval '1 hour',
                status_changed_at = status_changed_at - interval '1 hour' WHERE id = $1",
    )
    .await;
}

#[tokio::test]
async fn a_poll_that_fails_for_a_passing_reason_is_repeated_at_the_usual_interval() {
    let shop = Shop::polled().await;
    shop.poll_when_due().await;
    assert!(shop.is_polled_rarely().await);
    let unavailable = json!({ "target": "avito", "method": "chats.list", "kind": "status", "status": 503, "times": 1,
                               "scope": { "user_id": shop.outside.user_id } });
    shop.world.control("faults", &unavailable).await;

    shop.poll_when_due().await;
    assert!(!shop.is_polled_rarely().await);
    assert_eq!(shop.notices().await, 0);

    shop.poll_when_due().await;
    assert!(shop.is_polled_rarely().await, "Avito answers again");
}

#[tokio::test]
async fn a_worker_that_meets_an_expired_token_second_uses_the_token_that_the_first_got() {
    let shop = Shop::polled().await;
    let read = || async {
        let sql = "SELECT * FROM tenancy_accounts WHERE avito_account_id = $1";
        let rows = shop.world.query(Scope::Tenant(shop.owner.client), Statement::new(sql).bind(shop.account_id)).await;
        must(Keys::read(&rows[0]))
    };
    let (first, second) = (read().await, read().await);
    let expired = must(accounts::access_token(shop.world.app, &first).await);
    let since = shop.calls_so_far().await;

    let renewed =
        must(accounts::renewed_token(shop.world.app, &first, &expired).await).unwrap_or_else(|| panic!("one"));
    let reused =
        must(accounts::renewed_token(shop.world.app, &second, &expired).await).unwrap_or_else(|| panic!("one"));

    assert!(renewed.expose() != expired.expose() && reused.expose() == renewed.expose());
    assert_eq!(shop.calls(since).await, ["token"]);
}

#[tokio::test]
async fn polls_leave_a_third_of_the_rate_limit_to_answers() {
    let shop = Shop::polled().await;
    let keys = json!({
        "client_id": shop.outside.api_client_id, "client_secret": shop.outside.api_client_secret,
        "user_id": shop.outside.user_id, "calls_per_minute": 30,
    });
    let chat = shop.chat().await;
    shop.writes(&chat, "Ещё продаёте?", false).await;
    shop.poll_when_due().await;
    wait_for_enough_of_a_minute().await;
    shop.world.control("avito/accounts", &keys).await;
    let since = shop.calls_so_far().await;

    for _ in 0..25 {
        shop.poll_when_due().await;
    }
    assert_eq!(shop.calls(since).await, vec!["chats.list"; 20], "a third is left");

    shop.sends("Да, продаём").await;
    assert_eq!(shop.calls(since).await.split_off(20), ["messages.send"]);
}

#[tokio::test]
async fn a_429_stops_polls_until_avito_takes_calls_again() {
    let shop = Shop::polled().await;
    shop.poll_when_due().await;
    let busy = json!({
        "target": "avito", "kind": "status", "status": 429, "retry_after": 2, "method": "chats.list", "times": 1,
        "scope": { "user_id": shop.outside.user_id },
    });
    shop.world.control("faults", &busy).await;
    let since = shop.calls_so_far().await;

    shop.poll_when_due().await;
    shop.poll_when_due().await;
    assert_eq!(shop.calls(since).await, ["chats.list"], "the second poll made no call");

    let deadline = Instant::now() + Duration::from_secs(10);
    while shop.calls(since).await.len() < 2 {
        assert!(Instant::now() < deadline, "it polls again");
        shop.poll_when_due().await;
    }
}

/// Waits until enough of a minute is left: the rate limits are counted by the minute, and a test's calls must fall into
/// one.
async fn wait_for_enough_of_a_minute() {
    while Timestamp::now().as_second().rem_euclid(60) > 45 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
