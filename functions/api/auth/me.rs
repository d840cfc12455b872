//! `GET /api/auth/me`: the signed-in person with their organisation. For everyone who is signed in.

use axum::extract::State;
use serde::Serialize;
use tuberry::{
    App,
    identity::{
        caller::Caller,
        users::{self, Organisation, User},
    },
    platform::http::{Json, Problem, ProblemBody},
};
use utoipa::ToSchema;

tuberry::lambda!("auth-me", me as __path_me, [Database, Cache, Tokens]);

/// The caller.
#[derive(Serialize, ToSchema)]
struct Me {
    /// The person.
    user: User,
    /// The organisation; null for the platform's admin.
    client: Option<Organisation>,
}

/// Who is signed in.
#[utoipa::path(get, path = "/api/auth/me", operation_id = "auth-me", tag = "auth", responses(
    (status = 200, body = Me, description = "Done"),
    (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "Not signed in"),
))]
async fn me(State(app): State<&'static App>, caller: Caller) -> Result<Json<Me>, Problem> {
    let account = users::find(app, caller.user_id).await?.ok_or(Problem::unauthorized())?;
    Ok(Json(Me { user: account.user, client: account.client }))
}
