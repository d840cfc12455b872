//! Tenancy: the database's own rules, and connecting bots and accounts, against real Postgres and the simulators.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tuberry::{
    bridge::ingest::polls,
    platform::{
        db::{ClientId, DbError, Scope, Statement},
        http::Problem,
        page::Wanted,
        secrets::Secret,
    },
    tenancy::{
        accounts::{self, Keys},
        bots, chats,
    },
};

use crate::support::{Owner, World, must};

async fn names(world: &World, sql: &'static str) -> Vec<String> {
    world.query(Scope::Service, Statement::new(sql)).await.iter().map(|row| row.get(0)).collect()
}

const ALL: Wanted = Wanted { limit: 200, before: i64::MAX };

// The database's catalogue

#[tokio::test]
async fn every_table_is_under_forced_row_level_security() {
    let sql = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind IN ('r', 'p') AND n.nspname = 'public' AND c.relname <> 'refinery_schema_history'
                 AND NOT (c.relrowsecurity AND c.relforcerowsecurity)";
    assert_eq!(names(&World::new(), sql).await, [""; 0]);
}

#[tokio::test]
async fn every_policy_is_for_a_named_role_and_checks_what_is_written() {
    let sql = "SELECT tablename || '.' || policyname FROM pg_policies
               WHERE schemaname = 'public'
                 AND ('public' = ANY (roles) OR (cmd <> 'SELECT' AND cmd <> 'DELETE' AND with_check IS NULL))";
    assert_eq!(names(&World::new(), sql).await, [""; 0]);
}

#[tokio::test]
async fn every_view_sees_what_its_reader_may_see() {
    let sql = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind = 'v' AND n.nspname = 'public'
                 AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false)";
    assert_eq!(names(&World::new(), sql).await, [""; 0]);
}

#[tokio::test]
async fn foreign_keys_between_tables_of_tenants_include_the_tenant() {
    let sql = "SELECT f.conname::text FROM pg_constraint f
               JOIN pg_attribute own ON own.attrelid = f.conrelid AND own.attname = 'client_id'
               JOIN pg_attribute other ON other.attrelid = f.confrelid AND other.attname = 'client_id'
               WHERE f.contype = 'f' AND NOT EXISTS (
                   SELECT FROM unnest(f.conkey, f.confkey) AS pair (mine, theirs)
                   WHERE pair.mine = own.attnum AND pair.theirs = other.attnum)";
    assert_eq!(names(&World::new(), sql).await, [""; 0]);
}

#[tokio::test]
async fn each_role_may_do_what_the_document_says_and_no_more() {
    let sql = "SELECT c.relname || ' ' || r.rolname || ' ' || a.privilege_type
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a, pg_roles r
               WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND r.oid = a.grantee
                 AND r.rolname LIKE 'tuberry%'
               UNION ALL
               SELECT c.relname || ' PUBLIC ' || a.privilege_type
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
               WHERE n.nspname = 'public' AND a.grantee = 0";
    let granted: BTreeSet<String> = names(&World::new(), sql).await.into_iter().collect();
    assert_eq!(granted, documented_grants());
}

/// Reads the rows of the table under «Grants» in `migrations/README.md`.
fn documented_grants() -> BTreeSet<String> {
    let document = include_str!("../../../../migrations/README.md");
    let table = document.split("## Grants").nth(1).unwrap_or_default();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let roles = ["tuberry_app", "tuberry_identity", "tuberry_service"];
    let mut grants = BTreeSet::new();
    for row in rows.map(cells) {
        for (role, privileges) in roles.iter().zip(&row[1..]) {
            for privilege in privileges.split(' ').filter(|privilege| !privilege.is_empty()) {
                grants.insert(format!("{} {role} {}", row[0].trim_matches('`'), privilege.to_uppercase()));
            }
        }
    }
    grants
}

// Tenants

