//! Sends updates to webhooks as the real service does: those of one chat in order, each until it is accepted, with
//! pauses that double. A call in the body of the answer is carried out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Map, Value};

use super::request::Params;
use super::state::Webhook;
use super::{call_method, parameters};
use crate::answer_bytes;
use crate::attempts::Attempt;
use crate::calls::Target;
use crate::faults::{Kind, Subject};
use crate::world::{QueueKey, State, World, now};

const TIMEOUT: Duration = Duration::from_mins(1);
/// The real service waits longer; tests do not have that long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Starts a sender for every chat with waiting updates, unless it has one.
pub(crate) fn wake(world: &Arc<World>) {
    let mut queues: Vec<(i64, QueueKey)> = Vec::new();
    for bot in world.state().telegram.bots.values().filter(|bot| bot.webhook.is_some()) {
        let waiting = bot.waiting.iter().filter(|(_, queue)| !queue.is_empty());
        queues.extend(waiting.map(|(chat, _)| (bot.id, (format!("telegram:{}", bot.id), chat.clone()))));
    }
    for (bot, queue) in queues {
        if world.claim(&queue) {
            tokio::spawn(send_queue(Arc::clone(world), bot, queue));
        }
    }
}

/// An update to send.
struct Delivery {
    webhook: Webhook,
    token: String,
    update_id: u32,
    body: Value,
    chat_id: Option<i64>,
}

async fn send_queue(world: Arc<World>, bot: i64, queue: QueueKey) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(delivery) = next(&world, bot, &queue).filter(|_| !world.is_stopped()) else { return };
        if withheld(&world, &delivery) {
            tokio::time::sleep(FIRST_PAUSE).await;
            continue;
        }
        if let Some(retry_after) = attempt(&world, bot, &queue.1, &delivery).await {
            let wait: Duration = retry_after.unwrap_or(pause);
            tokio::time::sleep(wait.min(MAX_PAUSE)).await;
            pause = (pause * 2).min(MAX_PAUSE);
        } else {
            pause = FIRST_PAUSE;
            if let Some(bot) = world.state().telegram.bots.get_mut(&bot) {
                bot.accepted(&queue.1, delivery.update_id);
            }
        }
    }
}

/// The next update of a queue. An empty queue is released under the same lock, so that the next update starts a sender.
fn next(world: &World, bot: i64, queue: &QueueKey) -> Option<Delivery> {
    let state = &mut *world.state();
    let delivery = first(state, bot, &queue.1);
    if delivery.is_none() {
        world.release(queue);
    }
    delivery
}

fn first(state: &mut State, bot: i64, chat: &str) -> Option<Delivery> {
    let bot = state.telegram.bots.get(&bot)?;
    let webhook = bot.webhook.clone()?;
    let waiting = bot.waiting.get(chat).filter(|waiting| !waiting.is_empty())?;
    let chat_id = state.telegram.chats.get(chat).map(|chat| chat.id);
    let subject = subject("", &bot.token, chat_id);
    let shuffled = waiting.len() > 1 && state.faults.strike(&subject, &[Kind::WebhookShuffled]).is_some();
    let update_id = *if shuffled { waiting.back()? } else { waiting.front()? };
    let body = bot.updates.get(&update_id)?.body.clone();
    Some(Delivery { webhook, token: bot.token.clone(), update_id, body, chat_id })
}

fn subject(method: &str, token: &str, chat_id: Option<i64>) -> Subject {
    let (method, token) = (method.to_owned(), Some(token.to_owned()));
    Subject { target: Target::Telegram, method, token, chat_id, ..Subject::default() }
}

/// True if a fault withholds the update. It waits as if the receiver were away: the real service loses nothing.
fn withheld(world: &World, delivery: &Delivery) -> bool {
    let subject = subject("", &delivery.token, delivery.chat_id);
    world.state().faults.strike(&subject, &[Kind::WebhookWithheld]).is_some()
}

