//! Sends webhooks as Avito does: a timeout of two seconds, one attempt, and those of a chat one after another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use serde_json::json;
use sha2::Sha256;

use super::request::Call;
use super::state::{AvitoState, Foreign, Hook};
use super::{accounts, rendered};
use crate::answer_bytes;
use crate::attempts::Attempt;
use crate::calls::Target;
use crate::faults::{Kind, Request, Subject};
use crate::world::{QueueKey, World, now};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Starts a sender for every chat with waiting webhooks, unless it has one.
pub(crate) fn wake(world: &Arc<World>, avito: &mut AvitoState) {
    avito.deliveries.retain(|_, waiting| !waiting.is_empty());
    for queue in avito.deliveries.keys() {
        if world.claim(queue) {
            tokio::spawn(send_queue(Arc::clone(world), queue.clone()));
        }
    }
}

async fn send_queue(world: Arc<World>, queue: QueueKey) {
    loop {
        let Some(hook) = next(&world, &queue).filter(|_| !world.is_stopped()) else { return };
        if is_lagging(&world, &hook) {
            done(&world);
            continue;
        }
        let fault = fault_of(&world, &hook);
        match fault.as_ref().map(|fault| fault.kind) {
            Some(Kind::WebhookWithheld) => done(&world),
            Some(_) => {
                let world = Arc::clone(&world);
                let window = fault.and_then(|fault| fault.latency_ms).unwrap_or(1000);
                let pause = Duration::from_millis(rand::rng().random_range(0..window.max(1)));
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    send(&world, &hook).await;
                    done(&world);
                });
            }
            None => {
                send(&world, &hook).await;
                done(&world);
            }
        }
    }
}

/// The next webhook of a queue. An empty queue is released under the same lock, so that the next webhook starts a
/// sender.
fn next(world: &World, queue: &QueueKey) -> Option<Hook> {
    let mut state = world.state();
    let hook = state.avito.deliveries.get_mut(queue).and_then(VecDeque::pop_front);
    if hook.is_some() {
        state.attempts.avito_pending += 1;
    } else {
        world.release(queue);
    }
    hook
}

/// Counts a webhook as no longer pending. A reset may have set the count to 0 before.
fn done(world: &World) {
    let pending = &mut world.state().attempts.avito_pending;
    *pending = pending.saturating_sub(1);
}

fn fault_of(world: &World, hook: &Hook) -> Option<Request> {
    let faults = &mut world.state().faults;
    faults.strike(&hook.subject(""), &[Kind::WebhookWithheld, Kind::WebhookShuffled])
}

/// True if the webhook is about the account's own message, and such ones are withheld while lists lag.
fn is_lagging(world: &World, hook: &Hook) -> bool {
    hook.value["author_id"] == hook.user_id && world.state().faults.list_lag(hook.user_id, &hook.chat).is_some()
}

impl Hook {
    fn subject(&self, method: &str) -> Subject {
        Subject {
            target: Target::Avito,
            method: method.to_owned(),
            user_id: Some(self.user_id),
            chat: Some(self.chat.clone()),
            message_id: Some(self.message.clone()),
            ..Subject::default()
        }
    }
}

/// Sends one webhook and records the attempt.
async fn send(world: &World, hook: &Hook) {
    let envelope = json!({
        "id": uuid::Uuid::new_v4(),
        "version": "v3.0.0",
        "timestamp": now(),
        "payload": { "type": "message", "value": rendered(hook.value.clone(), world.avito_base.as_deref()) },
    });
    let mut body = Bytes::from(envelope.to_string());
    answer_bytes::replace(world, &hook.subject("webhook"), &mut body);
    let signature = signature(&hook.client_secret, &body);
    let request = world
        .client
        .post(&hook.url)
        .timeout(TIMEOUT)
        .header("content-type", "application/json")
        .header("x-avito-messenger-signature", signature)
        .body(body);
    let started = Instant::now();
    let answer = request.send().await;
    let error = answer.as_ref().err().map(|error| if error.is_timeout() { "timeout" } else { "connection" });
    let attempt = Attempt {
        seq: 0,
        target: Target::Avito,
        receiver: hook.user_id,
        chat: hook.chat.clone(),
        id: hook.message.clone(),
        status: answer.ok().map(|answer| answer.status().as_u16()),
        error,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        at: jiff::Timestamp::now(),
    };
    world.state().attempts.push(attempt);
}

/// Lets other products of an account take their addresses back, after a call that may have ended them.
pub(crate) fn take_back(world: &Arc<World>, call: &Call, user_id: Option<i64>) {
    let Some(user_id) = user_id.filter(|_| call.name.starts_with("webhook.")) else { return };
    let account = world.state().avito.accounts.get(&user_id).cloned();
    for Foreign { url, takes_back_after_ms } in account.map(|account| account.foreign).unwrap_or_default() {
        match takes_back_after_ms.map(Duration::from_millis) {
            None => {}
            Some(Duration::ZERO) => accounts::take_back(&mut world.state().avito, user_id, &url),
            Some(delay) => {
                let world = Arc::clone(world);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    accounts::take_back(&mut world.state().avito, user_id, &url);
                });
            }
        }
    }
}

/// 64 hex digits. Avito does not document its signature, so receivers must not rely on this one.
fn signature(secret: &str, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return "0".repeat(64) };
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

/// The number of webhooks that wait or are being sent.
pub(crate) fn pending(world: &World) -> u64 {
    let state = world.state();
    let waiting: usize = state.avito.deliveries.values().map(VecDeque::len).sum();
    state.attempts.avito_pending + crate::world::count(waiting)
}
