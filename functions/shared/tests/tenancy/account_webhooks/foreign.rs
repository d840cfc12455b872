//! Webhooks beside those of other products: we ask before we register, remember whom we replaced, and do not fight.
//! Avito may keep many addresses of an account or one; both are tried.

use serde_json::{Value, json};
use tuberry::{
    platform::db::{Scope, Statement},
    tenancy::accounts::{
        self, AvitoAccount, Change, NewAccount,
        webhooks::{self, WebhookChoice, WebhookState},
    },
};

use crate::{
    ALL,
    support::{Owner, World, must, shop::Shop},
};

const CRM: &str = "https://crm.example.com/hook/their-secret";

/// Has another product register its address.
async fn another_product(world: &World, user_id: i64, takes_back: bool) {
    let product = json!({ "user_id": user_id, "url": CRM, "takes_back": takes_back });
    world.control("avito/subscriptions", &product).await;
}

/// Sets how many addresses Avito keeps: `one` or `many`.
async fn avito_keeps(world: &World, user_id: i64, subscriptions: &str) {
    world.control("avito/switches", &json!({ "user_id": user_id, "subscriptions": subscriptions })).await;
}

/// Lists what Avito knows: true is an address of another product.
async fn known(world: &World, user_id: i64) -> Vec<bool> {
    let answer = world.ask(&format!("avito/subscriptions?user_id={user_id}")).await;
    let listed = answer["subscriptions"].as_array().cloned().unwrap_or_default();
    listed.iter().map(|subscription| subscription["foreign"] == Value::Bool(true)).collect()
}

/// Connects an account where another product is already.
async fn connected(
    world: &World,
    owner: &Owner,
    subscriptions: &str,
    webhook: Option<WebhookChoice>,
) -> (AvitoAccount, i64) {
    let (bot, _) = world.bot(owner).await;
    let outside = world.outside_account().await;
    avito_keeps(world, outside.user_id, subscriptions).await;
    another_product(world, outside.user_id, false).await;
    let new = NewAccount {
        name: None,
        api_client_id: outside.api_client_id.clone(),
        api_client_secret: tuberry::platform::secrets::Secret::new(outside.api_client_secret.clone()),
        bot_id: bot.id,
        monitoring_enabled: true,
        webhook,
    };
    let checked = must(accounts::check(world.app, &new).await);
    let account = must(accounts::insert(world.app, owner.client, owner.user_id, new, checked, |_| Vec::new()).await);
    (must(webhooks::settle(world.app, owner.client, account.id).await), outside.user_id)
}

async fn change(world: &World, owner: &Owner, account_id: i64, change: Change) -> AvitoAccount {
    let changed = accounts::change(world.app, owner.client, owner.user_id, account_id, change, |_| Default::default());
    must(changed.await).0
}

fn order(webhook: WebhookChoice) -> Change {
    Change { webhook: Some(webhook), ..Change::default() }
}

fn monitoring(enabled: bool) -> Change {
    Change { monitoring_enabled: Some(enabled), ..Change::default() }
}

async fn notices(world: &World, owner: &Owner) -> Vec<String> {
    let read = Statement::new("SELECT text FROM owner_notices WHERE client_id = current_client_id() ORDER BY id");
    world.query(Scope::Tenant(owner.client), read).await.iter().map(|row| row.get(0)).collect()
}

fn hosts(account: &AvitoAccount) -> (Vec<&str>, Vec<&str>) {
    let replaced = account.webhook_replaced.iter().map(|replaced| replaced.host.as_str()).collect();
    (account.webhook_others.iter().map(String::as_str).collect(), replaced)
}

