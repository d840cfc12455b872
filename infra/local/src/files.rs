//! Downloads: pictures and voices of Avito (`media`), files of Telegram (`file`). Only faults that name the method
//! strike them.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::Value;

use crate::answer_bytes;
use crate::calls::Call;
use crate::faults::{self, Kind, Request, Subject};
use crate::server;
use crate::world::World;

/// Answers a download with the response that it has without faults, and records it.
pub(crate) async fn serve(world: &World, subject: Subject, path: String, found: Response<Body>) -> Response<Body> {
    let latency = world.state().faults.strike(&subject, &[Kind::Latency]);
    faults::pause(latency).await;
    let lateness = world.state().faults.strike(&subject, &[Kind::LateAnswer]);
    let striking = [Kind::Status, Kind::ResetBefore, Kind::ResetAfter, Kind::HangBefore, Kind::HangAfter];
    let fault = world.state().faults.strike(&subject, &striking);
    let (response, is_whole) = match fault.map(|fault| (fault.kind, fault)) {
        None => (found, true),
        Some((Kind::ResetBefore, _)) => (server::reset(), false),
        Some((Kind::HangBefore, _)) => (server::hang(), false),
        Some((Kind::ResetAfter, _)) => (answer_bytes::half(found, false).await, false),
        Some((Kind::HangAfter, _)) => (answer_bytes::half(found, true).await, false),
        Some((_, fault)) => (refused(fault), true),
    };
    let call = Call {
        target: subject.target,
        method: subject.method.clone(),
        path,
        token_hint: subject.token.as_ref().and_then(|token| token.split(':').next().map(str::to_owned)),
        user_id: subject.user_id,
        chat_id: subject.chat_id.map(Value::from),
        chat: subject.chat.clone(),
        status: if is_whole { response.status().as_u16() } else { 0 },
        is_file: true,
        ..Call::default()
    };
    world.state().calls.push(call);
    faults::pause(lateness).await;
    answer_bytes::with_faults(world, &subject, response).await
}

fn refused(fault: Request) -> Response<Body> {
    let status = StatusCode::from_u16(fault.status.unwrap_or(500)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match fault.body {
        Some(Value::String(text)) => (status, text).into_response(),
        Some(body) => (status, axum::Json(body)).into_response(),
        None => status.into_response(),
    }
}
