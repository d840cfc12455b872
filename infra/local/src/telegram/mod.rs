//! The Bot API: `/bot<token>/<method>` and `/file/bot<token>/<path>`. A call meets faults, the table of parameters and
//! the limits before it has any effect.

mod chats;
pub(crate) mod error;
mod formatting;
pub(crate) mod limits;
pub(crate) mod media;
pub(crate) mod membership;
mod messages;
mod names;
pub(crate) mod parameters;
mod posts;
pub(crate) mod render;
pub(crate) mod request;
pub(crate) mod state;
pub(crate) mod target;
mod topics;
pub(crate) mod updates;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::answer_bytes;
use crate::calls::{Call, Target};
use crate::faults::{self, Kind, Subject};
use crate::server;
use crate::world::World;
use error::Refusal;
use request::Params;

/// The end of a call.
pub(crate) enum Ending {
    /// With the result, or refused.
    Answer(Result<Value, Refusal>),
    /// With the body that a fault gives.
    Given(u16, Value),
    /// Without an answer.
    Reset,
    /// Without an answer, and the connection stays.
    Hang,
}

/// The routes of the simulator.
pub(crate) fn router(world: Arc<World>) -> Router {
    Router::new().fallback(serve).layer(DefaultBodyLimit::disable()).with_state(world)
}

async fn serve(State(world): State<Arc<World>>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if let Some(rest) = path.strip_prefix("/file/bot") {
        return media::download(&world, rest, &path).await;
    }
    let call = path.strip_prefix("/bot").and_then(|rest| rest.split_once('/'));
    let Some((token, name)) = call.filter(|(token, _)| token.contains(':')) else {
        return Refusal::not_found().into_response();
    };
    let (ending, subject) = match request::read(request).await {
        Ok(params) => call_method(&world, token, name, params).await,
        Err(refusal) => (Ending::Answer(Err(refusal)), Subject::default()),
    };
    updates::wake(&world);
    let response = match ending {
        Ending::Answer(Ok(result)) => axum::Json(json!({ "ok": true, "result": result })).into_response(),
        Ending::Answer(Err(refusal)) => refusal.into_response(),
        Ending::Given(status, body) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            match body {
                Value::String(text) => (status, text).into_response(),
                body => (status, axum::Json(body)).into_response(),
            }
        }
        Ending::Reset => server::reset(),
        Ending::Hang => server::hang(),
    };
    answer_bytes::with_faults(&world, &subject, response).await
}

/// Runs a method for the bot of a token and records the call.
pub(crate) async fn call_method(world: &Arc<World>, token: &str, name: &str, params: Params) -> (Ending, Subject) {
    let hint = token.split(':').next().unwrap_or_default().to_owned();
    let method = parameters::method(name);
    let mut shown = params.recorded();
    // Values of a form are recorded by their types, if the call is valid.
    let checked = method.as_ref().and_then(|method| method.check(params.values.clone(), &params.parts()).ok());
    if let (Some(shown), Some(checked)) = (shown.as_object_mut(), checked) {
        shown.extend(checked);
    }
    let mut call = Call {
        target: Target::Telegram,
        method: method.map_or(name, |method| method.name).to_owned(),
        path: format!("/bot{hint}:***/{name}"),
        token_hint: Some(hint),
        chat_id: shown.get("chat_id").cloned(),
        params: shown,
        ..Call::default()
    };
    let subject = subject_of(world, token, &call, &params);
    let ending = call_with_faults(world, &subject, name, token, params).await;
    call.status = match &ending {
        Ending::Answer(Ok(_)) => 200,
        Ending::Answer(Err(refusal)) => refusal.code,
        Ending::Given(status, _) => *status,
        Ending::Reset | Ending::Hang => 0,
    };
    if let Ending::Answer(Err(refusal)) = &ending {
        call.retry_after = refusal.retry_after;
    }
    world.state().calls.push(call);
    (ending, subject)
}

/// The chat, the topic and the message that a call is about, also where it names only a message or a file.
fn subject_of(world: &World, token: &str, call: &Call, params: &Params) -> Subject {
    let number = |name: &str| params.values.get(name).and_then(id_of);
    let (thread_id, message_id) = (number("message_thread_id"), number("message_id"));
    let mut subject = Subject {
        target: Target::Telegram,
        method: call.method.clone(),
        token: Some(token.to_owned()),
        chat_id: number("chat_id"),
        thread_id,
        topic: thread_id,
        message_id: message_id.map(|id| id.to_string()),
        params: call.params.clone(),
        ..Subject::default()
    };
    let telegram = &world.state().telegram;
    if let Some(file) = params.text("file_id").and_then(|id| telegram.files.get(id)) {
        file.place(&mut subject);
    } else if let (None, Some(message_id), Some(chat_id)) = (thread_id, message_id, subject.chat_id) {
        let bot = telegram.bot_by_token(token).map_or(0, |bot| bot.id);
        let chat = telegram.chats.get(&target::key(bot, chat_id));
        subject.topic = chat.and_then(|chat| chat.messages.get(&message_id)?.thread_id);
    }
    subject
}

