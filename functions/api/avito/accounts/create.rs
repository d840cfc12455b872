//! `POST /api/avito/accounts`: connects an Avito account. For the organisation's owner.
//! The keys are checked with Avito. One transaction stores the account and starts its polls. Then Avito gets our
//! webhook's address.

use axum::{extract::State, http::StatusCode};
use garde::Validate;
use serde::Deserialize;
use tuberry::{
    App,
    bridge::ingest::polls,
    identity::caller::Caller,
    platform::{
        http::{Json, Problem, ProblemBody},
        secrets::Secret,
    },
    tenancy::{
        accounts::{
            self, AvitoAccount, ConnectError, NewAccount,
            webhooks::{self, WebhookChoice},
        },
        bots,
    },
};
use utoipa::ToSchema;

tuberry::lambda!(
    "avito-accounts-create",
    create as __path_create,
    [Database, Cache, Tokens, Secrets, AvitoApi, PublicBaseUrl]
);

/// An Avito account to connect.
#[derive(Deserialize, ToSchema, Validate)]
struct AvitoAccountCreate {
    /// What to call it; Avito's own name if left out.
    #[garde(length(chars, max = 200))]
    name: Option<String>,
    /// `Client_id` of the keys.
    #[garde(length(bytes, min = 1, max = 200))]
    api_client_id: String,
    /// `Client_secret` of the keys.
    #[garde(length(bytes, min = 1, max = 200))]
    api_client_secret: String,
    /// The bot in whose group its dialogs are shown.
    #[garde(skip)]
    bot_id: i64,
    /// Whether its chats are followed.
    #[garde(skip)]
    #[serde(default = "yes")]
    #[schema(default = true)]
    monitoring_enabled: bool,
    /// If Avito sends its messages to another product: `take` its place, or `leave` it there. Left out, `webhook_state`
    /// is `ask` then.
    #[garde(skip)]
    webhook: Option<WebhookChoice>,
}

fn yes() -> bool {
    true
}

/// Connects an Avito account.
#[utoipa::path(post, path = "/api/avito/accounts", operation_id = "avito-accounts-create", tag = "avito",
    request_body = AvitoAccountCreate, responses(
    (status = 201, body = AvitoAccount, description = "with `webhook_state` `ask` when Avito sends the messages to another product, `refused` when it did not take our address"),
    (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "Not signed in"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "Not for this caller"),
    (status = 409, body = ProblemBody, content_type = "application/problem+json",
     description = "`account_taken`"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json",
     description = "`keys_refused`, `tariff_required`, `no_such_bot`"),
    (status = 503, body = ProblemBody, content_type = "application/problem+json",
     description = "`avito_unavailable`"),
))]
async fn create(
    State(app): State<&'static App>,
    caller: Caller,
    Json(body): Json<AvitoAccountCreate>,
) -> Result<(StatusCode, Json<AvitoAccount>), Problem> {
    let client = caller.owner()?;
    if !bots::exists(app, client, body.bot_id).await? {
        return Err(ConnectError::NoSuchBot.into());
    }
    let new = NewAccount {
        name: body.name,
        api_client_id: body.api_client_id.trim().to_owned(),
        api_client_secret: Secret::new(body.api_client_secret.trim()),
        bot_id: body.bot_id,
        monitoring_enabled: body.monitoring_enabled,
        webhook: body.webhook,
    };
    let checked = accounts::check(app, &new).await?;
    let start = |avito_user_id| vec![polls::start_polling(avito_user_id)];
    let account = accounts::insert(app, client, caller.user_id, new, checked, start).await?;
    let account = webhooks::settle(app, client, account.id).await?;
    Ok((StatusCode::CREATED, Json(account)))
}