#[tokio::test]
async fn where_another_product_is_a_person_is_asked_and_nothing_is_registered() {
    let world = World::new();
    let owner = world.owner().await;
    for subscriptions in ["one", "many"] {
        let (account, user_id) = connected(&world, &owner, subscriptions, None).await;
        assert_eq!(account.webhook_state, Some(WebhookState::Ask));
        assert_eq!(hosts(&account), (vec!["crm.example.com"], vec![]));
        assert!(account.webhook_checked_at.is_some() && account.webhook_error.is_none());
        assert_eq!(known(&world, user_id).await, [true]);
        let listed = must(accounts::list(world.app, owner.client, ALL).await).items;
        let shown = serde_json::to_string(&listed).unwrap_or_default();
        assert!(!shown.contains("their-secret"), "only hosts are shown");
        let trusted = "SELECT is_registered FROM tenancy_webhooks WHERE avito_account_id = $1";
        let rows = world.query(Scope::Tenant(owner.client), Statement::new(trusted).bind(account.id)).await;
        assert!(!rows[0].get::<_, bool>(0), "it is polled often");
    }
}

#[tokio::test]
async fn a_webhook_that_is_taken_is_shared_where_avito_keeps_many_addresses() {
    let world = World::new();
    let owner = world.owner().await;
    let (account, user_id) = connected(&world, &owner, "many", None).await;
    let account = change(&world, &owner, account.id, order(WebhookChoice::Take)).await;
    assert_eq!(account.webhook_state, Some(WebhookState::Shared));
    assert_eq!(hosts(&account), (vec!["crm.example.com"], vec![]));
    assert_eq!(known(&world, user_id).await, [true, false]);
}

#[tokio::test]
async fn a_webhook_that_is_taken_replaces_the_other_where_avito_keeps_one_and_the_other_is_named_when_it_is_over() {
    let world = World::new();
    let owner = world.owner().await;
    let (account, user_id) = connected(&world, &owner, "one", Some(WebhookChoice::Take)).await;
    assert_eq!(account.webhook_state, Some(WebhookState::Registered));
    assert_eq!(hosts(&account), (vec![], vec!["crm.example.com"]));
    assert_eq!(known(&world, user_id).await, [false]);
    assert_eq!(notices(&world, &owner).await.len(), 0);

    let account = change(&world, &owner, account.id, monitoring(false)).await;
    assert_eq!(account.webhook_state, Some(WebhookState::Off));
    assert_eq!(known(&world, user_id).await, [false; 0]);
    let [notice] = &notices(&world, &owner).await[..] else { panic!("one notice") };
    assert!(notice.contains("До нас сообщения получал crm.example.com; подключите его там заново"), "{notice}");
}

#[tokio::test]
async fn a_webhook_that_is_left_stays_with_the_other_product_until_it_is_taken() {
    let world = World::new();
    let owner = world.owner().await;
    for subscriptions in ["one", "many"] {
        let (account, user_id) = connected(&world, &owner, subscriptions, Some(WebhookChoice::Leave)).await;
        assert_eq!(account.webhook_state, Some(WebhookState::Left));
        assert_eq!(known(&world, user_id).await, [true]);
        change(&world, &owner, account.id, order(WebhookChoice::Take)).await;
        let account = change(&world, &owner, account.id, order(WebhookChoice::Leave)).await;
        assert_eq!(account.webhook_state, Some(WebhookState::Left));
        assert!(!known(&world, user_id).await.contains(&false), "ours is ended");
    }
}

#[tokio::test]
async fn a_product_that_takes_its_place_back_each_time_gets_no_fight() {
    let shop = Shop::new().await;
    let (world, user_id) = (&shop.world, shop.outside.user_id);
    avito_keeps(world, user_id, "one").await;
    another_product(world, user_id, true).await;

    for _ in 0..4 {
        shop.a_day_later().await;
    }
    let listed = must(accounts::list(world.app, shop.owner.client, ALL).await).items;
    assert_eq!(listed[0].webhook_state, Some(WebhookState::TakenOver));
    assert_eq!(shop.addresses().await.len(), 1, "only the registration of the connection");
    let [notice] = &notices(world, &shop.owner).await[..] else { panic!("one notice") };
    assert!(notice.contains("crm.example.com") && !notice.contains("their-secret"), "{notice}");

    let account = change(world, &shop.owner, shop.account_id, order(WebhookChoice::Take)).await;
    assert_eq!(account.webhook_state, Some(WebhookState::TakenOver), "it was taken back at once");
    for _ in 0..4 {
        shop.a_day_later().await;
    }
    assert_eq!(shop.addresses().await.len(), 2, "one for the person's order, and no further");
    assert_eq!(notices(world, &shop.owner).await.len(), 1);
}

