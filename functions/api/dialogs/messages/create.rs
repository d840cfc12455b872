//! `POST /api/dialogs/{dialog_id}/messages`: replies to a buyer by hand. For everyone in the organisation.
//! The reply is stored with its parts, then the dialog is woken. The topic shows the reply under its writer's name.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use garde::Validate;
use serde::Deserialize;
use tuberry::{
    App,
    bridge::api::{
        history::Message,
        reply::{self, MAX_LENGTH, Reply},
    },
    identity::{caller::Caller, users},
    platform::http::{Json, Problem, ProblemBody},
    tenancy::idempotency,
};
use utoipa::ToSchema;

tuberry::lambda!(
    "dialogs-messages-create",
    create as __path_create,
    [Database, Cache, Tokens, TelegramQueue, AvitoQueue]
);

/// A reply to a buyer.
#[derive(Deserialize, ToSchema, Validate)]
struct MessageCreate {
    /// What it says; in Avito it becomes as many messages as 1,000 characters each make of it.
    #[garde(length(chars, max = MAX_LENGTH), custom(sayable))]
    #[schema(min_length = 1, max_length = 4096)]
    text: String,
}

fn sayable<C>(text: &str, _: &C) -> garde::Result {
    if text.trim().is_empty() {
        return Err(garde::Error::new("is blank"));
    }
    if text.contains('\0') { Err(garde::Error::new("holds a character that cannot be stored")) } else { Ok(()) }
}

/// Replies to a buyer.
#[utoipa::path(post, path = "/api/dialogs/{dialog_id}/messages", operation_id = "dialogs-messages-create", tag = "dialogs",
    request_body = MessageCreate, params(
        ("dialog_id" = i64, Path, description = "Our id of the dialog"),
        ("Idempotency-Key" = Option<String>, Header,
         description = "1 to 255 characters; within a day the same key and text are answered alike and sent once")),
    responses(
    (status = 201, body = Message, description = "Taken, on its way"),
    (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "Not signed in"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "Not for this caller"),
    (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "Not there"),
    (status = 409, body = ProblemBody, content_type = "application/problem+json",
     description = "`dialog_blocked`, `account_refused`, `account_not_monitored`, `suspended`"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json",
     description = "`invalid` with the fields, `idempotency_key_reused`"),
))]
async fn create(
    State(app): State<&'static App>,
    caller: Caller,
    Path(dialog_id): Path<i64>,
    headers: HeaderMap,
    Json(body): Json<MessageCreate>,
) -> Result<(StatusCode, Json<Message>), Problem> {
    let client = caller.client()?;
    let key = idempotency::key(&headers)?;
    let author = users::find(app, caller.user_id).await?.ok_or(Problem::unauthorized())?.user.name;
    let reply = Reply { dialog_id, text: body.text, user_id: caller.user_id, author, key };
    Ok((StatusCode::CREATED, Json(Box::pin(reply::reply(app, client, reply)).await?)))
}
