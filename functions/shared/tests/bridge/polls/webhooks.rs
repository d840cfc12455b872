//! An account whose webhooks can be trusted is polled rarely.

use crate::support::shop::Shop;

#[tokio::test]
async fn an_account_whose_webhooks_report_everything_is_polled_rarely() {
    let shop = Shop::polled().await;
    let chat = shop.chat().await;
    shop.poll_when_due().await;
    assert!(shop.is_polled_rarely().await);

    // The poll may come before the webhook.
    shop.writes(&chat, "Здравствуйте", false).await;
    shop.poll_when_due().await;
    assert_eq!(shop.recorded().await, ["Здравствуйте"]);
    shop.change("UPDATE messages SET webhook_reported_at = now() WHERE avito_account_id = $1").await;
    shop.a_minute_later().await;
    shop.poll_when_due().await;
    shop.poll_when_due().await;
    assert!(shop.is_polled_rarely().await);
}

#[tokio::test]
async fn an_account_is_polled_often_for_a_day_after_a_webhook_was_missed() {
    let shop = Shop::polled().await;
    let chat = shop.chat().await;
    shop.poll_when_due().await;
    shop.writes(&chat, "Никто не сказал", false).await;

    shop.poll_when_due().await;
    shop.poll_when_due().await;
    assert!(!shop.is_polled_rarely().await, "while it is not known whether the webhook comes");
    shop.a_minute_later().await;
    shop.poll_when_due().await;
    shop.poll_when_due().await;
    assert!(!shop.is_polled_rarely().await, "it did not come");

    shop.change("UPDATE account_polls SET webhook_missed_at = now() - interval '25 hours' WHERE avito_account_id = $1")
        .await;
    shop.poll_when_due().await;
    assert!(shop.is_polled_rarely().await);
}

#[tokio::test]
async fn a_message_that_is_older_than_the_webhooks_registration_is_no_missed_webhook() {
    let shop = Shop::polled().await;
    let chat = shop.chat().await;
    shop.writes(&chat, "Ещё продаёте?", false).await;
    shop.change("UPDATE avito_accounts SET webhook_registered_at = now() + interval '2 seconds' WHERE id = $1").await;

    shop.poll_when_due().await;
    shop.poll_when_due().await;

    assert_eq!(shop.recorded().await, ["Ещё продаёте?"]);
    assert!(shop.is_polled_rarely().await);
}

#[tokio::test]
async fn an_account_that_avito_sends_no_webhooks_for_is_polled_often() {
    let shop = Shop::polled().await;
    shop.change("UPDATE avito_accounts SET webhook_error = 'Forbidden' WHERE id = $1").await;
    shop.poll_when_due().await;
    assert!(!shop.is_polled_rarely().await);
}
