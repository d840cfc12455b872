//! Methods that send: texts, files, locations, venues and albums.

use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::formatting;
use super::media;
use super::request::Params;
use super::state::{ChatKey, TelegramState};
use super::target;

const MAX_CAPTION_CHARS: usize = 1024;

/// All `send…` methods that make one message.
pub(crate) fn send(telegram: &mut TelegramState, bot: i64, method: &str, params: &Params) -> Result<Value, Refusal> {
    let (chat, thread) = target::chat_and_thread(telegram, bot, params)?;
    let reply_to = target::reply(&telegram.chats[&chat], params)?;
    let (kind, mut content) = match method {
        "sendMessage" => ("text", formatting::text(&params.values)?),
        "sendLocation" => ("location", location(params)?),
        "sendVenue" => ("venue", venue(params)?),
        _ => file(telegram, method, params)?,
    };
    content.extend(markup(params)?);
    let post = Post { thread, kind, content, reply_to };
    Ok(post.publish(telegram, bot, &chat))
}

/// `sendMediaGroup`: two to ten pictures, videos or documents as one album.
pub(crate) fn send_group(telegram: &mut TelegramState, bot: i64, params: &Params) -> Result<Value, Refusal> {
    let (chat, thread) = target::chat_and_thread(telegram, bot, params)?;
    let reply_to = target::reply(&telegram.chats[&chat], params)?;
    let items = params.values["media"].as_array().cloned().unwrap_or_default();
    if !(2..=10).contains(&items.len()) {
        return Err(Refusal::bad_request("group of media must contain from 2 to 10 items"));
    }
    let mut posts = Vec::new();
    for item in &items {
        let item = item.as_object().ok_or_else(|| Refusal::bad_request("media must be objects"))?;
        let (kind, content) = media::album_item(telegram, params, item)?;
        posts.push(Post { thread, kind, content, reply_to });
    }
    let documents = posts.iter().filter(|post| post.kind == "document").count();
    if documents != 0 && documents != posts.len() {
        return Err(Refusal::bad_request("document can't be mixed with other media types"));
    }
    let album = format!("{}", telegram.chats[&chat].last_message + 13_000_000_000_000_000);
    let sent = posts.into_iter().map(|mut post| {
        post.content.insert("media_group_id".to_owned(), json!(album));
        post.publish(telegram, bot, &chat)
    });
    Ok(Value::Array(sent.collect()))
}

struct Post {
    thread: Option<i64>,
    kind: &'static str,
    content: Map<String, Value>,
    reply_to: Option<i64>,
}

impl Post {
    fn publish(self, telegram: &mut TelegramState, bot: i64, chat: &ChatKey) -> Value {
        let Some(user) = telegram.bots.get(&bot).map(super::state::Bot::user) else { return Value::Null };
        let Some(chat) = telegram.chats.get_mut(chat) else { return Value::Null };
        let mut message = chat.draft(user, true, self.kind, self.content);
        message.thread_id = self.thread;
        message.reply_to = self.reply_to;
        chat.messages.insert(message.id, message.clone());
        chat.rendered_message(&message, true)
    }
}

fn file(
    telegram: &mut TelegramState,
    method: &str,
    params: &Params,
) -> Result<(&'static str, Map<String, Value>), Refusal> {
    let field = match method {
        "sendPhoto" => "photo",
        "sendVoice" => "voice",
        _ => "document",
    };
    let caption = caption(&params.values)?;
    let (kind, mut content) = media::content(telegram, params, field, params.text(field).unwrap_or_default())?;
    if kind == "voice"
        && let Some(duration) = params.int("duration")
    {
        content["voice"]["duration"] = json!(duration);
    }
    content.extend(caption);
    Ok((kind, content))
}

/// The caption and its entities, if any.
pub(crate) fn caption(values: &Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    let (text, entities) = formatting::read(values, "caption", "caption_entities")?;
    if text.chars().count() > MAX_CAPTION_CHARS {
        return Err(Refusal::bad_request("message caption is too long"));
    }
    let mut content = Map::new();
    if !text.is_empty() {
        content.insert("caption".to_owned(), json!(text));
        if !entities.is_empty() {
            content.insert("caption_entities".to_owned(), json!(entities));
        }
    }
    Ok(content)
}

/// The keyboard under a message. Only an inline one stays with it.
pub(crate) fn markup(params: &Params) -> Result<Map<String, Value>, Refusal> {
    let mut content = Map::new();
    let Some(markup) = params.values.get("reply_markup") else { return Ok(content) };
    let others = ["keyboard", "remove_keyboard", "force_reply"];
    if others.iter().any(|kind| markup.get(kind).is_some()) {
        return Ok(content);
    }
    let rows = markup["inline_keyboard"].as_array();
    let rows = rows.ok_or_else(|| Refusal::bad_request("object expected as reply markup"))?;
    for button in rows.iter().flat_map(|row| row.as_array().into_iter().flatten()) {
        if button["text"].as_str().is_none_or(str::is_empty) {
            return Err(Refusal::bad_request("can't parse inline keyboard button: text must be non-empty"));
        }
        if button["callback_data"].as_str().is_some_and(|data| data.is_empty() || data.len() > 64) {
            return Err(Refusal::bad_request("BUTTON_DATA_INVALID"));
        }
        if button["url"].as_str().is_some_and(|url| !formatting::is_address(url)) {
            return Err(Refusal::bad_request("BUTTON_URL_INVALID"));
        }
        if button.as_object().is_none_or(|button| button.len() < 2) {
            return Err(Refusal::bad_request("can't parse inline keyboard button: text buttons are unallowed"));
        }
    }
    if !rows.is_empty() {
        content.insert("reply_markup".to_owned(), markup.clone());
    }
    Ok(content)
}

fn location(params: &Params) -> Result<Map<String, Value>, Refusal> {
    let (latitude, longitude) = (&params.values["latitude"], &params.values["longitude"]);
    let within = |value: &Value, most: f64| value.as_f64().is_some_and(|value| value.abs() <= most);
    if !within(latitude, 90.0) || !within(longitude, 180.0) {
        return Err(Refusal::bad_request("wrong location coordinates specified"));
    }
    let mut content = Map::new();
    content.insert("location".to_owned(), json!({ "latitude": latitude, "longitude": longitude }));
    Ok(content)
}

fn venue(params: &Params) -> Result<Map<String, Value>, Refusal> {
    let mut content = location(params)?;
    let title = params.text("title").filter(|title| !title.is_empty());
    let title = title.ok_or_else(|| Refusal::bad_request("VENUE_TITLE_INVALID"))?;
    let venue = json!({ "location": content["location"], "title": title, "address": params.text("address") });
    content.insert("venue".to_owned(), venue);
    Ok(content)
}
