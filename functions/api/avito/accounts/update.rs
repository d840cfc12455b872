//! `PATCH /api/avito/accounts/{account_id}`: changes an Avito account. A field that is left out stays.
//! For the organisation's owner. New keys are checked with Avito, and make a refused account active again.
//! With another bot, the account's dialogs get topics in that bot's group.

use axum::extract::{Path, State};
use garde::Validate;
use serde::Deserialize;
use tuberry::{
    App,
    bridge::api::relocation::{self, Relocated},
    identity::caller::Caller,
    platform::{
        http::{Json, Problem, ProblemBody},
        secrets::Secret,
    },
    tenancy::accounts::{self, AvitoAccount, Change, Meaning, webhooks::WebhookChoice},
};
use utoipa::ToSchema;

tuberry::lambda!(
    "avito-accounts-update",
    update as __path_update,
    [Database, Cache, Tokens, Secrets, AvitoApi, PublicBaseUrl, TelegramQueue, AvitoQueue, PollQueue]
);

/// What to change of an Avito account.
#[derive(Deserialize, ToSchema, Validate)]
struct AvitoAccountUpdate {
    /// What to call it.
    #[garde(length(chars, min = 1, max = 200), inner(custom(not_blank)))]
    name: Option<String>,
    /// `Client_id` of the keys.
    #[garde(length(bytes, min = 1, max = 200))]
    api_client_id: Option<String>,
    /// `Client_secret` of the keys.
    #[garde(length(bytes, min = 1, max = 200))]
    api_client_secret: Option<String>,
    /// The bot in whose group its dialogs are shown.
    #[garde(skip)]
    bot_id: Option<i64>,
    /// Whether its chats are followed. Switched off, it is not polled, and Avito forgets our address.
    #[garde(skip)]
    monitoring_enabled: Option<bool>,
    /// If Avito sends its messages to another product: `take` its place, or `leave` it there.
    #[garde(skip)]
    webhook: Option<WebhookChoice>,
}

fn not_blank<C>(text: &str, _: &C) -> garde::Result {
    let stores = !text.trim().is_empty() && !text.contains('\0');
    if stores { Ok(()) } else { Err(garde::Error::new("is blank or holds a character that cannot be stored")) }
}

/// Changes an Avito account.
#[utoipa::path(patch, path = "/api/avito/accounts/{account_id}", operation_id = "avito-accounts-update", tag = "avito",
    request_body = AvitoAccountUpdate, params(("account_id" = i64, Path, description = "Our id of the account")), responses(
    (status = 200, body = AvitoAccount, description = "Changed; with `webhook_state` `ask` when Avito sends the messages to another product, `refused` when it did not take our address"),
    (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "Not signed in"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "Not for this caller"),
    (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "Not there"),
    (status = 409, body = ProblemBody, content_type = "application/problem+json",
     description = "`another_account`: the keys are not this account's; `account_refused`: Avito refuses it, so nothing can be taken"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json",
     description = "`keys_refused`, `tariff_required`, `no_such_bot`"),
    (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "`avito_unavailable`"),
))]
async fn update(
    State(app): State<&'static App>,
    caller: Caller,
    Path(account_id): Path<i64>,
    Json(body): Json<AvitoAccountUpdate>,
) -> Result<Json<AvitoAccount>, Problem> {
    let client = caller.owner()?;
    let change = Change {
        name: body.name.map(|name| name.trim().to_owned()),
        api_client_id: body.api_client_id.map(|id| id.trim().to_owned()),
        api_client_secret: body.api_client_secret.map(|secret| Secret::new(secret.trim())),
        bot_id: body.bot_id,
        monitoring_enabled: body.monitoring_enabled,
        webhook: body.webhook,
    };
    let around = |meaning: Meaning| relocation::account_change_statements(account_id, meaning);
    let (account, results, meaning) = accounts::change(app, client, caller.user_id, account_id, change, around).await?;
    relocation::wake(app, &results).await?;
    if meaning.moves {
        relocation::follow(app, client, Relocated::Account(account_id)).await;
    }
    if meaning.resumes {
        relocation::poll(app, account_id).await;
    }
    Ok(Json(account))
}
