//! The records, and the reset to an empty world.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::json;

use super::Answer;
use crate::avito;
use crate::calls::Target;
use crate::telegram::updates;
use crate::world::World;

/// The calls to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallsQuery {
    target: Option<Target>,
    method: Option<String>,
    #[serde(default)]
    since: u64,
}

/// `GET /_local/calls`.
pub(crate) async fn calls(State(world): State<Arc<World>>, Query(query): Query<CallsQuery>) -> Answer {
    let state = world.state();
    let (calls, next) = state.calls.since(query.since, query.target, query.method.as_deref());
    Ok(Json(json!({ "calls": calls, "next": next })))
}

/// The webhooks to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhooksQuery {
    #[serde(default)]
    since: u64,
}

/// `GET /_local/webhooks`.
pub(crate) async fn webhooks(State(world): State<Arc<World>>, Query(query): Query<WebhooksQuery>) -> Answer {
    let pending = updates::pending(&world) + avito::webhooks::pending(&world);
    let state = world.state();
    let attempts: Vec<_> = state.attempts.since(query.since).collect();
    let failed: Vec<_> = attempts.iter().filter(|attempt| !attempt.delivered()).collect();
    Ok(Json(json!({
        "pending": pending,
        "delivered": attempts.len() - failed.len(),
        "failed": failed,
        "attempts": attempts,
        "next": state.attempts.last(),
    })))
}

/// `POST /_local/reset`.
pub(crate) async fn reset(State(world): State<Arc<World>>) -> Answer {
    world.reset();
    Ok(Json(json!({})))
}
