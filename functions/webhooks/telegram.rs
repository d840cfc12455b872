//! `POST /api/webhooks/telegram/{bot_id}/{webhook_secret}`: Telegram reports what people write in the group of a
//! seller's bot. Before the 200 it is stored as a row. 503: it could not be stored, or it came too early; Telegram
//! repeats it.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use tuberry::{
    App,
    bridge::operator::webhook::{Credentials, UpdateResult, receive_telegram_update},
    platform::{
        http::{Problem, ProblemBody, TELEGRAM_WEBHOOK_LIMIT, WebhookBody},
        secrets::Secret,
    },
};

tuberry::lambda!("telegram-webhook", receive as __path_receive, [FastDatabase, Secrets, AvitoQueue, TelegramQueue]);

/// Takes an update from Telegram.
#[utoipa::path(
    post,
    path = "/api/webhooks/telegram/{bot_id}/{webhook_secret}",
    operation_id = "telegram-webhook",
    tag = "webhooks",
    params(
        ("bot_id" = i64, Path),
        ("webhook_secret" = String, Path),
        ("X-Telegram-Bot-Api-Secret-Token" = String, Header),
    ),
    request_body(content = serde_json::Value, description = "An update of the Bot API; anything else is ignored"),
    responses(
        (status = 200, description = "Recorded, or nothing to record; may hold one call of the Bot API"),
        (status = 404, description = "A wrong secret", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Nothing durable could take it", body = ProblemBody,
         content_type = "application/problem+json"),
    )
)]
async fn receive(
    State(app): State<&'static App>,
    Path((bot_id, webhook_secret)): Path<(i64, String)>,
    headers: HeaderMap,
    WebhookBody(body): WebhookBody<TELEGRAM_WEBHOOK_LIMIT>,
) -> Result<Response, Problem> {
    let header = headers.get("x-telegram-bot-api-secret-token").and_then(|value| value.to_str().ok());
    let credentials = Credentials { path: Secret::new(webhook_secret), header: header.unwrap_or_default().to_owned() };
    match receive_telegram_update(app, bot_id, &credentials, &body).await {
        Ok(UpdateResult::Done) => Ok(StatusCode::OK.into_response()),
        Ok(UpdateResult::Answer(call)) => Ok(axum::Json(call).into_response()),
        Ok(UpdateResult::WrongSecret) => Err(Problem::not_found()),
        Ok(UpdateResult::NotYet) => Err(Problem::unavailable().after(1)),
        Err(error) => {
            tracing::error!(%error, "an update was not recorded");
            Err(Problem::unavailable())
        }
    }
}
