//! `POST /api/webhooks/avito/messages/{account_id}/{secret}`: Avito reports a message. Before the 200 it is stored as a
//! row, or in the intake queue while Postgres is away. 503: neither could store it. Any other body gets a 200; after one
//! that cannot be read the account is polled at once.

use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use tuberry::{
    App,
    bridge::ingest::avito_webhook::{WebhookResult, receive_avito_webhook},
    platform::{
        http::{AVITO_WEBHOOK_LIMIT, Problem, ProblemBody, WebhookBody},
        secrets::Secret,
    },
};

tuberry::lambda!(
    "avito-webhook",
    receive as __path_receive,
    [FastDatabase, Cache, AutoReplyDelay, TelegramQueue, IntakeQueue, AutoReplyQueue]
);

/// Takes a message from Avito.
#[utoipa::path(
    post,
    path = "/api/webhooks/avito/messages/{account_id}/{secret}",
    operation_id = "avito-webhook",
    tag = "webhooks",
    params(("account_id" = i64, Path), ("secret" = String, Path)),
    request_body(content = serde_json::Value, description = "Avito's notification, version 3; anything else is ignored"),
    responses(
        (status = 200, description = "Recorded, or nothing to record"),
        (status = 404, description = "A wrong secret", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Nothing durable could take it", body = ProblemBody,
         content_type = "application/problem+json"),
    )
)]
async fn receive(
    State(app): State<&'static App>,
    Path((account_id, secret)): Path<(i64, String)>,
    WebhookBody(body): WebhookBody<AVITO_WEBHOOK_LIMIT>,
) -> Result<StatusCode, Problem> {
    match receive_avito_webhook(app, account_id, &Secret::new(secret), &body).await {
        WebhookResult::Done => Ok(StatusCode::OK),
        WebhookResult::WrongSecret => Err(Problem::not_found()),
        WebhookResult::NotStored => Err(Problem::unavailable()),
    }
}
