//! Plays the people in Telegram: they own groups, write, send pictures and press buttons.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, Failure, parsed};
use crate::telegram::state::{Chat, Member, Message, RIGHTS, Status, TelegramState};
use crate::telegram::{membership, updates};
use crate::world::World;

mod people;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BotRequest {
    token: String,
    username: String,
}

/// `POST /_local/telegram/bots`.
pub(crate) async fn bots(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let BotRequest { token, username } = parsed(&body)?;
    let username = username.trim_start_matches('@').to_owned();
    let id = token.split_once(':').and_then(|(id, secret)| (!secret.is_empty()).then(|| id.parse::<i64>().ok())?);
    let id = id.filter(|id| *id > 0).ok_or_else(|| Failure::bad("A token is a number, a colon and a secret."))?;
    world.state().telegram.ensure_bot(id, token, username.clone());
    Ok(Json(json!({ "id": id, "username": username })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChatRequest {
    chat_id: i64,
    title: String,
    #[serde(default)]
    is_forum: bool,
    bot_token: String,
    #[serde(default)]
    rights: BTreeMap<String, bool>,
}

/// `POST /_local/telegram/chats`.
pub(crate) async fn chats(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let request: ChatRequest = parsed(&body)?;
    if request.chat_id >= 0 {
        return Err(Failure::bad("A group's chat_id is negative; private chats begin with a message."));
    }
    if let Some(unknown) = request.rights.keys().find(|right| !RIGHTS.contains(&right.as_str())) {
        return Err(Failure::bad(format!("There is no right \"{unknown}\".")));
    }
    {
        let telegram = &mut world.state().telegram;
        let bot = bot_of(telegram, &request.bot_token)?;
        let key = request.chat_id.to_string();
        let chat = telegram.ensure_chat(&key, request.chat_id);
        chat.title = Some(request.title);
        chat.is_forum = request.is_forum;
        let denied = request.rights.into_iter().filter(|(_, has)| !has).map(|(right, _)| right).collect();
        membership::set_member(telegram, &key, bot, &Member { status: Status::Administrator, denied });
    }
    updates::wake(&world);
    Ok(Json(json!({ "chat_id": request.chat_id })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchesRequest {
    chat_id: i64,
    bots_see_each_other: bool,
}

/// `POST /_local/telegram/switches`.
pub(crate) async fn switches(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let request: SwitchesRequest = parsed(&body)?;
    let telegram = &mut world.state().telegram;
    let chat = telegram.chats.get_mut(&request.chat_id.to_string());
    let chat = chat.ok_or_else(|| Failure::not_found("There is no such group."))?;
    chat.bots_see_each_other = request.bots_see_each_other;
    Ok(Json(json!({ "bots_see_each_other": chat.bots_see_each_other })))
}

fn bot_of(telegram: &TelegramState, token: &str) -> Result<i64, Failure> {
    telegram.bot_by_token(token).map(|bot| bot.id).ok_or_else(|| Failure::not_found("No bot has this token."))
}

/// `POST /_local/telegram/messages`.
pub(crate) async fn messages(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    if !world.serves_telegram {
        return Err(Failure::conflict("The Telegram simulator is not running: its address was given from outside."));
    }
    let message_id = people::write(&mut world.state().telegram, &parsed(&body)?)?;
    updates::wake(&world);
    Ok(Json(json!({ "message_id": message_id })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallbackRequest {
    chat_id: i64,
    message_id: i64,
    data: String,
    from: Option<Map<String, Value>>,
    bot_token: Option<String>,
}

/// `POST /_local/telegram/callback`: presses a button. Refused: the message has no such button.
pub(crate) async fn callback(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let request: CallbackRequest = parsed(&body)?;
    let id = {
        let telegram = &mut world.state().telegram;
        let key = people::find_chat(telegram, request.chat_id, request.bot_token.as_deref())?;
        let chat = &telegram.chats[&key];
        let message = chat.messages.get(&request.message_id).filter(|message| !message.deleted);
        let message = message.ok_or_else(|| Failure::not_found("There is no such message."))?;
        let rows = message.content.get("reply_markup").and_then(|markup| markup["inline_keyboard"].as_array());
        let mut buttons = rows.into_iter().flatten().filter_map(Value::as_array).flatten();
        if !buttons.any(|button| button["callback_data"] == request.data.as_str()) {
            return Err(Failure::conflict("The message has no button with this data."));
        }
        let bot = message.from["id"].as_i64().unwrap_or_default();
        let rendered = chat.rendered_message(message, true);
        let id = telegram.open_callback();
        let query = json!({
            "id": id, "from": people::person(request.from.unwrap_or_default()), "message": rendered,
            "chat_instance": request.chat_id.to_string(), "data": request.data,
        });
        telegram.queue(bot, &key, None, "callback_query", query);
        id
    };
    updates::wake(&world);
    Ok(Json(json!({ "callback_query_id": id })))
}

/// The chat whose topics to list. `None`: all chats.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopicsQuery {
    chat_id: Option<i64>,
}

/// `GET /_local/telegram/topics`.
pub(crate) async fn topics(State(world): State<Arc<World>>, Query(query): Query<TopicsQuery>) -> Answer {
    let state = world.state();
    let chats = state.telegram.chats.values().filter(|chat| query.chat_id.is_none_or(|id| id == chat.id));
    let topics: Vec<Value> = chats.flat_map(topics_of).collect();
    Ok(Json(json!({ "topics": topics })))
}

/// A chat's topics. Messages outside of topics come first, under the thread `null`.
fn topics_of(chat: &Chat) -> Vec<Value> {
    let mut by_thread: BTreeMap<Option<i64>, Vec<Value>> = BTreeMap::new();
    for message in chat.messages.values() {
        by_thread.entry(message.thread_id).or_default().push(shown(message));
    }
    let mut topics = Vec::new();
    if let Some(outside) = by_thread.remove(&None) {
        topics.push(json!({
            "chat_id": chat.id, "thread_id": null, "name": null, "closed": false, "deleted": false, "messages": outside,
        }));
    }
    topics.extend(chat.topics.iter().map(|(thread, topic)| {
        json!({
            "chat_id": chat.id, "thread_id": thread, "name": topic.name, "closed": topic.closed,
            "deleted": topic.deleted, "messages": by_thread.remove(&Some(*thread)).unwrap_or_default(),
        })
    }));
    topics
}

fn shown(message: &Message) -> Value {
    let emoji = message.reactions.iter().map(|reaction| reaction["emoji"].clone());
    json!({
        "message_id": message.id,
        "from_bot": message.from_bot,
        "from": message.from,
        "text": message.content.get("text"),
        "caption": message.content.get("caption"),
        "kind": message.kind,
        "content": message.content,
        "date": message.date,
        "edit_date": message.edit_date,
        "reply_to": message.reply_to,
        "pinned": message.pinned,
        "reactions": emoji.collect::<Vec<_>>(),
        "deleted": message.deleted,
        "at": message.at,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RedeliverRequest {
    chat_id: i64,
    message_id: i64,
}

/// `POST /_local/webhooks/telegram/redeliver`: the same update with the same id, once.
pub(crate) async fn redeliver(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let request: RedeliverRequest = parsed(&body)?;
    let mut sent = Vec::new();
    for (bot, update_id) in updates::of_message(&world, request.chat_id, request.message_id) {
        let status = updates::redeliver(&world, bot, update_id).await;
        sent.push(json!({ "update_id": update_id, "status": status }));
    }
    if sent.is_empty() {
        return Err(Failure::not_found("No update was sent for this message."));
    }
    Ok(Json(json!({ "updates": sent })))
}
