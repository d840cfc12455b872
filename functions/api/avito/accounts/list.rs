//! `GET /api/avito/accounts`: the organisation's Avito accounts, newest first. For everyone in it.

use axum::extract::State;
use tuberry::{
    App,
    identity::caller::Caller,
    platform::{
        http::{Json, Problem, ProblemBody},
        page::{Page, PageQuery, Wanted},
    },
    tenancy::accounts::{self, AvitoAccount},
};

tuberry::lambda!("avito-accounts-list", list as __path_list, [Database, Cache, Tokens]);

/// The organisation's Avito accounts, newest first.
#[utoipa::path(get, path = "/api/avito/accounts", operation_id = "avito-accounts-list", tag = "avito",
    params(PageQuery), responses(
    (status = 200, body = Page<AvitoAccount>, description = "Done"),
    (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "Not signed in"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "Not for this caller"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "Invalid fields"),
))]
async fn list(
    State(app): State<&'static App>,
    caller: Caller,
    wanted: Wanted,
) -> Result<Json<Page<AvitoAccount>>, Problem> {
    Ok(Json(accounts::list(app, caller.client()?, wanted).await?))
}