/// Runs a call under the active faults. `Latency` delays its beginning, `LateAnswer` delays only the answer.
async fn call_with_faults(world: &Arc<World>, subject: &Subject, name: &str, token: &str, params: Params) -> Ending {
    let latency = world.state().faults.strike(subject, &[Kind::Latency]);
    faults::pause(latency).await;
    let lateness = world.state().faults.strike(subject, &[Kind::LateAnswer]);
    let ending = end_with_fault(world, subject, name, token, params).await;
    faults::pause(lateness).await;
    ending
}

async fn end_with_fault(world: &Arc<World>, subject: &Subject, name: &str, token: &str, params: Params) -> Ending {
    let fault = world.state().faults.strike(subject, &STRIKING);
    // Faults of these kinds concern one method only, so their requests need not name it.
    let fault = fault.or_else(|| match name {
        "setMessageReaction" => world.state().faults.strike(subject, &[Kind::ReactionsLimited]),
        "editForumTopic" => world.state().faults.strike(subject, &[Kind::RenamesLimited]),
        _ => None,
    });
    let Some(fault) = fault else { return Ending::Answer(run(world, token, name, params).await) };
    let refused = |refusal| Ending::Answer(Err(refusal));
    match fault.kind {
        Kind::ResetBefore => Ending::Reset,
        Kind::HangBefore => Ending::Hang,
        Kind::ResetAfter | Kind::HangAfter => {
            let _ = run(world, token, name, params).await;
            if fault.kind == Kind::ResetAfter { Ending::Reset } else { Ending::Hang }
        }
        Kind::TopicDeleted => refused(Refusal::bad_request("message thread not found")),
        Kind::TopicClosed => refused(Refusal::bad_request("TOPIC_CLOSED")),
        Kind::Kicked => refused(Refusal::forbidden("bot was kicked from the supergroup chat")),
        Kind::Migrated => refused(Refusal::migrated(fault.migrate_to_chat_id.unwrap_or(-1_009_999_999_999))),
        Kind::ReactionsLimited | Kind::RenamesLimited => refused(Refusal::too_many(fault.retry_after.unwrap_or(30))),
        _ => match (fault.body, fault.status.unwrap_or(500)) {
            (Some(body), status) => Ending::Given(status, body),
            (None, status) => refused(Refusal::status(status, fault.retry_after)),
        },
    }
}

const STRIKING: [Kind; 9] = [
    Kind::Status,
    Kind::ResetBefore,
    Kind::ResetAfter,
    Kind::HangBefore,
    Kind::HangAfter,
    Kind::TopicDeleted,
    Kind::TopicClosed,
    Kind::Kicked,
    Kind::Migrated,
];

/// Ids come as numbers or, in forms, as text.
fn id_of(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

async fn run(world: &Arc<World>, token: &str, name: &str, mut params: Params) -> Result<Value, Refusal> {
    let bot = world.state().telegram.bot_by_token(token).map(|bot| bot.id).ok_or_else(Refusal::unauthorized)?;
    let method = parameters::method(name).ok_or_else(Refusal::not_found)?;
    params.values = method.check(std::mem::take(&mut params.values), &params.parts())?;
    media::fetch(&world.client, method.name, &mut params).await?;
    let state = &mut *world.state();
    state.limits.charge(bot, method.name, &params)?;
    let telegram = &mut state.telegram;
    match method.name {
        "getMe" | "getWebhookInfo" | "deleteWebhook" | "setMyCommands" | "answerCallbackQuery" => {
            chats::bot_method(telegram, bot, method.name, &params)
        }
        "setWebhook" => {
            let info = chats::set_webhook(telegram, bot, &params)?;
            world.connections(bot, info, true);
            Ok(json!(true))
        }
        "getFile" => media::get_file(telegram, &params),
        "getChat" | "getChatMember" | "getChatAdministrators" => {
            chats::chat_method(telegram, bot, method.name, &params)
        }
        "createForumTopic" => topics::create(telegram, bot, &params),
        "editForumTopic" | "closeForumTopic" | "reopenForumTopic" | "deleteForumTopic" => {
            topics::change(telegram, bot, method.name, &params)
        }
        "sendMessage" | "sendPhoto" | "sendDocument" | "sendVoice" | "sendLocation" | "sendVenue" => {
            posts::send(telegram, bot, method.name, &params)
        }
        "sendMediaGroup" => posts::send_group(telegram, bot, &params),
        _ => messages::change(telegram, bot, method.name, &params),
    }
}
