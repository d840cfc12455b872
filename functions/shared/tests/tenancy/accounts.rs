//! Avito accounts: connecting them, and their tokens.

use serde_json::json;
use tuberry::{
    bridge::ingest::polls,
    platform::{
        db::{Scope, Statement},
        http::Problem,
        secrets::Secret,
    },
    tenancy::accounts::{self, Keys, NewAccount},
};

use crate::{
    ALL,
    support::{Owner, World, must},
};

/// Reads an account's keys as workers do.
async fn keys(world: &World, owner: &Owner, account_id: i64) -> Keys {
    let read = Statement::new("SELECT * FROM tenancy_accounts WHERE avito_account_id = $1").bind(account_id);
    let rows = world.query(Scope::Tenant(owner.client), read).await;
    must(Keys::read(&rows[0]))
}

#[tokio::test]
async fn a_connected_account_is_known_to_avito_and_its_secrets_are_sealed() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, _) = world.bot(&owner).await;
    let (account, outside) = world.account(&owner, bot.id).await;
    assert_eq!((account.user_id, account.name.as_str()), (outside.user_id, "Велосипеды"));
    assert!(account.webhook_registered_at.is_some() && account.webhook_error.is_none());
    assert_eq!(must(accounts::list(world.app, owner.client, ALL).await).items, std::slice::from_ref(&account));

    let keys = keys(&world, &owner, account.id).await;
    let secret = world.app.keyring().open(&keys.api_client_secret, accounts::secret_context(owner.client));
    assert!(secret.is_ok_and(|secret| secret.expose() == outside.api_client_secret));
    let calls = world.ask("calls?target=avito&method=webhook.register").await;
    let address = format!("/api/webhooks/avito/messages/{}/", account.id);
    assert!(calls["calls"].to_string().contains(&address));
    let read = Statement::new("SELECT details::text FROM audit_log WHERE action = 'avito_account.create'");
    let seen = world.app.db().query(Scope::Tenant(owner.client), read).await;
    assert!(seen.is_err(), "the audit log is not read by the tenant's role");
}

#[tokio::test]
async fn an_account_is_polled_even_if_its_creation_breaks_off_before_the_webhook_is_registered() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, _) = world.bot(&owner).await;
    let outside = world.outside_account().await;
    let new = NewAccount {
        name: None,
        api_client_id: outside.api_client_id,
        api_client_secret: Secret::new(outside.api_client_secret),
        bot_id: bot.id,
        monitoring_enabled: true,
        webhook: None,
    };
    let checked = must(accounts::check(world.app, &new).await);
    let start = |avito_user_id| vec![polls::start_polling(avito_user_id)];

    let account = must(accounts::insert(world.app, owner.client, owner.user_id, new, checked, start).await);

    let listed = must(accounts::list(world.app, owner.client, ALL).await).items;
    assert_eq!(listed.iter().map(|account| account.id).collect::<Vec<_>>(), [account.id]);
    let due = Statement::new(
        "SELECT FROM account_polls WHERE avito_account_id = $1 AND next_poll_at <= now() + interval '1 minute'",
    );
    assert_eq!(world.query(Scope::Tenant(owner.client), due.bind(account.id)).await.len(), 1);
}

#[tokio::test]
async fn a_connected_account_is_refused_to_its_own_client_and_to_another() {
    let world = World::new();
    let (one, other) = (world.owner().await, world.owner().await);
    let ((first, _), (second, _)) = (world.bot(&one).await, world.bot(&other).await);
    let (_, outside) = world.account(&one, first.id).await;
    for (owner, bot) in [(&one, &first), (&other, &second)] {
        let outcome = world.connect_account(owner, bot.id, &outside).await;
        assert!(matches!(outcome, Err(accounts::ConnectError::Taken)));
    }
}

#[tokio::test]
async fn an_account_is_not_connected_to_another_tenants_bot() {
    let world = World::new();
    let (one, other) = (world.owner().await, world.owner().await);
    let (bot, _) = world.bot(&one).await;
    let outside = world.outside_account().await;
    let outcome = world.connect_account(&other, bot.id, &outside).await;
    assert!(matches!(outcome, Err(accounts::ConnectError::NoSuchBot)));
}

#[tokio::test]
async fn keys_that_avito_does_not_know_are_refused() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, _) = world.bot(&owner).await;
    let mut outside = world.outside_account().await;
    outside.api_client_secret = "wrong".to_owned();
    let refused = world.connect_account(&owner, bot.id, &outside).await.err().map(Problem::from);
    assert_eq!(refused.map(|problem| problem.status().as_u16()), Some(422));
}

#[tokio::test]
async fn an_account_stays_when_avito_does_not_take_the_webhook() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, _) = world.bot(&owner).await;
    let outside = world.outside_account().await;
    let fault = json!({
        "target": "avito", "method": "webhook.register", "scope": { "user_id": outside.user_id },
        "kind": "status", "status": 500,
    });
    world.control("faults", &fault).await;
    let account = must(world.connect_account(&owner, bot.id, &outside).await);
    assert!(account.webhook_registered_at.is_none() && account.webhook_error.is_some());
}

#[tokio::test]
async fn an_account_whose_creation_broke_off_can_be_connected_again() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, _) = world.bot(&owner).await;
    let (account, outside) = world.account(&owner, bot.id).await;
    let break_off = Statement::new(
        "UPDATE avito_accounts SET webhook_state = NULL, created_at = now() - interval '2 minutes' WHERE id = $1",
    );
    world.query(Scope::Tenant(owner.client), break_off.bind(account.id)).await;
    let again = must(world.connect_account(&owner, bot.id, &outside).await);
    assert!(again.id != account.id && again.webhook_registered_at.is_some());
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_however_many_workers_ask() {
    let (world, beside) = (World::new(), World::new());
    let owner = world.owner().await;
    let (bot, _) = world.bot(&owner).await;
    let (account, _) = world.account(&owner, bot.id).await;
    let stored = keys(&world, &owner, account.id).await;
    let token = must(accounts::access_token(world.app, &stored).await);
    let (one, other) = tokio::join!(
        accounts::renewed_token(world.app, &stored, &token),
        accounts::renewed_token(beside.app, &stored, &token),
    );
    let [one, other] = [one, other].map(|token| must(token).unwrap_or_else(|| panic!("a new token")));
    assert!(one.expose() != token.expose() && one.expose() == other.expose());
    let again =
        must(accounts::renewed_token(world.app, &stored, &token).await).unwrap_or_else(|| panic!("the new token"));
    assert!(again.expose() == one.expose());
}

#[tokio::test]
async fn a_token_near_its_end_is_renewed_before_it_is_used() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, _) = world.bot(&owner).await;
    let (account, _) = world.account(&owner, bot.id).await;
    let stored = keys(&world, &owner, account.id).await;
    let before = must(accounts::access_token(world.app, &stored).await);
    let age =
        Statement::new("UPDATE avito_accounts SET token_expires_at = now() + interval '50 seconds' WHERE id = $1");
    world.query(Scope::Tenant(owner.client), age.bind(account.id)).await;
    let aged = keys(&world, &owner, account.id).await;
    let after = must(accounts::access_token(world.app, &aged).await);
    assert!(after.expose() != before.expose());
    let late = must(accounts::access_token(world.app, &aged).await);
    assert!(late.expose() == after.expose(), "who read the account before it uses the new token");
    let ends = keys(&world, &owner, account.id).await.token_expires_at;
    assert!(ends > aged.token_expires_at);
}
