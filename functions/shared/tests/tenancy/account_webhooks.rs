//! Webhooks of Avito accounts: checked daily, registered again when Avito forgot them, and moved to another secret
//! every month, without a moment at which a message has no valid address. One test runs at a time
//! (`.config/nextest.toml`): a check takes every account that is due, of any tenant.

mod foreign;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tuberry::{
    platform::db::{Scope, Statement},
    tenancy::accounts::webhooks::check,
};

use crate::support::{shop::Shop, variable};

impl Shop {
    /// Lets a day pass and runs the check. Of all accounts that are due, those of other tests among them, this one is first.
    async fn a_day_later(&self) {
        self.change("UPDATE avito_accounts SET webhook_check_at = now() - interval '1 year' WHERE id = $1").await;
        self.run_check().await;
    }

    /// Runs the check. What it has begun it ends, also after the second in which it begins.
    async fn run_check(&self) {
        let checked = check(self.world.app, Instant::now() + Duration::from_secs(1)).await;
        checked.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn months_later(&self) {
        self.change("UPDATE avito_accounts SET webhook_secret_since = now() - interval '31 days' WHERE id = $1").await;
        self.a_day_later().await;
    }

    /// Lists the calls about this account's webhook, in order: method and address.
    async fn calls(&self) -> Vec<(String, String)> {
        let calls = self.world.ask("calls?target=avito&since=0").await;
        let calls = calls["calls"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mine = calls.iter().filter(|call| call["user_id"] == json!(self.outside.user_id));
        mine.map(|call| (text(&call["method"]), text(&call["params"]["url"])))
            .filter(|(method, _)| ["webhook.register", "webhook.unsubscribe", "subscriptions"].contains(&&**method))
            .collect()
    }

    async fn methods(&self) -> Vec<String> {
        self.calls().await.into_iter().map(|(method, _)| method).collect()
    }

    /// Lists the addresses that were registered, in order.
    async fn addresses(&self) -> Vec<String> {
        let registered = self.calls().await.into_iter().filter(|(method, _)| method == "webhook.register");
        registered.map(|(_, url)| url).collect()
    }

    async fn token(&self) -> String {
        let sql = "SELECT access_token, client_id FROM avito_accounts WHERE id = $1";
        let rows = self.world.query(Scope::Tenant(self.owner.client), Statement::new(sql).bind(self.account_id)).await;
        let context = tuberry::tenancy::accounts::token_context(self.owner.client);
        let token = self.world.app.keyring().open(rows[0].get::<_, &[u8]>(0), context);
        token.unwrap_or_else(|error| panic!("{error}")).expose().to_owned()
    }

    /// Makes Avito forget an address.
    async fn forget(&self, url: &str) {
        let unsubscribe = format!("{}/messenger/v1/webhook/unsubscribe", variable("AVITO_API_BASE"));
        let request = self.world.app.outside().post(unsubscribe).bearer_auth(self.token().await);
        let answer = request.json(&json!({ "url": url })).send().await;
        assert!(answer.is_ok_and(|answer| answer.status().is_success()));
    }

    /// Returns the status with which our address answers a webhook.
    async fn answer(&self, url: &str) -> u16 {
        let answer = self.world.app.outside().post(url).json(&json!({})).send().await;
        answer.unwrap_or_else(|error| panic!("{error}")).status().as_u16()
    }
}

#[tokio::test]
async fn a_webhook_that_avito_knows_is_checked_once_a_day() {
    let shop = Shop::new().await;
    shop.a_day_later().await;
    shop.run_check().await;
    let connected = ["subscriptions", "webhook.register", "subscriptions"];
    assert_eq!(shop.methods().await, [&connected[..], &["subscriptions"]].concat());
}

#[tokio::test]
async fn a_webhook_that_avito_forgot_is_registered_again() {
    let shop = Shop::new().await;
    let addresses = shop.addresses().await;
    shop.forget(&addresses[0]).await;

    shop.a_day_later().await;

    let methods = shop.methods().await;
    let registered = ["subscriptions", "webhook.register", "subscriptions"];
    assert_eq!(methods, [&registered[..], &["webhook.unsubscribe"], &registered].concat());
    assert_eq!(shop.addresses().await, [&*addresses[0], &*addresses[0]]);
}

#[tokio::test]
async fn a_month_old_secret_is_renewed_and_both_are_valid_until_avito_uses_the_new_one_alone() {
    let shop = Shop::new().await;
    shop.months_later().await;
    let addresses = shop.addresses().await;
    let [former, new] = &addresses[..] else { panic!("{} addresses", addresses.len()) };
    assert_ne!(former, new);
    assert_eq!((shop.answer(former).await, shop.answer(new).await), (200, 200));

    shop.a_day_later().await;

    let (method, url) = shop.calls().await.pop().unwrap_or_default();
    assert_eq!((method.as_str(), &url), ("webhook.unsubscribe", former));
    assert_eq!((shop.answer(former).await, shop.answer(new).await), (404, 200));
}

#[tokio::test]
async fn a_new_secret_whose_registration_failed_is_registered_again_and_the_former_one_stays_valid() {
    let shop = Shop::new().await;
    let fault = json!({
        "target": "avito", "kind": "status", "status": 503, "method": "webhook.register", "times": 1,
        "scope": { "user_id": shop.outside.user_id },
    });
    shop.world.control("faults", &fault).await;
    shop.months_later().await;
    let addresses = shop.addresses().await;
    assert_eq!(shop.answer(&addresses[0]).await, 200);
    assert_eq!(addresses.len(), 2, "the second one was refused");

    // The check tries again within the hour, with the same new secret.
    shop.months_later().await;

    let addresses = shop.addresses().await;
    assert_eq!(addresses[1..], [&*addresses[1], &*addresses[1]]);
    assert_eq!((shop.answer(&addresses[0]).await, shop.answer(&addresses[1]).await), (200, 200));
}
