//! `POST /api/bots/{bot_id}/webhook`: sets a bot's webhook again, with a new secret. For the organisation's owner.

use axum::extract::{Path, State};
use tuberry::{
    App,
    identity::caller::Caller,
    platform::http::{Json, Problem, ProblemBody},
    tenancy::bots::{self, Bot},
};

tuberry::lambda!("bots-webhook", renew as __path_renew, [Database, Cache, Tokens, Secrets, TelegramApi, PublicBaseUrl]);

/// Sets a bot's webhook again, with a new secret; the old one ends.
#[utoipa::path(post, path = "/api/bots/{bot_id}/webhook", operation_id = "bots-webhook", tag = "bots",
    params(("bot_id" = i64, Path, description = "Our id of the bot")), responses(
    (status = 200, body = Bot, description = "Set"),
    (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "Not signed in"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "Not for this caller"),
    (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "Not there"),
    (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`webhook_changing`"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json",
     description = "`bad_token`: Telegram does not take the bot's token any more"),
    (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "`webhook_failed`"),
))]
async fn renew(State(app): State<&'static App>, caller: Caller, Path(bot_id): Path<i64>) -> Result<Json<Bot>, Problem> {
    let client = caller.owner()?;
    Ok(Json(bots::renew_webhook(app, client, caller.user_id, bot_id).await?))
}
