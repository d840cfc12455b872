//! `GET /api/bots`: the organisation's bots, newest first. For everyone in it.

use axum::extract::State;
use tuberry::{
    App,
    identity::caller::Caller,
    platform::{
        http::{Json, Problem, ProblemBody},
        page::{Page, PageQuery, Wanted},
    },
    tenancy::bots::{self, Bot},
};

tuberry::lambda!("bots-list", list as __path_list, [Database, Cache, Tokens]);

/// The organisation's bots, newest first.
#[utoipa::path(get, path = "/api/bots", operation_id = "bots-list", tag = "bots", params(PageQuery), responses(
    (status = 200, body = Page<Bot>, description = "Done"),
    (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "Not signed in"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "Not for this caller"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "Invalid fields"),
))]
async fn list(State(app): State<&'static App>, caller: Caller, wanted: Wanted) -> Result<Json<Page<Bot>>, Problem> {
    Ok(Json(bots::list(app, caller.client()?, wanted).await?))
}
