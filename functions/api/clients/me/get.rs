//! `GET /api/clients/me`: the caller's organisation with its settings. For everyone in it.

use axum::extract::State;
use tuberry::{
    App,
    identity::caller::Caller,
    platform::http::{Json, Problem, ProblemBody},
    tenancy::clients::{self, Client},
};

#[utoipa::path(get, path = "/api/clients/me", operation_id = "clients-get", tag = "clients", responses(
    (status = 200, body = Client),
    (status = 401, body = ProblemBody),
    (status = 403, body = ProblemBody),
))]
async fn read(State(app): State<&'static App>, caller: Caller) -> Result<Json<Client>, Problem> {
    Ok(Json(clients::find(app, caller.client()?).await?))
}

tuberry::lambda!("clients-get", read as __path_read, [Database, Cache, Tokens]);
