//! Methods on existing messages: edits, deletes, pins, reactions. Also the "typing" action, which leaves no trace.

use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::formatting;
use super::posts;
use super::request::Params;
use super::state::TelegramState;
use super::target;
use super::topics;
use crate::world::now;

/// The emoji that bots may react with, without variation selectors.
const REACTIONS: &str = "❤ 👍 👎 🔥 🥰 👏 😁 🤔 🤯 😱 🤬 😢 🎉 🤩 🤮 💩 🙏 👌 🕊 🤡 🥱 🥴 😍 🐳 ❤\u{200d}🔥 🌚 🌭 💯 🤣 ⚡ 🍌 🏆 💔 🤨 😐 \
    🍓 🍾 💋 🖕 😈 😴 😭 🤓 👻 👨\u{200d}💻 👀 🎃 🙈 😇 😨 🤝 ✍ 🤗 🫡 🎅 🎄 ☃ 💅 🤪 🗿 🆒 💘 🙉 🦄 😘 💊 🙊 😎 👾 🤷\u{200d}♂ 🤷 \
    🤷\u{200d}♀ 😡";

const ACTIONS: [&str; 11] = [
    "typing",
    "upload_photo",
    "record_video",
    "upload_video",
    "record_voice",
    "upload_voice",
    "upload_document",
    "choose_sticker",
    "find_location",
    "record_video_note",
    "upload_video_note",
];

/// All methods on messages.
pub(crate) fn change(telegram: &mut TelegramState, bot: i64, method: &str, params: &Params) -> Result<Value, Refusal> {
    match method {
        "editMessageText" => edit(telegram, bot, params),
        "deleteMessage" => delete(telegram, bot, params),
        "pinChatMessage" => pin(telegram, bot, params),
        "unpinChatMessage" => unpin(telegram, bot, params),
        "setMessageReaction" => react(telegram, bot, params),
        "sendChatAction" => {
            target::chat_and_thread(telegram, bot, params)?;
            let known = params.text("action").is_some_and(|action| ACTIONS.contains(&action));
            if known { Ok(json!(true)) } else { Err(Refusal::bad_request("wrong parameter action in request")) }
        }
        _ => Err(Refusal::not_found()),
    }
}

fn edit(telegram: &mut TelegramState, bot: i64, params: &Params) -> Result<Value, Refusal> {
    let key = target::chat(telegram, bot, params)?;
    let mut content = formatting::text(&params.values)?;
    content.extend(posts::markup(params)?);
    let own = telegram.bots[&bot].user();
    let Some(chat) = telegram.chats.get_mut(&key) else { return Err(Refusal::bad_request("chat not found")) };
    let message = target::message(chat, params, "edit")?;
    if message.from["id"] != own["id"] {
        return Err(Refusal::bad_request("message can't be edited"));
    }
    if message.kind != "text" {
        return Err(Refusal::bad_request("there is no text in the message to edit"));
    }
    if message.content == content {
        let same = "message is not modified: specified new message content and reply markup are exactly the same as a \
                    current content and reply markup of the message";
        return Err(Refusal::bad_request(same));
    }
    message.content = content;
    message.edit_date = Some(now());
    let message = message.clone();
    Ok(chat.rendered_message(&message, true))
}

fn delete(telegram: &mut TelegramState, bot: i64, params: &Params) -> Result<Value, Refusal> {
    let key = target::chat(telegram, bot, params)?;
    let own = telegram.bots[&bot].user();
    let Some(chat) = telegram.chats.get_mut(&key) else { return Err(Refusal::bad_request("chat not found")) };
    let may_others = chat.is_private() || target::member(chat, bot)?.may("can_delete_messages");
    let message = target::message(chat, params, "delete")?;
    let is_topic = message.content.contains_key("forum_topic_created");
    if is_topic || message.from["id"] != own["id"] && !may_others || now() - message.date > 48 * 3600 {
        return Err(Refusal::bad_request("message can't be deleted"));
    }
    message.deleted = true;
    Ok(json!(true))
}

fn pin(telegram: &mut TelegramState, bot: i64, params: &Params) -> Result<Value, Refusal> {
    let key = target::chat(telegram, bot, params)?;
    let user = telegram.bots[&bot].user();
    let Some(chat) = telegram.chats.get_mut(&key) else { return Err(Refusal::bad_request("chat not found")) };
    may_pin(chat, bot)?;
    let message = target::message(chat, params, "pin")?;
    if message.pinned {
        return Ok(json!(true));
    }
    message.pinned = true;
    let (id, thread) = (message.id, message.thread_id);
    let pinned = chat.messages[&id].clone();
    let mut content = Map::new();
    content.insert("pinned_message".to_owned(), chat.rendered_message(&pinned, false));
    topics::announce(telegram, &key, thread, user, "pinned_message", content);
    Ok(json!(true))
}

fn unpin(telegram: &mut TelegramState, bot: i64, params: &Params) -> Result<Value, Refusal> {
    let key = target::chat(telegram, bot, params)?;
    let Some(chat) = telegram.chats.get_mut(&key) else { return Err(Refusal::bad_request("chat not found")) };
    may_pin(chat, bot)?;
    if params.int("message_id").is_some() {
        target::message(chat, params, "unpin")?.pinned = false;
    } else if let Some(newest) = chat.messages.values_mut().rev().find(|message| message.pinned) {
        newest.pinned = false;
    }
    Ok(json!(true))
}

fn may_pin(chat: &super::state::Chat, bot: i64) -> Result<(), Refusal> {
    if chat.is_private() || target::member(chat, bot)?.may("can_pin_messages") {
        return Ok(());
    }
    Err(Refusal::bad_request("not enough rights to manage pinned messages in the chat"))
}

fn react(telegram: &mut TelegramState, bot: i64, params: &Params) -> Result<Value, Refusal> {
    let key = target::chat(telegram, bot, params)?;
    let Some(chat) = telegram.chats.get_mut(&key) else { return Err(Refusal::bad_request("chat not found")) };
    let message = target::message(chat, params, "react")?;
    let reactions = params.values.get("reaction").and_then(Value::as_array).cloned().unwrap_or_default();
    let known = |reaction: &Value| {
        reaction["type"] == "emoji"
            && reaction["emoji"].as_str().is_some_and(|emoji| REACTIONS.split_whitespace().any(|known| known == emoji))
    };
    if reactions.len() > 1 {
        return Err(Refusal::bad_request("REACTIONS_TOO_MANY"));
    }
    if !reactions.iter().all(known) {
        return Err(Refusal::bad_request("REACTION_INVALID"));
    }
    message.reactions = reactions;
    Ok(json!(true))
}
