//! `GET /api/dialogs/{dialog_id}/messages`: the messages of a dialog, newest first. For everyone in the organisation.

use axum::extract::{Path, State};
use tuberry::{
    App,
    bridge::api::history::{self, Message},
    identity::caller::Caller,
    platform::{
        http::{Json, Problem, ProblemBody},
        page::{Page, PageQuery, Ranked},
    },
};

tuberry::lambda!("dialogs-messages-list", list as __path_list, [Database, Cache, Tokens]);

/// What was said in a dialog, newest first.
#[utoipa::path(get, path = "/api/dialogs/{dialog_id}/messages", operation_id = "dialogs-messages-list", tag = "dialogs",
    params(("dialog_id" = i64, Path, description = "Our id of the dialog"), PageQuery), responses(
    (status = 200, body = Page<Message>, description = "Done"),
    (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "Not signed in"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "Not for this caller"),
    (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "Not there"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "Invalid fields"),
))]
async fn list(
    State(app): State<&'static App>,
    caller: Caller,
    Path(dialog_id): Path<i64>,
    wanted: Ranked<3>,
) -> Result<Json<Page<Message>>, Problem> {
    let client = caller.client()?;
    Ok(Json(history::messages(app, client, dialog_id, wanted).await?.ok_or(Problem::not_found())?))
}
