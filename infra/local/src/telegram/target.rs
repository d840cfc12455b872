//! Finds the chat, the thread and the message that a call means, and refuses as the real service does where a bot may
//! not go.

use serde_json::Value;

use super::error::Refusal;
use super::request::Params;
use super::state::{Chat, ChatKey, Member, Message, Status, TelegramState};

/// The key of a chat.
pub(crate) fn key(bot: i64, chat_id: i64) -> ChatKey {
    if chat_id > 0 { format!("{bot}:{chat_id}") } else { chat_id.to_string() }
}

/// The chat of `chat_id`, if the bot is in it.
pub(crate) fn chat(telegram: &TelegramState, bot: i64, params: &Params) -> Result<ChatKey, Refusal> {
    let not_found = || Refusal::bad_request("chat not found");
    let id = params.values.get("chat_id").and_then(Value::as_i64).ok_or_else(not_found)?;
    let key = key(bot, id);
    let chat = telegram.chats.get(&key).ok_or_else(not_found)?;
    if let Some(to) = chat.migrated_to {
        return Err(Refusal::migrated(to));
    }
    let kind = chat.type_name();
    match (chat.members.get(&bot).map(|member| member.status), chat.is_private()) {
        (None, _) => Err(not_found()),
        (Some(Status::Kicked), true) => Err(Refusal::forbidden("bot was blocked by the user")),
        (Some(Status::Kicked), false) => Err(Refusal::forbidden(&format!("bot was kicked from the {kind} chat"))),
        (Some(Status::Left), _) => Err(Refusal::forbidden(&format!("bot is not a member of the {kind} chat"))),
        (Some(Status::Administrator | Status::Member), _) => Ok(key),
    }
}

/// The chat to write to, and the topic in it. In a group without topics the thread is ignored.
pub(crate) fn chat_and_thread(
    telegram: &TelegramState,
    bot: i64,
    params: &Params,
) -> Result<(ChatKey, Option<i64>), Refusal> {
    let key = chat(telegram, bot, params)?;
    let found = &telegram.chats[&key];
    let Some(thread) = params.int("message_thread_id").filter(|_| found.is_forum) else { return Ok((key, None)) };
    match found.topics.get(&thread) {
        Some(topic) if topic.deleted => Err(Refusal::bad_request("message thread not found")),
        Some(topic) if topic.closed => Err(Refusal::bad_request("TOPIC_CLOSED")),
        Some(_) => Ok((key, Some(thread))),
        None => Err(Refusal::bad_request("message thread not found")),
    }
}

/// The message of `message_id`, still there.
pub(crate) fn message<'a>(chat: &'a mut Chat, params: &Params, what: &str) -> Result<&'a mut Message, Refusal> {
    let id = params.int("message_id").unwrap_or_default();
    let found = chat.messages.get_mut(&id).filter(|message| !message.deleted);
    found.ok_or_else(|| Refusal::bad_request(&format!("message to {what} not found")))
}

/// The bot's membership of its chat.
pub(crate) fn member(chat: &Chat, bot: i64) -> Result<&Member, Refusal> {
    chat.members.get(&bot).ok_or_else(|| Refusal::bad_request("chat not found"))
}

/// The message that `reply_parameters` name. `None`: none is named, or the missing one may be left out.
pub(crate) fn reply(chat: &Chat, params: &Params) -> Result<Option<i64>, Refusal> {
    let Some(reply) = params.values.get("reply_parameters") else { return Ok(None) };
    let known = ["message_id", "chat_id", "allow_sending_without_reply", "quote", "quote_position"];
    let members = reply.as_object().ok_or_else(|| Refusal::bad_request("reply_parameters must be an object"))?;
    if let Some(unknown) = members.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(Refusal::bad_request(&format!("reply_parameters take no \"{unknown}\"")));
    }
    let id = reply["message_id"].as_i64().ok_or_else(|| Refusal::bad_request("message_id of the reply is missing"))?;
    let here = reply.get("chat_id").is_none_or(|chat_id| chat_id.as_i64() == Some(chat.id));
    if here && chat.messages.get(&id).is_some_and(|message| !message.deleted) {
        return Ok(Some(id));
    }
    if reply["allow_sending_without_reply"].as_bool() == Some(true) {
        return Ok(None);
    }
    Err(Refusal::bad_request("message to be replied not found"))
}
