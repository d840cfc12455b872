//! Faults, limits and an outage of the queues on request. A fault about a topic, a membership, a group's id or a token changes the world if it
//! has neither `times` nor `probability` nor `method`. With one of them it changes answers only.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, Failure, decoded, parsed};
use crate::calls::Target;
use crate::faults::{Kind, Request};
use crate::telegram::state::{Status, TelegramState};
use crate::telegram::{membership, updates};
use crate::world::World;

/// `POST /_local/faults`.
pub(crate) async fn add(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let mut request: Request = parsed(&body)?;
    if request.times == Some(0) || request.probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
        return Err(Failure::bad("times has to be at least 1, probability between 0 and 1."));
    }
    check_details(&request)?;
    let mut answer = Map::new();
    {
        let state = &mut *world.state();
        if request.kind == Kind::Migrated {
            let from = request.scope.chat_id.ok_or_else(|| Failure::bad("migrated needs scope.chat_id."))?;
            let to = *request.migrate_to_chat_id.get_or_insert(from - 1_000_000_000);
            answer.insert("migrate_to_chat_id".to_owned(), json!(to));
        }
        if request.changes_the_world() {
            match request.kind {
                Kind::TokenExpired => state.avito.expire_tokens(request.scope.user_id),
                _ => apply(&mut state.telegram, &request)?,
            }
        }
        // It stays listed, so that lifting it lets a kicked bot in again.
        let id = state.faults.add(request);
        answer.insert("fault_id".to_owned(), json!(id));
    }
    updates::wake(&world);
    Ok(Json(Value::Object(answer)))
}

/// Refuses what a fault of its kind cannot do.
fn check_details(request: &Request) -> Result<(), Failure> {
    let has_text = request.replace.is_some() || request.replace_base64.is_some();
    if request.kind == Kind::Raw && !has_text && (request.find.is_some() || request.body.is_none()) {
        return Err(Failure::bad("raw needs body, replace or replace_base64; find goes with one of the latter."));
    }
    if let Some(base64) = &request.replace_base64 {
        decoded(base64)?;
    }
    if request.kind == Kind::ListLag && request.target != Target::Avito {
        return Err(Failure::bad("list_lag is of Avito."));
    }
    Ok(())
}

/// Changes the world of Telegram.
fn apply(telegram: &mut TelegramState, request: &Request) -> Result<(), Failure> {
    let missing = |what: &str| Failure::bad(format!("This kind needs {what}."));
    let chat_id = request.scope.chat_id.ok_or_else(|| missing("scope.chat_id"))?;
    let thread = || request.thread_id.or(request.scope.thread_id).ok_or_else(|| missing("thread_id"));
    let done = match request.kind {
        Kind::TopicDeleted => membership::delete_topic(telegram, chat_id, thread()?),
        Kind::TopicClosed => membership::close_topic(telegram, chat_id, thread()?),
        Kind::Migrated => membership::migrate(telegram, chat_id, request.migrate_to_chat_id.unwrap_or_default()),
        _ => membership::set_status(telegram, chat_id, request.scope.token.as_deref(), Status::Kicked),
    };
    if done { Ok(()) } else { Err(Failure::not_found("There is no such chat, topic or bot.")) }
}

/// `DELETE /_local/faults`.
pub(crate) async fn clear(State(world): State<Arc<World>>) -> Answer {
    Ok(lift(&world, None))
}

/// `DELETE /_local/faults/{id}`.
pub(crate) async fn remove(State(world): State<Arc<World>>, Path(id): Path<u64>) -> Answer {
    Ok(lift(&world, Some(id)))
}

/// Removes faults. A kicked bot is let in again, under the current id of its group.
fn lift(world: &Arc<World>, id: Option<u64>) -> Json<Value> {
    let removed = {
        let state = &mut *world.state();
        let removed = state.faults.remove(id);
        for request in removed.iter().filter(|request| request.kind == Kind::Kicked && request.changes_the_world()) {
            if let Some(chat_id) = request.scope.chat_id {
                // A group that migrated took the kicked bot along.
                let moved_to = state.telegram.chats.get(&chat_id.to_string()).and_then(|chat| chat.migrated_to);
                let (chat_id, token) = (moved_to.unwrap_or(chat_id), request.scope.token.as_deref());
                membership::set_status(&mut state.telegram, chat_id, token, Status::Administrator);
            }
        }
        removed.len()
    };
    updates::wake(world);
    Json(json!({ "removed": removed }))
}

/// The limits to switch. `chat_id` None: everywhere.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsRequest {
    telegram: bool,
    chat_id: Option<i64>,
}

/// `POST /_local/limits`.
pub(crate) async fn limits(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let request: LimitsRequest = parsed(&body)?;
    world.state().limits.switch(request.telegram, request.chat_id);
    Ok(Json(json!({ "telegram": request.telegram })))
}

/// The outage of the queues.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueuesRequest {
    away_seconds: f64,
}

/// `POST /_local/queues`. Answers when the queues are back.
pub(crate) async fn queues(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let request: QueuesRequest = parsed(&body)?;
    let lasts = Duration::try_from_secs_f64(request.away_seconds).map_err(|error| Failure::bad(error.to_string()))?;
    let Some(queues) = &world.queues else {
        return Err(Failure::conflict("Only the stack of `make test` can do without its queues."));
    };
    queues.shut();
    tokio::time::sleep(lasts).await;
    queues.open();
    Ok(Json(json!({})))
}