#[tokio::test]
async fn another_tenants_rows_are_not_there() {
    let world = World::new();
    let (one, other) = (world.owner().await, world.owner().await);
    let (bot, _) = world.bot(&one).await;
    assert_eq!(must(bots::list(world.app, one.client, ALL).await).items, std::slice::from_ref(&bot));
    assert_eq!(must(bots::list(world.app, other.client, ALL).await).items, []);
    assert!(!must(bots::exists(world.app, other.client, bot.id).await));
    let steal = Statement::new("UPDATE bots SET bot_username = 'x' WHERE id = $1 RETURNING id").bind(bot.id);
    assert!(world.query(Scope::Tenant(other.client), steal).await.is_empty());
}

#[tokio::test]
async fn a_row_cannot_be_written_for_another_tenant() {
    let world = World::new();
    let (one, other) = (world.owner().await, world.owner().await);
    let (bot, _) = world.bot(&one).await;
    let foreign = |client: ClientId| {
        let insert = "INSERT INTO telegram_chats (bot_id, chat_id, client_id, bot_status) VALUES ($1, 1, $2, 'member')";
        world.app.db().query(Scope::Tenant(other.client), Statement::new(insert).bind(bot.id).bind(client.0))
    };
    let refused = foreign(one.client).await;
    assert!(matches!(&refused, Err(DbError::Statement(state)) if state == "42501"), "{refused:?}");
    let refused = foreign(other.client).await;
    assert!(refused.is_err_and(|error| error.constraint().is_some_and(|name| name.ends_with("_fkey"))));
}

#[tokio::test]
async fn without_a_tenant_nothing_is_seen() {
    let world = World::new();
    world.bot(&world.owner().await).await;
    let no_tenant = || Scope::TenantOf(bots::find_tenant_of_bot(-1));
    assert!(world.query(no_tenant(), Statement::new("SELECT id FROM bots")).await.is_empty());
    assert!(world.query(no_tenant(), Statement::new("SELECT id FROM clients")).await.is_empty());
}

#[tokio::test]
async fn a_webhooks_secret_opens_its_own_tenant_only() {
    let world = World::new();
    let (owner, other) = (world.owner().await, world.owner().await);
    let (bot, _) = world.bot(&owner).await;
    world.bot(&other).await;
    let hash: Vec<u8> = {
        let read = Statement::new("SELECT webhook_secret_hash FROM bots WHERE id = $1").bind(bot.id);
        world.query(Scope::Tenant(owner.client), read).await[0].get(0)
    };
    let ask = |hash: Vec<u8>| {
        let scope = Scope::TenantOf(bots::find_tenant_by_webhook_secret(bot.id, hash));
        world.app.db().run(scope, vec![Statement::new("SELECT id FROM bots")])
    };
    let result_sets = must(ask(hash).await);
    assert_eq!(result_sets[0][0].get::<_, i64>("client_id"), owner.client.0);
    assert_eq!(result_sets[1].iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [bot.id]);
    let result_sets = must(ask(Secret::random().hash().to_vec()).await);
    assert!(result_sets[0].is_empty() && result_sets[1].is_empty());
}

// Bots

#[tokio::test]
async fn a_connected_bot_has_its_webhook_set_and_its_token_sealed() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, outside) = world.bot(&owner).await;
    assert!(bot.webhook_set_at.is_some());
    assert_eq!((bot.group_chat_id, bot.status), (Some(outside.chat_id), bots::BotStatus::Active));

    let calls = world.ask("calls?target=telegram&method=setWebhook").await;
    let address = format!("/api/webhooks/telegram/{}/", bot.id);
    let is_ours = |call: &&Value| call["params"]["url"].as_str().is_some_and(|url| url.contains(&address));
    let set = calls["calls"].as_array().into_iter().flatten().rfind(is_ours).map(|call| call["params"].clone());
    let set = set.unwrap_or_default();
    assert_eq!(set["max_connections"], 40);
    assert_eq!(set["allowed_updates"], json!(["message", "edited_message", "callback_query", "my_chat_member"]));
    let path_secret = Secret::new(set["url"].as_str().and_then(|url| url.rsplit('/').next()).unwrap_or_default());
    assert!(world.app.keyring().derives(&path_secret, set["secret_token"].as_str().unwrap_or_default()));

    let read = Statement::new(
        "SELECT b.token, b.webhook_secret_hash, c.bot_status FROM bots b JOIN telegram_chats c ON c.bot_id = b.id
         WHERE b.id = $1 AND c.chat_id = b.group_chat_id",
    );
    let rows = world.query(Scope::Tenant(owner.client), read.bind(bot.id)).await;
    let token = world.app.keyring().open(rows[0].get("token"), bots::token_context(owner.client));
    assert!(token.is_ok_and(|token| token.expose() == outside.token.expose()));
    assert_eq!(rows[0].get::<_, Vec<u8>>("webhook_secret_hash"), path_secret.hash());
    assert_eq!(rows[0].get::<_, String>("bot_status"), "administrator");
}

