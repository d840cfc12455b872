//! A person writes: the message is built, stored, and queued as an update for the bots of the chat.

use serde_json::{Map, Value, json};

use super::super::{Failure, decoded};
use crate::pictures;
use crate::telegram::state::{ChatKey, Home, Member, Status, TelegramState};
use crate::telegram::{media, target};
use crate::world::now;

/// Members of a message that are files: `true` for a generated one, or `{base64, name, mime}`.
const FILES: [(&str, &str, &str); 8] = [
    ("photo", "photo.png", "image/png"),
    ("document", "document.txt", "text/plain"),
    ("voice", "voice.ogg", "audio/ogg"),
    ("audio", "audio.mp3", "audio/mpeg"),
    ("video", "video.mp4", "video/mp4"),
    ("video_note", "note.mp4", "video/mp4"),
    ("animation", "animation.mp4", "video/mp4"),
    ("sticker", "sticker.webp", "image/webp"),
];
/// Members that are taken as they are. Those of `PLAIN` make a message, those of `BESIDE` go with one.
const PLAIN: [&str; 5] = ["text", "contact", "venue", "location", "dice"];
const BESIDE: [&str; 5] = ["entities", "caption", "caption_entities", "media_group_id", "forward_origin"];
const ABOUT: [&str; 7] = ["chat_id", "thread_id", "from", "reply_to", "bot_token", "edit", "date"];

/// Adds the message of a request, or edits one (`edit`). Returns its id.
pub(crate) fn write(telegram: &mut TelegramState, request: &Map<String, Value>) -> Result<i64, Failure> {
    let number = |name: &str| request.get(name).and_then(Value::as_i64);
    let chat_id = number("chat_id").ok_or_else(|| Failure::bad("chat_id is missing."))?;
    let token = request.get("bot_token").and_then(Value::as_str);
    let from = person(request.get("from").and_then(Value::as_object).cloned().unwrap_or_default());
    let key = match chat_id {
        1.. => private_chat(telegram, chat_id, token, &from)?,
        _ => find_chat(telegram, chat_id, token)?,
    };
    let thread = number("thread_id");
    let files_before = telegram.files_so_far();
    let (kind, content) = content(telegram, request)?;
    let Some(chat) = telegram.chats.get_mut(&key) else { return Err(no_chat()) };
    if let Some(thread) = thread {
        let topic = chat.topics.get(&thread).filter(|topic| !topic.deleted);
        topic.ok_or_else(|| Failure::not_found("There is no such topic."))?;
    }
    let (message, update) = if let Some(id) = number("edit") {
        let message = chat.messages.get_mut(&id).filter(|message| !message.deleted && !message.from_bot);
        let message = message.ok_or_else(|| Failure::not_found("There is no such message of a person."))?;
        message.content = content;
        message.edit_date = Some(now());
        (message.clone(), "edited_message")
    } else {
        let mut message = chat.draft(from, false, kind, content);
        message.thread_id = thread;
        message.reply_to = number("reply_to");
        message.date = number("date").unwrap_or(message.date);
        chat.messages.insert(message.id, message.clone());
        (message, "message")
    };
    let rendered = chat.rendered_message(&message, true);
    let bots = chat.bots_present();
    let home = Home { chat: chat.id, topic: message.thread_id, message: message.id };
    telegram.place_files(files_before, home);
    for bot in bots {
        telegram.queue(bot, &key, Some(message.id), update, rendered.clone());
    }
    Ok(message.id)
}

/// A person. The name and the id have defaults.
pub(crate) fn person(mut given: Map<String, Value>) -> Value {
    given.entry("id").or_insert(json!(700_000_002));
    given.entry("is_bot").or_insert(json!(false));
    given.entry("first_name").or_insert(json!("Оператор"));
    Value::Object(given)
}