#[tokio::test]
async fn a_webhook_is_registered_again_when_the_other_product_has_gone() {
    let shop = Shop::new().await;
    let (world, user_id) = (&shop.world, shop.outside.user_id);
    avito_keeps(world, user_id, "one").await;
    another_product(world, user_id, false).await;
    shop.a_day_later().await;
    let url =
        format!("{}/_local/avito/subscriptions?user_id={user_id}&url={CRM}", crate::support::variable("STACK_CONTROL"));
    assert!(world.app.outside().delete(url).send().await.is_ok_and(|answer| answer.status().is_success()));
    shop.a_day_later().await;
    let listed = must(accounts::list(world.app, shop.owner.client, ALL).await).items;
    assert_eq!(listed[0].webhook_state, Some(WebhookState::Registered));
    assert_eq!(known(world, user_id).await, [false]);
}

#[tokio::test]
async fn an_account_that_is_switched_off_and_on_asks_before_it_registers_again() {
    let shop = Shop::new().await;
    let (world, user_id) = (&shop.world, shop.outside.user_id);
    let account = change(world, &shop.owner, shop.account_id, monitoring(false)).await;
    assert_eq!(account.webhook_state, Some(WebhookState::Off));
    assert_eq!(known(world, user_id).await, [false; 0]);
    let account = change(world, &shop.owner, shop.account_id, monitoring(true)).await;
    assert_eq!(account.webhook_state, Some(WebhookState::Registered));
    change(world, &shop.owner, shop.account_id, monitoring(false)).await;
    another_product(world, user_id, false).await;
    let account = change(world, &shop.owner, shop.account_id, monitoring(true)).await;
    assert_eq!(account.webhook_state, Some(WebhookState::Ask));
    assert_eq!(known(world, user_id).await, [true]);
}

#[tokio::test]
async fn while_avito_does_not_answer_the_account_says_so_and_is_checked_again_after_growing_waits() {
    let shop = Shop::new().await;
    let away = json!({ "target": "avito", "kind": "status", "status": 503, "method": "subscriptions",
                       "scope": { "user_id": shop.outside.user_id } });
    shop.world.control("faults", &away).await;
    let wait = async || {
        let sql = "SELECT extract(epoch FROM webhook_check_at - now())::bigint FROM avito_accounts WHERE id = $1";
        let rows = shop.world.query(Scope::Tenant(shop.owner.client), Statement::new(sql).bind(shop.account_id)).await;
        rows[0].get::<_, i64>(0)
    };
    for expected in [300, 600, 1200] {
        shop.a_day_later().await;
        let wait = wait().await;
        assert!((expected * 3 / 4..=expected * 5 / 4).contains(&wait), "{wait}");
    }
    let listed = must(accounts::list(shop.world.app, shop.owner.client, ALL).await).items;
    assert!(listed[0].webhook_error.is_some() && listed[0].webhook_state == Some(WebhookState::Registered));
    assert_eq!(notices(&shop.world, &shop.owner).await.len(), 0);
    shop.change("UPDATE avito_accounts SET webhook_failed_since = now() - interval '25 hours' WHERE id = $1").await;
    shop.a_day_later().await;
    shop.a_day_later().await;
    assert_eq!(notices(&shop.world, &shop.owner).await.len(), 1, "after a day, once");
}
