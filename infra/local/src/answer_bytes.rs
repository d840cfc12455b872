//! The bytes of answers: faults replace them, cut them off in the middle, or let them trickle.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde_json::Value;

use crate::faults::{Kind, Request, Subject};
use crate::server;
use crate::world::World;

/// Pieces come no more often than this.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// Lets the faults of an answer's bytes strike.
pub(crate) async fn with_faults(world: &World, subject: &Subject, response: Response<Body>) -> Response<Body> {
    let kinds = [Kind::Raw, Kind::Trickle];
    if !server::is_sent(&response) || !world.state().faults.may_strike(subject, &kinds) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let mut bytes = whole(body).await;
    if let Some(fault) = replace(world, subject, &mut bytes) {
        let status = fault.status.and_then(|status| StatusCode::from_u16(status).ok());
        head.status = status.unwrap_or(head.status);
    }
    head.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
    let trickle = world.state().faults.strike(subject, &[Kind::Trickle]);
    let body = match trickle {
        Some(fault) => trickling(&bytes, &fault),
        None => Body::from(bytes),
    };
    Response::from_parts(head, body)
}

/// Replaces bytes of an answer or of a webhook, if a fault says so. Returns that fault.
pub(crate) fn replace(world: &World, subject: &Subject, bytes: &mut Bytes) -> Option<Request> {
    let has = |fault: &Request| fault.find.as_ref().is_none_or(|find| position(bytes, find.as_bytes()).is_some());
    let fault = world.state().faults.strike_if(subject, &[Kind::Raw], has)?;
    *bytes = replaced(bytes, &fault);
    Some(fault)
}

fn replaced(bytes: &[u8], fault: &Request) -> Bytes {
    let text = fault.replace.clone().map(String::into_bytes);
    let given = text.or_else(|| STANDARD.decode(fault.replace_base64.as_deref()?).ok());
    let Some(find) = fault.find.as_ref().filter(|find| !find.is_empty()) else {
        let whole = given.or_else(|| match fault.body.as_ref()? {
            Value::String(text) => Some(text.clone().into_bytes()),
            value => Some(value.to_string().into_bytes()),
        });
        return whole.unwrap_or_default().into();
    };
    let (given, mut rest, mut done) = (given.unwrap_or_default(), bytes, Vec::new());
    while let Some(at) = position(rest, find.as_bytes()) {
        done.extend_from_slice(&rest[..at]);
        done.extend_from_slice(&given);
        rest = &rest[at + find.len()..];
    }
    done.extend_from_slice(rest);
    done.into()
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() { Some(0) } else { bytes.windows(part.len()).position(|window| window == part) }
}

fn trickling(bytes: &Bytes, fault: &Request) -> Body {
    let per_second = fault.bytes_per_second.unwrap_or(1).max(1);
    let pause = SHORTEST_PAUSE.max(Duration::from_secs(1).div_f64(per_second_as_float(per_second)));
    let length = (per_second_as_float(per_second) * pause.as_secs_f64()).round();
    // Between 1 and what a u32 holds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    let length = length.max(1.0) as usize;
    let pieces = bytes.chunks(length).map(Bytes::copy_from_slice).collect::<Vec<_>>();
    Body::from_stream(stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, Infallible>(piece)
    }))
}

fn per_second_as_float(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Sends the first half of an answer's body. Then the connection is reset or, with `hangs`, nothing more comes.
pub(crate) async fn half(response: Response<Body>, hangs: bool) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let bytes = whole(body).await;
    head.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
    let first = bytes.slice(..bytes.len() / 2);
    let end = stream::once(async move {
        if hangs {
            std::future::pending::<()>().await;
        }
        // The client is to see the first half before the connection ends.
        tokio::time::sleep(SHORTEST_PAUSE).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    let first = stream::once(async move { Ok(first) });
    Response::from_parts(head, Body::from_stream(first.chain(end)))
}

async fn whole(body: Body) -> Bytes {
    // It was in memory before.
    axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default()
}
