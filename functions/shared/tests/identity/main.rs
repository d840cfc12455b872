//! Signing in and staying signed in, against real Postgres and Redis.

mod sessions;
mod sign_in;
#[path = "../support/mod.rs"]
mod support;

use axum::{extract::FromRequestParts, http::Request};
use support::World;
use tuberry::{
    App,
    identity::{SignInError, caller::Caller, ways::login_widget::SignedIn},
    platform::{
        db::{Scope, Statement},
        http::Problem,
    },
};

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
