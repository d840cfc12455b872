//! The records, and the reset to an empty world.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::Answer;
use crate::attempts;
use crate::avito;
use crate::calls;
use crate::telegram::updates;
use crate::world::World;

/// The answer with the recorded calls.
#[derive(Serialize)]
pub(crate) struct CallsAnswer {
    calls: Vec<Box<RawValue>>,
    next: u64,
}

/// `GET /_local/calls`.
pub(crate) async fn calls(State(world): State<Arc<World>>, Query(wanted): Query<calls::Wanted>) -> Json<CallsAnswer> {
    let state = world.state();
    let (calls, next) = state.calls.wanted(&wanted);
    Json(CallsAnswer { calls: calls.into_iter().map(ToOwned::to_owned).collect(), next })
}

/// `GET /_local/webhooks`.
pub(crate) async fn webhooks(State(world): State<Arc<World>>, Query(wanted): Query<attempts::Wanted>) -> Answer {
    let pending = updates::pending(&world) + avito::webhooks::pending(&world);
    let state = world.state();
    let (attempts, next) = state.attempts.wanted(&wanted);
    let failed: Vec<_> = attempts.iter().filter(|attempt| !attempt.delivered()).collect();
    Ok(Json(json!({
        "pending": pending,
        "delivered": attempts.len() - failed.len(),
        "failed": failed,
        "attempts": attempts,
        "next": next,
    })))
}

/// `POST /_local/reset`.
pub(crate) async fn reset(State(world): State<Arc<World>>) -> Answer {
    world.reset();
    Ok(Json(json!({})))
}
