//! `GET /api/bots/{bot_id}`: one of the organisation's bots. For everyone in it.

use axum::extract::{Path, State};
use tuberry::{
    App,
    identity::caller::Caller,
    platform::http::{Json, Problem, ProblemBody},
    tenancy::bots::{self, Bot},
};

tuberry::lambda!("bots-get", read as __path_read, [Database, Cache, Tokens]);

/// One of the organisation's bots.
#[utoipa::path(get, path = "/api/bots/{bot_id}", operation_id = "bots-get", tag = "bots",
    params(("bot_id" = i64, Path, description = "Our id of the bot")), responses(
    (status = 200, body = Bot, description = "Done"),
    (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "Not signed in"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "Not for this caller"),
    (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "Not there"),
))]
async fn read(State(app): State<&'static App>, caller: Caller, Path(bot_id): Path<i64>) -> Result<Json<Bot>, Problem> {
    Ok(Json(bots::find(app, caller.client()?, bot_id).await?.ok_or(Problem::not_found())?))
}