#[tokio::test]
async fn a_connected_bot_is_refused_to_its_own_client_and_to_another() {
    let world = World::new();
    let (one, other) = (world.owner().await, world.owner().await);
    let (_, outside) = world.bot(&one).await;
    for owner in [&one, &other] {
        let refused = world.connect_bot(owner, &outside).await.err().map(Problem::from);
        assert_eq!(refused.map(|problem| problem.status().as_u16()), Some(409));
    }
    assert_eq!(must(bots::list(world.app, other.client, ALL).await).items, []);
}

#[tokio::test]
async fn connecting_a_bot_without_a_needed_right_names_the_right() {
    let world = World::new();
    let owner = world.owner().await;
    let outside = world.outside_bot(json!({ "can_manage_topics": false })).await;
    match world.connect_bot(&owner, &outside).await {
        Err(bots::ConnectError::Group(text)) => assert!(text.en.contains("manage topics"), "{}", text.en),
        outcome => panic!("{:?}", outcome.map(|bot| bot.id)),
    }
}

#[tokio::test]
async fn a_bot_outside_the_group_and_an_unknown_token_are_refused() {
    let world = World::new();
    let owner = world.owner().await;
    let (mut outside, elsewhere) = (world.outside_bot(Value::Null).await, world.outside_bot(Value::Null).await);
    outside.chat_id = elsewhere.chat_id;
    assert!(matches!(world.connect_bot(&owner, &outside).await, Err(bots::ConnectError::Group(_))));
    outside.token = Secret::new("1:AAnobodyhasthistokenAAnobodyhasthistoken");
    assert!(matches!(world.connect_bot(&owner, &outside).await, Err(bots::ConnectError::BadToken)));
}

#[tokio::test]
async fn the_platforms_own_bot_cannot_be_connected() {
    let world = World::new();
    let owner = world.owner().await;
    let token = format!("{}:{}", World::new_id(), Secret::random().expose());
    let username = format!("platform_{}_bot", World::new_id());
    world.control("telegram/bots", &json!({ "token": token, "username": username })).await;
    let platform = World::with(&[("MASTER_BOT_NAME", &username)]);
    let new = bots::NewBot { token: Secret::new(token), group_chat_id: None, topic_mode: true };
    assert!(matches!(bots::check(platform.app, &new).await, Err(bots::ConnectError::PlatformBot)));
    assert!(bots::check(world.app, &new).await.is_ok(), "{}", owner.user_id);
}

#[tokio::test]
async fn a_bot_whose_webhook_fails_is_not_there_and_can_be_connected_later() {
    let world = World::new();
    let owner = world.owner().await;
    let outside = world.outside_bot(Value::Null).await;
    let fault = json!({
        "target": "telegram", "method": "setWebhook", "scope": { "token": outside.token.expose() },
        "kind": "status", "status": 502, "times": 1,
    });
    world.control("faults", &fault).await;
    let refused = world.connect_bot(&owner, &outside).await.err().map(Problem::from);
    assert_eq!(refused.map(|problem| problem.status().as_u16()), Some(503));
    assert_eq!(must(bots::list(world.app, owner.client, ALL).await).items, []);
    assert!(world.connect_bot(&owner, &outside).await.is_ok());
}