/// Finds a chat. A private one needs the bot's token when several bots know the person.
pub(crate) fn find_chat(telegram: &TelegramState, chat_id: i64, token: Option<&str>) -> Result<ChatKey, Failure> {
    let bot = match token {
        Some(token) => Some(super::bot_of(telegram, token)?),
        None => None,
    };
    let mut keys = telegram.bots.keys().filter(|id| bot.is_none_or(|bot| bot == **id));
    let key = keys.find_map(|id| Some(target::key(*id, chat_id)).filter(|key| telegram.chats.contains_key(key)));
    let key = key.ok_or_else(no_chat)?;
    // People do not notice that a group has another id: they write in the new one.
    Ok(telegram.chats[&key].migrated_to.map_or(key, |to| to.to_string()))
}

fn no_chat() -> Failure {
    Failure::not_found("There is no such chat.")
}

/// Finds a private chat, or creates it with the first message to the bot.
fn private_chat(
    telegram: &mut TelegramState,
    chat_id: i64,
    token: Option<&str>,
    from: &Value,
) -> Result<ChatKey, Failure> {
    if from["id"] != chat_id {
        return Err(Failure::bad("In a private chat chat_id is the id of the person in from."));
    }
    let bot = super::bot_of(telegram, token.ok_or_else(|| Failure::bad("A private chat needs bot_token."))?)?;
    let key = target::key(bot, chat_id);
    let chat = telegram.ensure_chat(&key, chat_id);
    chat.person = Some(from.clone());
    chat.members.entry(bot).or_insert(Member { status: Status::Member, denied: Vec::new() });
    Ok(key)
}

fn content(
    telegram: &mut TelegramState,
    request: &Map<String, Value>,
) -> Result<(&'static str, Map<String, Value>), Failure> {
    let is_file = |name: &str| FILES.iter().any(|(field, ..)| *field == name);
    let known = |name: &str| PLAIN.contains(&name) || BESIDE.contains(&name) || ABOUT.contains(&name) || is_file(name);
    if let Some(unknown) = request.keys().find(|name| !known(name)) {
        return Err(Failure::bad(format!("A message takes no \"{unknown}\".")));
    }
    let mut content = Map::new();
    let mut kind = None;
    for (field, name, mime) in FILES {
        if let Some(given) = request.get(field) {
            content.insert(field.to_owned(), file(telegram, field, name, mime, given)?);
            kind = kind.or(Some(field));
        }
    }
    for field in PLAIN {
        if let Some(given) = request.get(field) {
            content.insert(field.to_owned(), given.clone());
            kind = kind.or(Some(field));
        }
    }
    for field in BESIDE {
        if let Some(given) = request.get(field) {
            content.insert(field.to_owned(), given.clone());
        }
    }
    // People's clients mark a command as an entity.
    let command = request.get("text").and_then(Value::as_str).filter(|text| text.starts_with('/'));
    if let Some(command) = command.and_then(|text| text.split_whitespace().next())
        && !content.contains_key("entities")
    {
        let entity = json!({ "type": "bot_command", "offset": 0, "length": command.encode_utf16().count() });
        content.insert("entities".to_owned(), json!([entity]));
    }
    let kind = kind.ok_or_else(|| Failure::bad("A message needs a text, a file, a contact or a place."))?;
    Ok((kind, content))
}

fn file(telegram: &mut TelegramState, field: &str, name: &str, mime: &str, given: &Value) -> Result<Value, Failure> {
    let text = |member: &str, default: &str| given[member].as_str().unwrap_or(default).to_owned();
    let bytes = match given {
        Value::Bool(true) if field == "photo" => pictures::generated(rand::random()).into(),
        Value::Bool(true) => b"made by the simulator".to_vec().into(),
        Value::Object(_) => decoded(given["base64"].as_str().unwrap_or_default())?,
        _ => return Err(Failure::bad("A file is true or {base64, name, mime}.")),
    };
    let file = telegram.store_file(&format!("{field}s"), &text("name", name), &text("mime", mime), bytes);
    Ok(media::rendered(field, &file))
}
