//! `POST /api/auth/telegram`: signs a person in with the answer of Telegram's Login Widget. Anyone may try.
//! A person's first sign-in creates an organisation with this person as its owner.

use axum::extract::State;
use serde::Serialize;
use tuberry::{
    App,
    identity::{
        users::User,
        ways::login_widget::{WidgetFields, sign_in},
    },
    platform::http::{Json, Problem, ProblemBody},
};
use utoipa::ToSchema;

tuberry::lambda!(
    "auth-telegram",
    telegram as __path_telegram,
    [Database, Cache, Tokens, TokenLifetimes, MasterBotToken, AdminTelegramId]
);

/// What the widget gives to the page, sent on as it is: other members count for the signature too.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes the body, which is read member by member")]
struct TelegramLogin {
    /// Telegram's id of the person; a number or a text.
    #[schema(example = 987_654_321)]
    id: i64,
    /// The first name.
    first_name: String,
    /// The last name.
    last_name: Option<String>,
    /// The name after the `@`.
    username: Option<String>,
    /// The address of the picture.
    photo_url: Option<String>,
    /// When they signed in, seconds since 1970; a number or a text. At most 5 minutes ago.
    auth_date: i64,
    /// Telegram's signature, 64 hex digits.
    hash: String,
}

/// The tokens of a new session.
#[derive(Serialize, ToSchema)]
struct SignedIn {
    /// For calling the API: `Authorization: Bearer …`.
    access_token: String,
    /// For getting new tokens.
    refresh_token: String,
    /// Always `bearer`.
    token_type: &'static str,
    /// How long the access token lives, seconds.
    expires_in: i64,
    /// Who signed in.
    user: User,
}

/// Signs in with the answer of Telegram's Login Widget.
#[utoipa::path(post, path = "/api/auth/telegram", operation_id = "auth-telegram", tag = "auth",
    request_body = TelegramLogin, responses(
    (status = 200, body = SignedIn, description = "Done"),
    (status = 401, body = ProblemBody, content_type = "application/problem+json",
     description = "`login_refused`: not signed by Telegram, or too old; `login_used`"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json",
     description = "`account_inactive`"),
    (status = 409, body = ProblemBody, content_type = "application/problem+json",
     description = "`admin_has_organisation`"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "Invalid fields"),
))]
async fn telegram(
    State(app): State<&'static App>,
    Json(fields): Json<WidgetFields>,
) -> Result<Json<SignedIn>, Problem> {
    let signed_in = sign_in(app, &fields).await?;
    Ok(Json(SignedIn {
        access_token: signed_in.tokens.access.expose().to_owned(),
        refresh_token: signed_in.tokens.refresh.expose().to_owned(),
        token_type: "bearer",
        expires_in: signed_in.tokens.expires_in,
        user: signed_in.account.user,
    }))
}
