//! Signing in and staying signed in, against real Postgres and Redis.

#[path = "../support/mod.rs"]
mod support;

use axum::{extract::FromRequestParts, http::Request};
use support::{World, must};
use tuberry::{
    App,
    identity::{
        SignInError,
        caller::Caller,
        sessions,
        users::{Role, find},
        ways::login_widget::{SignedIn, WidgetFields, sign_in},
    },
    platform::{
        db::{Scope, Statement},
        http::Problem,
    },
};
use uuid::Uuid;

async fn call(app: &'static App, authorization: &str) -> Result<Caller, u16> {
    let request = Request::get("/").header("authorization", authorization).body(());
    let (mut parts, ()) = request.unwrap_or_else(|error| panic!("{error}")).into_parts();
    Caller::from_request_parts(&mut parts, &app).await.map_err(|problem| problem.status().as_u16())
}

async fn call_with(app: &'static App, signed_in: &SignedIn) -> Result<Caller, u16> {
    call(app, &format!("Bearer {}", signed_in.tokens.access.expose())).await
}

fn status(error: SignInError) -> u16 {
    Problem::from(error).status().as_u16()
}

/// Changes a row that only the scope `Identity` may change.
async fn as_identity(world: &World, sql: &'static str, id: i64) {
    world.query(Scope::Identity, Statement::new(sql).bind(id)).await;
}

#[tokio::test]
async fn the_first_sign_in_makes_an_organisation_with_its_owner_and_the_next_finds_them() {
    let (world, id) = (World::new(), World::new_id());
    let first = must(world.sign_in(id, "Анна").await);
    let second = must(world.sign_in(id, "Анна").await);
    assert_eq!((first.account.user.role, first.account.user.name.as_str()), (Role::Owner, "Анна"));
    assert_eq!(first.account.user, second.account.user);
    assert_eq!(first.account.client.as_ref().map(|client| client.name.as_str()), Some("Анна"));
    let found = must(find(world.app, first.account.user.id).await).map(|account| account.user);
    assert_eq!(found, Some(first.account.user));
}

#[tokio::test]
async fn two_first_sign_ins_at_once_make_one_user_and_one_organisation() {
    let (one, other, id) = (World::new(), World::new(), World::new_id());
    for world in [&one, &other] {
        must(world.sign_in(World::new_id(), "Анна").await); // both are connected, so that the sign-ins overlap
    }
    let name = format!("Вместе {id}");
    let (first, second) = tokio::join!(one.sign_in(id, &name), other.sign_in(id, &name));
    assert_eq!(must(first).account.user, must(second).account.user);
    let count = Statement::new("SELECT count(*) AS count FROM clients WHERE name = $1").bind(name);
    assert_eq!(one.query(Scope::Identity, count).await[0].get::<_, i64>("count"), 1);
}

#[tokio::test]
async fn an_answer_of_the_widget_opens_one_session_only() {
    let world = World::new();
    let fields = world.widget(World::new_id(), "Анна");
    let (first, second) = tokio::join!(sign_in(world.app, &fields), sign_in(world.app, &fields));
    assert_eq!([first.is_ok(), second.is_ok()].iter().filter(|won| **won).count(), 1);
    assert!(matches!(sign_in(world.app, &fields).await, Err(SignInError::Used)));
}

#[tokio::test]
async fn an_answer_that_telegram_did_not_sign_is_refused() {
    let (world, id) = (World::new(), World::new_id());
    let WidgetFields(mut fields) = world.widget(id, "Анна");
    fields.insert("id".to_owned(), (id + 1).to_string());
    let outcome = sign_in(world.app, &WidgetFields(fields)).await;
    assert_eq!(outcome.err().map(status), Some(401));
}

#[tokio::test]
async fn the_configured_person_signs_in_as_the_platforms_admin_and_is_refused_without_configuration() {
    let id = World::new_id();
    let world = World::with(&[("ADMIN_TELEGRAM_ID", &id.to_string())]);
    let admin = must(world.sign_in(id, "Админ").await);
    assert_eq!((admin.account.user.role, admin.account.user.client_id), (Role::Admin, None));
    let caller = call_with(world.app, &admin).await;
    assert!(caller.is_ok_and(|caller| caller.admin().is_ok() && caller.client().is_err()));

    let without = World::with(&[("ADMIN_TELEGRAM_ID", "")]);
    assert_eq!(without.sign_in(id, "Админ").await.err().map(status), Some(403));
}

