//! Staying signed in.

use tuberry::identity::{sessions, users::Role};
use uuid::Uuid;

use crate::{
    as_identity, call, call_with, status,
    support::{World, must},
};

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