#[tokio::test]
async fn a_change_of_a_bot_returns_a_row_once() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, outside) = world.bot(&owner).await;
    let changed_rows = async |statement: Statement| world.query(Scope::Tenant(owner.client), statement).await.len();
    assert_eq!(changed_rows(bots::mark_working(bot.id)).await, 0);
    assert_eq!(changed_rows(bots::mark_broken(bot.id, "kicked")).await, 1);
    assert_eq!(changed_rows(bots::mark_broken(bot.id, "kicked")).await, 0);
    assert_eq!(changed_rows(bots::mark_working(bot.id)).await, 1);
    assert_eq!(changed_rows(bots::move_group(bot.id, outside.chat_id, -5)).await, 1);
    assert_eq!(changed_rows(bots::move_group(bot.id, outside.chat_id, -6)).await, 0);
    for title in ["Старое", "Новое"] {
        changed_rows(chats::store_chat(bot.id, -5, title.to_owned(), true, "member")).await;
    }
    let titles = Statement::new("SELECT title FROM telegram_chats WHERE bot_id = $1 AND chat_id = -5").bind(bot.id);
    let titles = world.query(Scope::Tenant(owner.client), titles).await;
    assert_eq!(titles.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["Новое"]);
}

#[tokio::test]
async fn a_list_comes_page_by_page() {
    let world = World::new();
    let owner = world.owner().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, world.bot(&owner).await.0.id);
    }
    let first = must(bots::list(world.app, owner.client, Wanted { limit: 2, before: i64::MAX }).await);
    let rest = must(bots::list(world.app, owner.client, Wanted { limit: 2, before: ids[1] }).await);
    assert!(first.next_cursor.is_some() && rest.next_cursor.is_none());
    assert_eq!(first.items.iter().chain(&rest.items).map(|bot| bot.id).collect::<Vec<_>>(), ids);
}

// Avito accounts

/// Reads an account's keys as workers do.
async fn keys(world: &World, owner: &Owner, account_id: i64) -> Keys {
    let read = Statement::new("SELECT * FROM tenancy_accounts WHERE avito_account_id = $1").bind(account_id);
    let rows = world.query(Scope::Tenant(owner.client), read).await;
    must(Keys::read(&rows[0]))
}

#[tokio::test]
async fn a_connected_account_is_known_to_avito_and_polled_and_its_secrets_are_sealed() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, _) = world.bot(&owner).await;
    let (account, outside) = world.account(&owner, bot.id).await;
    assert_eq!((account.user_id, account.name.as_str()), (outside.user_id, "Велосипеды"));
    assert!(account.webhook_registered_at.is_some() && account.webhook_error.is_none());
    assert_eq!(must(accounts::list(world.app, owner.client, ALL).await).items, std::slice::from_ref(&account));

    world.query(Scope::Tenant(owner.client), polls::start_polling(account.id)).await;
    let polled = Statement::new("SELECT next_poll_at FROM account_polls WHERE avito_account_id = $1").bind(account.id);
    assert_eq!(world.query(Scope::Tenant(owner.client), polled).await.len(), 1);

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
        "UPDATE avito_accounts SET webhook_registered_at = NULL, created_at = now() - interval '2 minutes' WHERE id = $1",
    );
    world.query(Scope::Tenant(owner.client), break_off.bind(account.id)).await;
    let again = must(world.connect_account(&owner, bot.id, &outside).await);
    assert!(again.id != account.id && again.webhook_registered_at.is_some());
}

#[tokio::test]
async fn a_bot_whose_creation_broke_off_can_be_connected_again() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, outside) = world.bot(&owner).await;
    let break_off = Statement::new(
        "UPDATE bots SET webhook_set_at = NULL, created_at = now() - interval '2 minutes' WHERE id = $1",
    );
    world.query(Scope::Tenant(owner.client), break_off.bind(bot.id)).await;
    assert!(must(world.connect_bot(&owner, &outside).await).id != bot.id);
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
    let (one, other) = (must(one), must(other));
    assert!(one.expose() != token.expose() && one.expose() == other.expose());
    let again = must(accounts::renewed_token(world.app, &stored, &token).await);
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
    let ends = keys(&world, &owner, account.id).await.token_expires_at;
    assert!(ends > aged.token_expires_at);
}