#[tokio::test]
async fn an_owner_of_an_organisation_does_not_become_admin_by_configuration() {
    let id = World::new_id();
    must(World::with(&[("ADMIN_TELEGRAM_ID", "")]).sign_in(id, "Анна").await);
    let outcome = World::with(&[("ADMIN_TELEGRAM_ID", &id.to_string())]).sign_in(id, "Анна").await;
    assert_eq!(outcome.err().map(status), Some(409));
}

#[tokio::test]
async fn an_access_token_names_its_user_and_a_refresh_token_opens_nothing() {
    let world = World::new();
    let signed_in = must(world.sign_in(World::new_id(), "Анна").await);
    let caller = call_with(world.app, &signed_in).await;
    let expected = (signed_in.account.user.id, signed_in.account.tenant(), Role::Owner);
    assert_eq!(caller.map(|caller| (caller.user_id, caller.client_id, caller.role)), Ok(expected));
    let refresh = format!("Bearer {}", signed_in.tokens.refresh.expose());
    assert_eq!(call(world.app, &refresh).await, Err(401));
    assert_eq!(call(world.app, "Bearer nonsense").await, Err(401));
}

#[tokio::test]
async fn a_deleted_session_is_refused() {
    let world = World::new();
    let signed_in = must(world.sign_in(World::new_id(), "Анна").await);
    as_identity(&world, "DELETE FROM sessions WHERE user_id = $1", signed_in.account.user.id).await;
    assert_eq!(call_with(world.app, &signed_in).await, Err(401));
}

#[tokio::test]
async fn suspension_ends_sessions_that_redis_does_not_remember_and_refuses_sign_ins() {
    let (world, id) = (World::new(), World::new_id());
    let signed_in = must(world.sign_in(id, "Анна").await);
    let caller = call_with(world.app, &signed_in).await;
    let session_id = caller.map(|caller| caller.session_id).unwrap_or_default();
    let client_id = signed_in.account.user.client_id.unwrap_or_default();
    as_identity(&world, "UPDATE clients SET suspended_at = now() WHERE id = $1", client_id).await;
    sessions::forget(world.app, &[session_id]).await;
    assert_eq!(call_with(world.app, &signed_in).await, Err(401));
    assert_eq!(world.sign_in(id, "Анна").await.err().map(status), Some(403));
}

#[tokio::test]
async fn a_deactivated_user_cannot_sign_in_and_loses_the_session() {
    let (world, id) = (World::new(), World::new_id());
    let signed_in = must(world.sign_in(id, "Анна").await);
    as_identity(&world, "UPDATE users SET is_active = false WHERE id = $1", signed_in.account.user.id).await;
    assert_eq!(world.sign_in(id, "Анна").await.err().map(status), Some(403));
    assert_eq!(call_with(world.app, &signed_in).await, Err(401));
}

#[tokio::test]
async fn without_redis_sessions_live_on() {
    let world = World::with(&[("REDIS_URL", "redis://127.0.0.1:1/0")]);
    let signed_in = must(world.sign_in(World::new_id(), "Анна").await);
    assert!(call_with(world.app, &signed_in).await.is_ok());
    assert_eq!(must(sessions::live(world.app, Uuid::new_v4()).await), None);
}

#[tokio::test]
async fn a_live_session_costs_postgres_nothing_within_a_minute() {
    let world = World::new();
    let signed_in = must(world.sign_in(World::new_id(), "Анна").await);
    assert!(call_with(world.app, &signed_in).await.is_ok());
    let before = world.app.db().round_trips();
    assert!(call_with(world.app, &signed_in).await.is_ok());
    assert_eq!(world.app.db().round_trips(), before);
}

#[tokio::test]
async fn the_eleventh_session_ends_the_oldest_at_once() {
    let (world, id) = (World::new(), World::new_id());
    let oldest = must(world.sign_in(id, "Анна").await);
    assert!(call_with(world.app, &oldest).await.is_ok());
    let second = must(world.sign_in(id, "Анна").await);
    for _ in 0..9 {
        must(world.sign_in(id, "Анна").await);
    }
    assert_eq!(call_with(world.app, &oldest).await, Err(401));
    assert!(call_with(world.app, &second).await.is_ok());
}