/// Sends an update once. `None`: accepted. Otherwise the delay before the next attempt, if the receiver gave one.
async fn attempt(world: &Arc<World>, bot: i64, chat: &str, delivery: &Delivery) -> Option<Option<Duration>> {
    let slots = world.connections(bot, usize::from(delivery.webhook.max_connections), false);
    let _slot = slots.acquire_owned().await;
    let mut sent = Bytes::from(delivery.body.to_string());
    answer_bytes::replace(world, &subject("webhook", &delivery.token, delivery.chat_id), &mut sent);
    let request = world.client.post(&delivery.webhook.url).timeout(TIMEOUT).body(sent);
    let mut request = request.header(CONTENT_TYPE, "application/json");
    if let Some(secret) = &delivery.webhook.secret_token {
        request = request.header("X-Telegram-Bot-Api-Secret-Token", secret);
    }
    let started = Instant::now();
    let answer = request.send().await;
    let status = answer.as_ref().ok().map(reqwest::Response::status);
    let retry_after = answer.as_ref().ok().and_then(|answer| answer.headers().get(RETRY_AFTER));
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let (body, error) = match answer {
        Ok(answer) => (answer.bytes().await.ok(), None),
        Err(error) => (None, Some(if error.is_timeout() { "timeout" } else { "connection" })),
    };
    let attempt = Attempt {
        seq: 0,
        target: Target::Telegram,
        receiver: bot,
        chat: chat.to_owned(),
        id: delivery.update_id.to_string(),
        status: status.map(|status| status.as_u16()),
        error,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        at: jiff::Timestamp::now(),
    };
    let delivered = attempt.delivered();
    record(world, bot, attempt);
    if !delivered {
        return Some(retry_after);
    }
    if let Some(body) = body {
        carry_out(world, &delivery.token, &body).await;
    }
    None
}

fn record(world: &World, bot: i64, attempt: Attempt) {
    let state = &mut *world.state();
    if !attempt.delivered()
        && let Some(webhook) = state.telegram.bots.get_mut(&bot).and_then(|bot| bot.webhook.as_mut())
    {
        let why = attempt.status.map_or_else(
            || attempt.error.unwrap_or("connection").to_owned(),
            |status| format!("Wrong response from the webhook: {status}"),
        );
        webhook.last_error = Some((now(), why));
    }
    state.attempts.push(attempt);
}

/// Carries out a call in the body of the answer. As in the real service its result is dropped, and methods that read
/// or that change the webhook are ignored.
async fn carry_out(world: &Arc<World>, token: &str, body: &[u8]) {
    let Ok(mut call) = serde_json::from_slice::<Map<String, Value>>(body) else { return };
    let Some(Value::String(method)) = call.remove("method") else { return };
    let known = parameters::method(&method).map_or("", |method| method.name);
    if !(known.starts_with("get") || known.ends_with("Webhook")) {
        let _ = call_method(world, token, &method, Params::of(call)).await;
        wake(world);
    }
}

/// Sends an update once more, as the real service does when an answer was lost on the way.
pub(crate) async fn redeliver(world: &Arc<World>, bot: i64, update_id: u32) -> Option<u16> {
    let delivery = {
        let state = world.state();
        let bot = state.telegram.bots.get(&bot)?;
        let update = bot.updates.get(&update_id)?;
        let chat_id = state.telegram.chats.get(&update.chat).map(|chat| chat.id);
        let body = update.body.clone();
        let webhook = bot.webhook.clone()?;
        (update.chat.clone(), Delivery { webhook, token: bot.token.clone(), update_id, body, chat_id })
    };
    let _ = attempt(world, bot, &delivery.0, &delivery.1).await;
    world.state().attempts.newest().and_then(|attempt| attempt.status)
}

/// The number of updates that are to be sent. Those of bots without a webhook do not count.
pub(crate) fn pending(world: &World) -> u64 {
    let state = world.state();
    let listening = state.telegram.bots.values().filter(|bot| bot.webhook.is_some());
    listening.map(super::state::Bot::pending).sum()
}

/// The bots and update ids of a message.
pub(crate) fn of_message(world: &World, chat_id: i64, message_id: i64) -> Vec<(i64, u32)> {
    let state = world.state();
    let mut found = Vec::new();
    for bot in state.telegram.bots.values() {
        let key = super::target::key(bot.id, chat_id);
        let updates = bot.updates.iter();
        found.extend(
            updates
                .filter(|(_, update)| update.chat == key && update.message_id == Some(message_id))
                .map(|(id, _)| (bot.id, *id)),
        );
    }
    found
}
