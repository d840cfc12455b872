//! Avito: the messenger's endpoints with their exact paths, tokens by client credentials, and the pictures that chats
//! link to.

pub(crate) mod accounts;
pub(crate) mod chats;
pub(crate) mod error;
mod media;
mod messages;
mod request;
pub(crate) mod state;
pub(crate) mod view;
pub(crate) mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::answer_bytes;
use crate::calls::{Call as Record, Target};
use crate::faults::{self, Kind, Subject};
use crate::server;
use crate::world::World;
use error::Refusal;
use request::Call;

/// The routes of the simulator.
pub(crate) fn router(world: Arc<World>) -> Router {
    Router::new().fallback(serve).layer(DefaultBodyLimit::disable()).with_state(world)
}

/// The end of a call.
enum Ending {
    Answer(Value),
    Refused(Refusal),
    Reset,
    Hang,
}

async fn serve(State(world): State<Arc<World>>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if let Some(rest) = path.strip_prefix("/media/") {
        return media::serve(&world, rest, &path).await;
    }
    let Some(call) = request::route(request.method(), &path) else {
        return Refusal::not_found().into_response();
    };
    let unread = call.clone();
    let (mut rate_limit, mut subject) = (None, Subject::default());
    let (call, ending) = match call.read(request).await {
        Ok(call) => {
            rate_limit = count_call(&world, &call);
            subject = subject_of(&world, &call);
            let ending = match rate_limit {
                Some(Err(wait)) => Ending::Refused(Refusal::status(429, Some(wait))),
                _ => call_with_faults(&world, &call, &subject).await,
            };
            (call, ending)
        }
        Err(refusal) => (unread, Ending::Refused(refusal)),
    };
    record(&world, &call, path, &ending);
    webhooks::take_back(&world, &call, subject.user_id);
    let mut response = match ending {
        Ending::Answer(Value::Null) => StatusCode::OK.into_response(),
        Ending::Answer(value) => axum::Json(rendered(value, world.avito_base.as_deref())).into_response(),
        Ending::Refused(refusal) => refusal.into_response(),
        Ending::Reset => server::reset(),
        Ending::Hang => server::hang(),
    };
    if let Some(Ok((limit, remaining))) = rate_limit {
        response.headers_mut().insert("x-ratelimit-limit", limit.into());
        response.headers_mut().insert("x-ratelimit-remaining", remaining.into());
    }
    answer_bytes::with_faults(&world, &subject, response).await
}

fn record(world: &Arc<World>, call: &Call, path: String, ending: &Ending) {
    let status = match ending {
        Ending::Answer(_) => 200,
        Ending::Refused(refusal) => refusal.status,
        Ending::Reset | Ending::Hang => 0,
    };
    let state = &mut *world.state();
    state.calls.push(Record {
        target: Target::Avito,
        method: call.name.to_owned(),
        path,
        user_id: call.user_id.or_else(|| state.avito.owner(call.token.as_deref()?).ok()),
        params: call.recorded(),
        chat: call.chat.clone(),
        status,
        ..Record::default()
    });
    webhooks::wake(world, &mut state.avito);
}

/// Counts a call of an account. `Ok`: the rate limit and the calls left; `Err`: seconds to wait; `None`: no limit.
fn count_call(world: &World, call: &Call) -> Option<Result<(u32, u32), u32>> {
    let avito = &mut world.state().avito;
    let owner = avito.owner(call.token.as_deref()?).ok()?;
    avito.accounts.get_mut(&owner)?.count()
}

/// The account, the chat and the rest that a call is about.
fn subject_of(world: &World, call: &Call) -> Subject {
    let avito = &world.state().avito;
    let client = call.body.get("client_id").and_then(Value::as_str);
    let by_key = || avito.accounts.values().find(|account| Some(account.client_id.as_str()) == client);
    let by_token = || avito.owner(call.token.as_deref()?).ok();
    let user_id = call.user_id.or_else(by_token).or_else(|| by_key().map(|account| account.user_id));
    Subject {
        target: Target::Avito,
        method: call.name.to_owned(),
        token: call.token.clone(),
        user_id,
        chat: call.chat.clone().or_else(|| chat_of(avito, call, user_id?)),
        message_id: call.message.clone(),
        params: call.recorded(),
        ..Subject::default()
    }
}

