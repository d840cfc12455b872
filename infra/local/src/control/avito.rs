//! Plays the people in Avito: buyers write and read, the seller answers in the app.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use bytes::Bytes;
use rand::RngExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, Failure, decoded, parsed};
use crate::avito::rendered;
use crate::avito::state::{self, AvitoState, Buyer, Chat, ChatState, File, Item, Message};
use crate::avito::webhooks;
use crate::pictures;
use crate::world::{World, now, now_ms};

pub(crate) mod accounts;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChatRequest {
    user_id: i64,
    chat: Option<String>,
    buyer: BuyerRequest,
    item: Option<Item>,
    chat_type: Option<String>,
    created: Option<i64>,
    updated: Option<i64>,
    state: Option<ChatState>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BuyerRequest {
    id: Option<i64>,
    name: String,
}

/// `POST /_local/avito/chats`: creates a chat, or changes the buyer and the item of the one that is there.
pub(crate) async fn create_chat(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let request: ChatRequest = parsed(&body)?;
    let avito = &mut world.state().avito;
    if !avito.accounts.contains_key(&request.user_id) {
        return Err(accounts::none());
    }
    let chat_type = request.chat_type.unwrap_or_else(|| "u2i".to_owned());
    if !["u2i", "u2u", "a2u"].contains(&chat_type.as_str()) {
        return Err(Failure::bad("chat_type is u2i, u2u or a2u."));
    }
    if chat_type == "u2i" && request.item.is_none() {
        return Err(Failure::bad("A chat of type u2i is about an item."));
    }
    let id = request.chat.unwrap_or_else(|| state::chat_id(&chat_type));
    let random = || rand::rng().random_range(100_000_000..400_000_000);
    let known = avito.chats.get(&id);
    if known.is_some_and(|chat| chat.user_id != request.user_id) {
        return Err(Failure::conflict("Another account has this chat."));
    }
    let buyer_id = request.buyer.id.or_else(|| known.map(|chat| chat.buyer.id)).unwrap_or_else(random);
    let chat = avito.chats.entry(id.clone()).or_insert_with(|| Chat {
        id: id.clone(),
        user_id: request.user_id,
        kind: chat_type,
        buyer: Buyer { id: buyer_id, name: String::new() },
        item: None,
        created: request.created.unwrap_or_else(now),
        messages: Vec::new(),
        state: ChatState::Open,
        updated: None,
    });
    chat.state = request.state.unwrap_or(chat.state);
    chat.updated = request.updated.or(chat.updated);
    chat.buyer = Buyer { id: buyer_id, name: request.buyer.name };
    chat.item = request.item;
    Ok(Json(json!({ "chat_id": id, "buyer_id": buyer_id })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChatStateRequest {
    chat: String,
    state: ChatState,
}

/// `POST /_local/avito/chats/state`.
pub(crate) async fn chat_state(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let request: ChatStateRequest = parsed(&body)?;
    let avito = &mut world.state().avito;
    let chat = avito.chats.get_mut(&request.chat).ok_or_else(|| Failure::not_found("There is no such chat."))?;
    chat.state = request.state;
    Ok(Json(json!({ "chat_id": chat.id, "state": chat.state })))
}

/// The chats to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatsQuery {
    chat: Option<String>,
    user_id: Option<i64>,
}

/// `GET /_local/avito/chats`.
pub(crate) async fn chats(State(world): State<Arc<World>>, Query(query): Query<ChatsQuery>) -> Answer {
    let state = world.state();
    let wanted = state.avito.chats.values().filter(|chat| {
        query.chat.as_ref().is_none_or(|id| *id == chat.id) && query.user_id.is_none_or(|id| id == chat.user_id)
    });
    let chats: Vec<Value> = wanted
        .map(|chat| {
            let oldest_first: Vec<&Message> = chat.newest_first().into_iter().rev().collect();
            json!({
                "id": chat.id, "user_id": chat.user_id, "chat_type": chat.kind, "buyer": chat.buyer,
                "item": chat.item, "state": chat.state, "read_by_account": !chat.is_unread(), "messages": oldest_first,
            })
        })
        .collect();
    Ok(Json(rendered(json!({ "chats": chats }), world.avito_base.as_deref())))
}

#[derive(Deserialize)]
struct MessageRequest {
    chat: String,
    from: Sender,
    #[serde(rename = "type")]
    kind: Option<String>,
    message_id: Option<String>,
    created: Option<i64>,
    quote: Option<String>,
    #[serde(default = "yes")]
    webhook: bool,
    #[serde(default = "one")]
    webhook_times: usize,
    /// The content: `text`, or a member named like the type.
    #[serde(flatten)]
    content: Map<String, Value>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sender {
    Buyer,
    SellerApp,
    System,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

const KINDS: [&str; 12] =
    ["text", "image", "voice", "system", "call", "item", "link", "location", "deleted", "file", "video", "appCall"];

/// `POST /_local/avito/messages`. An existing `message_id` is changed, as when a buyer deletes.
pub(crate) async fn messages(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let mut request: MessageRequest = parsed(&body)?;
    let state = &mut *world.state();
    let avito = &mut state.avito;
    let system = request.from == Sender::System;
    let kind = request.kind.take().unwrap_or_else(|| if system { "system" } else { "text" }.to_owned());
    if !KINDS.contains(&kind.as_str()) {
        return Err(Failure::bad(format!("There is no type \"{kind}\".")));
    }
    let content = content(avito, &kind, &mut request.content)?;
    if let Some(user_id) = avito.chats.get(&request.chat).map(|chat| chat.user_id) {
        avito.place_files(user_id, &request.chat, &content);
    }
    if let Some(unknown) = request.content.keys().next() {
        return Err(Failure::bad(format!("A message of type {kind} takes no \"{unknown}\".")));
    }
    let Some(chat) = avito.chats.get_mut(&request.chat) else {
        return Err(Failure::not_found("There is no such chat."));
    };
    let blocked = avito.accounts.get(&chat.user_id).is_some_and(|account| account.blacklist.contains(&chat.buyer.id));
    if blocked && request.from == Sender::Buyer {
        return Err(Failure::conflict("The account has blocked this buyer."));
    }
    let id = request.message_id.unwrap_or_else(state::message_id);
    if let Some(known) = chat.message_mut(&id) {
        known.deleted = kind == "deleted";
        known.kind = kind;
        known.content = content;
    } else {
        let own = request.from == Sender::SellerApp;
        let author_id = match request.from {
            Sender::Buyer => chat.buyer.id,
            Sender::SellerApp => chat.user_id,
            Sender::System => 1,
        };
        if own {
            // A seller who answers in the app has the chat open.
            chat.read_by_account();
        }
        chat.messages.push(Message {
            id: id.clone(),
            author_id,
            direction: if own { "out" } else { "in" }.to_owned(),
            deleted: kind == "deleted",
            kind,
            content,
            created: request.created.unwrap_or_else(now),
            read: None,
            is_read: own,
            quote: request.quote,
            at: now_ms(),
        });
    }
    if request.webhook {
        avito.announce(&request.chat, &id, request.webhook_times);
    }
    webhooks::wake(&world, avito);
    Ok(Json(json!({ "message_id": id })))
}

/// The `content` of a message: given whole, or as the member that its type is named after.
fn content(avito: &mut AvitoState, kind: &str, given: &mut Map<String, Value>) -> Result<Value, Failure> {
    if let Some(content) = given.remove("content") {
        return Ok(content);
    }
    let missing = |what: &str| Failure::bad(format!("A message of type {kind} needs \"{what}\"."));
    match kind {
        "text" | "system" => {
            let text = given.remove("text").filter(Value::is_string).ok_or_else(|| missing("text"))?;
            let mut content = json!({ "text": text });
            if let Some(flow) = given.remove("flow_id") {
                content["flow_id"] = flow;
            }
            Ok(content)
        }
        "image" => {
            let bytes = match given.remove("image") {
                Some(Value::String(base64)) => decoded(&base64)?,
                _ => pictures::generated(rand::random()).into(),
            };
            let (_, sizes) = avito.store_picture("image/png", bytes, None);
            Ok(json!({ "image": { "sizes": sizes } }))
        }
        "voice" => {
            let id = given.remove("voice_id").and_then(|id| id.as_str().map(str::to_owned));
            let id = id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
            if let Some(Value::String(base64)) = given.remove("voice") {
                let file = File { mime: "video/mp4".to_owned(), bytes: decoded(&base64)?, user_id: None, chat: None };
                avito.files.insert(format!("{id}.mp4"), file);
            }
            Ok(json!({ "voice": { "voice_id": id } }))
        }
        "call" | "item" | "link" | "location" => {
            let member = given.remove(kind).ok_or_else(|| missing(kind))?;
            Ok(json!({ (kind): member }))
        }
        _ => Ok(json!({})),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadRequest {
    chat: String,
}

/// `POST /_local/avito/read`: the buyer has read everything.
pub(crate) async fn read(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let request: ReadRequest = parsed(&body)?;
    let avito = &mut world.state().avito;
    let chat = avito.chats.get_mut(&request.chat).ok_or_else(|| Failure::not_found("There is no such chat."))?;
    let unread = chat.messages.iter_mut().filter(|message| message.direction == "out" && message.read.is_none());
    let marked = unread.map(|message| message.read = Some(now())).count();
    Ok(Json(json!({ "read": marked })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RedeliverRequest {
    message_id: String,
}

/// `POST /_local/webhooks/avito/redeliver`.
pub(crate) async fn redeliver(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let request: RedeliverRequest = parsed(&body)?;
    let avito = &mut world.state().avito;
    let contains = |chat: &&Chat| chat.messages.iter().any(|message| message.id == request.message_id);
    let chat = avito.chats.values().find(contains).map(|chat| chat.id.clone());
    let chat = chat.ok_or_else(|| Failure::not_found("There is no such message."))?;
    avito.announce(&chat, &request.message_id, 1);
    webhooks::wake(&world, avito);
    Ok(Json(json!({})))
}
