//! `PATCH /api/bots/{bot_id}`: changes a bot. A field that is left out stays. For the organisation's owner.
//! The changed bot is checked like a new one. In another group, the bot's dialogs get new topics.
//! With a new token, the webhook is set again.

use axum::extract::{Path, State};
use garde::Validate;
use serde::Deserialize;
use tuberry::{
    App,
    bridge::api::relocation::{self, Relocated},
    identity::caller::Caller,
    platform::{
        http::{Json, Problem, ProblemBody},
        json,
        secrets::Secret,
    },
    tenancy::bots::{self, Bot, Change, GroupId},
};
use utoipa::ToSchema;

tuberry::lambda!(
    "bots-update",
    update as __path_update,
    [Database, Cache, Tokens, Secrets, TelegramApi, MasterBotName, PublicBaseUrl, TelegramQueue]
);

/// What to change of a bot.
#[derive(Deserialize, ToSchema, Validate)]
struct BotUpdate {
    /// A new token of the same bot, from `@BotFather`.
    #[garde(length(bytes, min = 1, max = 128))]
    #[schema(example = "123456789:AAExampleExampleExampleExampleExample")]
    token: Option<String>,
    /// The group in which dialogs are shown; the bot must be its administrator. A number, or the same as text.
    #[garde(skip)]
    #[serde(default, deserialize_with = "json::number_or_text")]
    #[schema(value_type = Option<GroupId>)]
    group_chat_id: Option<i64>,
    /// Whether each dialog gets a topic of its own.
    #[garde(skip)]
    topic_mode: Option<bool>,
}

/// Changes a bot.
#[utoipa::path(patch, path = "/api/bots/{bot_id}", operation_id = "bots-update", tag = "bots", request_body = BotUpdate,
    params(("bot_id" = i64, Path, description = "Our id of the bot")), responses(
    (status = 200, body = Bot, description = "Changed"),
    (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "Not signed in"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "Not for this caller"),
    (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "Not there"),
    (status = 409, body = ProblemBody, content_type = "application/problem+json",
     description = "`another_bot`: the token is not this bot's; `group_taken`; `webhook_changing`"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json",
     description = "`bad_token`, `platform_bot`, `group_unfit`: the detail says what to change"),
    (status = 503, body = ProblemBody, content_type = "application/problem+json",
     description = "`telegram_unavailable`; `webhook_failed`: changed, and the webhook is to be set again"),
))]
async fn update(
    State(app): State<&'static App>,
    caller: Caller,
    Path(bot_id): Path<i64>,
    Json(body): Json<BotUpdate>,
) -> Result<Json<Bot>, Problem> {
    let client = caller.owner()?;
    let token = body.token.map(|token| Secret::new(token.trim()));
    let change = Change { token, group_chat_id: body.group_chat_id, topic_mode: body.topic_mode };
    let around = |moves: bool| {
        if moves { relocation::group_change_statements(bot_id) } else { (Vec::new(), relocation::make_due_now(bot_id)) }
    };
    let (bot, results) = bots::change(app, client, caller.user_id, bot_id, change, around).await?;
    relocation::wake(app, &results).await?;
    if body.group_chat_id.is_some() {
        relocation::follow(app, client, Relocated::Bot(bot_id)).await;
    }
    Ok(Json(bot))
}