/// The chat of a call that does not name it: of the voices that it asks for, of the user whom it blocks.
fn chat_of(avito: &state::AvitoState, call: &Call, owner: i64) -> Option<String> {
    match call.name {
        "voices" => {
            let voices = call.list("voice_ids")?;
            voices.into_iter().find_map(|id| avito.files.get(&format!("{id}.mp4"))?.chat.clone())
        }
        "blacklist" => {
            let user = call.body.get("users")?.get(0)?;
            let item = user["context"]["item_id"].as_i64();
            avito.chat_of_user(owner, user["user_id"].as_i64()?, item).map(|chat| chat.id.clone())
        }
        _ => None,
    }
}

async fn call_with_faults(world: &Arc<World>, call: &Call, subject: &Subject) -> Ending {
    let latency = world.state().faults.strike(subject, &[Kind::Latency]);
    faults::pause(latency).await;
    let lateness = world.state().faults.strike(subject, &[Kind::LateAnswer]);
    let ending = end_with_fault(world, call, subject);
    faults::pause(lateness).await;
    ending
}

fn end_with_fault(world: &Arc<World>, call: &Call, subject: &Subject) -> Ending {
    let state = &mut *world.state();
    let striking = [Kind::Status, Kind::ResetBefore, Kind::ResetAfter, Kind::HangBefore, Kind::HangAfter];
    let mut fault = state.faults.strike(subject, &striking);
    // At `token` the same kind means something else: see `accounts::token`.
    if fault.is_none() && call.name != "token" {
        fault = state.faults.strike(subject, &[Kind::TokenExpired]);
    }
    let Some(fault) = fault else { return run(state, call, subject).map_or_else(Ending::Refused, Ending::Answer) };
    if matches!(fault.kind, Kind::ResetAfter | Kind::HangAfter) {
        let _ = run(state, call, subject);
    }
    match fault.kind {
        Kind::ResetBefore | Kind::ResetAfter => Ending::Reset,
        Kind::HangBefore | Kind::HangAfter => Ending::Hang,
        Kind::TokenExpired => Ending::Refused(Refusal::status(fault.status.unwrap_or(403), None)),
        _ => Ending::Refused(refusal_of(fault)),
    }
}

fn refusal_of(fault: faults::Request) -> Refusal {
    let refusal = Refusal::status(fault.status.unwrap_or(500), fault.retry_after);
    match fault.body {
        Some(body) => Refusal { body, ..refusal },
        None => refusal,
    }
}

fn run(state: &mut crate::world::State, call: &Call, subject: &Subject) -> Result<Value, Refusal> {
    let avito = &mut state.avito;
    if call.name == "token" {
        call.check()?;
        let single = state.faults.strike(subject, &[Kind::TokenExpired]).is_some();
        return accounts::token(avito, call, single);
    }
    let owner = match avito.owner(call.token.as_deref().unwrap_or_default()) {
        Ok(owner) => owner,
        Err(true) => return Err(Refusal::new(403, "Forbidden")),
        Err(false) => return Err(Refusal::new(401, "Unauthorized")),
    };
    if call.user_id.is_some_and(|user_id| user_id != owner) {
        return Err(Refusal::new(403, "Forbidden"));
    }
    call.check()?;
    let faults = &state.faults;
    match call.name {
        "self" => accounts::own(avito, owner),
        "webhook.register" | "webhook.unsubscribe" | "subscriptions" => accounts::webhook(avito, owner, call),
        "blacklist" => accounts::blacklist(avito, owner, call),
        "chats.list" => chats::list(avito, faults, owner, call),
        "chats.get" => chats::get(avito, faults, owner, call),
        "chat.read" => chats::read(avito, owner, call),
        "messages.list" => {
            let (page, has_more) = messages::list(avito, faults, owner, call)?;
            let bare = state.faults.strike(subject, &[Kind::BareArray]).is_some();
            Ok(if bare { json!(page) } else { json!({ "messages": page, "meta": { "has_more": has_more } }) })
        }
        "messages.send" => messages::send(avito, owner, call),
        "messages.image" => messages::send_image(avito, owner, call),
        "messages.delete" => messages::delete(avito, owner, call),
        "images.upload" => messages::upload(avito, call),
        _ => Ok(messages::voices(avito, call)),
    }
}

/// Puts the address of this run before every `media:` link.
pub(crate) fn rendered(value: Value, base: Option<&str>) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix("media:") {
            Some(path) => Value::String(format!("{}{path}", base.unwrap_or_default())),
            None => Value::String(text),
        },
        Value::Array(values) => values.into_iter().map(|value| rendered(value, base)).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, rendered(value, base)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}
