//! `POST /api/bots`: connects a bot. For the organisation's owner.
//! The token and the bot's rights in the group are checked with Telegram. Then Telegram gets our webhook's address.

use axum::{extract::State, http::StatusCode};
use garde::Validate;
use serde::Deserialize;
use tuberry::{
    App,
    identity::caller::Caller,
    platform::{
        http::{Json, Problem, ProblemBody},
        json,
        secrets::Secret,
    },
    tenancy::bots::{self, Bot, GroupId, NewBot},
};
use utoipa::ToSchema;

tuberry::lambda!(
    "bots-create",
    create as __path_create,
    [Database, Cache, Tokens, Secrets, TelegramApi, MasterBotName, PublicBaseUrl]
);

/// A bot to connect.
#[derive(Deserialize, ToSchema, Validate)]
struct BotCreate {
    /// Its token, from `@BotFather`.
    #[garde(length(bytes, min = 1, max = 128))]
    #[schema(example = "123456789:AAExampleExampleExampleExampleExample")]
    token: String,
    /// The group in which dialogs are shown; the bot must be its administrator. A number, or the same as text.
    #[garde(skip)]
    #[serde(default, deserialize_with = "json::number_or_text")]
    #[schema(value_type = Option<GroupId>)]
    group_chat_id: Option<i64>,
    /// Whether each dialog gets a topic of its own.
    #[garde(skip)]
    #[serde(default = "yes")]
    #[schema(default = true)]
    topic_mode: bool,
}

fn yes() -> bool {
    true
}

/// Connects a bot.
#[utoipa::path(post, path = "/api/bots", operation_id = "bots-create", tag = "bots", request_body = BotCreate, responses(
    (status = 201, body = Bot, description = "Connected"),
    (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "Not signed in"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "Not for this caller"),
    (status = 409, body = ProblemBody, content_type = "application/problem+json",
     description = "`bot_taken`, `group_taken`"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json",
     description = "`bad_token`, `platform_bot`, `group_unfit`: the detail says what to change"),
    (status = 503, body = ProblemBody, content_type = "application/problem+json",
     description = "`telegram_unavailable`, `webhook_failed`"),
))]
async fn create(
    State(app): State<&'static App>,
    caller: Caller,
    Json(body): Json<BotCreate>,
) -> Result<(StatusCode, Json<Bot>), Problem> {
    let client = caller.owner()?;
    let token = Secret::new(body.token.trim());
    let new = NewBot { token, group_chat_id: body.group_chat_id, topic_mode: body.topic_mode };
    let checked = bots::check(app, &new).await?;
    let bot = bots::connect(app, client, caller.user_id, new, checked).await?;
    Ok((StatusCode::CREATED, Json(bot)))
}
