//! `GET /api/health`: answers if the bundle runs; with `?deep=1` it also checks Postgres, Redis and SQS.
//! Anyone may ask for the first. The second costs calls, so only the platform's operator may ask for it, and its result
//! is reused for 5 seconds.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use tuberry::{
    App,
    identity::caller::operator,
    platform::{
        config::var,
        db::{Scope, Statement},
        http::{Problem, ProblemBody, Text},
    },
};
use utoipa::{IntoParams, ToSchema};

tuberry::lambda!("health", health as __path_health, [Database, Cache, Tokens, ServiceToken, TelegramQueue]);

/// The depth of the check.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Depth {
    /// `1`: also Postgres, Redis and SQS.
    deep: Option<u8>,
}

/// The bundle runs.
#[derive(Clone, Serialize, ToSchema)]
struct Health {
    /// Always `ok`.
    status: &'static str,
    /// The version of this code.
    version: &'static str,
    /// What was looked at and answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checked: Vec<&'static str>,
}

/// Whether the bundle runs.
#[utoipa::path(get, path = "/api/health", operation_id = "health", tag = "ops", params(Depth), responses(
    (status = 200, body = Health, description = "Done"),
    (status = 401, body = ProblemBody, content_type = "application/problem+json",
     description = "`deep` wants the service token or the platform's admin"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "Not for this caller"),
    (status = 503, body = ProblemBody, content_type = "application/problem+json",
     description = "names what is down"),
))]
async fn health(
    State(app): State<&'static App>,
    Query(depth): Query<Depth>,
    headers: HeaderMap,
) -> Result<Json<Health>, Problem> {
    let mut health = Health { status: "ok", version: env!("CARGO_PKG_VERSION"), checked: Vec::new() };
    if depth.deep == Some(1) {
        operator(&headers, app).await?;
        let down = Box::pin(down(app)).await;
        if !down.is_empty() {
            let names = down.join(", ");
            let detail =
                Text { ru: format!("Не отвечает: {names}.").into(), en: format!("Down: {names}.").into() };
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unhealthy", detail));
        }
        health.checked = vec!["postgres", "redis", "sqs"];
    }
    Ok(Json(health))
}

static LAST: Mutex<Option<(Instant, Vec<&'static str>)>> = Mutex::new(None);
const MAX_AGE: Duration = Duration::from_secs(5);

/// Returns the services that do not answer, as seen within the last 5 seconds.
async fn down(app: &App) -> Vec<&'static str> {
    let last = LAST.lock().ok().and_then(|last| last.clone());
    if let Some((_, down)) = last.filter(|(at, _)| at.elapsed() < MAX_AGE) {
        return down;
    }
    let (postgres, redis, sqs) = tokio::join!(
        app.db().query(Scope::Service, Statement::new("SELECT 1")),
        app.cache().ping(),
        app.ping_queue(var::TELEGRAM_QUEUE_URL),
    );
    let checks = [("postgres", postgres.is_ok()), ("redis", redis.is_ok()), ("sqs", sqs.is_ok())];
    let down: Vec<_> = checks.into_iter().filter(|(_, is_up)| !is_up).map(|(name, _)| name).collect();
    if let Ok(mut last) = LAST.lock() {
        *last = Some((Instant::now(), down.clone()));
    }
    down
}
