//! Forum topics and their service messages. The bot that caused one gets it too: so it learns the id of a topic whose
//! creation was answered into a broken connection.

use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::names;
use super::request::Params;
use super::state::{Chat, TelegramState, Topic};
use super::target;

const COLORS: [u32; 6] = [7_322_096, 16_766_590, 13_338_331, 9_367_192, 16_749_490, 16_478_047];
const MAX_NAME_CHARS: usize = 128;

/// `createForumTopic`.
pub(crate) fn create(telegram: &mut TelegramState, bot: i64, params: &Params) -> Result<Value, Refusal> {
    let key = target::chat(telegram, bot, params)?;
    let user = telegram.bots[&bot].user();
    let chat = &telegram.chats[&key];
    is_forum(chat)?;
    if !target::member(chat, bot)?.may("can_manage_topics") {
        return Err(Refusal::bad_request("not enough rights to create a topic"));
    }
    let name = params.text("name").unwrap_or_default();
    check_name(name)?;
    let color = params.int("icon_color").map_or(Ok(COLORS[0]), |color| {
        let color = u32::try_from(color).ok().filter(|color| COLORS.contains(color));
        color.ok_or_else(|| Refusal::bad_request("invalid forum topic icon color specified"))
    })?;
    let topic = Topic {
        name: name.to_owned(),
        icon_color: color,
        icon_custom_emoji_id: params.text("icon_custom_emoji_id").map(str::to_owned),
        closed: false,
        deleted: false,
    };
    Ok(open(telegram, &key, user, topic))
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if !names::is_visible(name) {
        return Err(Refusal::bad_request("title must be non-empty"));
    }
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(Refusal::bad_request("TOPIC_TITLE_INVALID"));
    }
    Ok(())
}

/// Puts a topic into a chat; its id is that of its first service message.
pub(crate) fn open(telegram: &mut TelegramState, key: &str, user: Value, topic: Topic) -> Value {
    let mut content = Map::new();
    content.insert("forum_topic_created".to_owned(), Value::Object(topic.creation()));
    let thread = announce(telegram, key, None, user, "forum_topic_created", content);
    let rendered = topic.rendered(thread);
    if let Some(chat) = telegram.chats.get_mut(key) {
        chat.topics.insert(thread, topic);
    }
    rendered
}

/// `editForumTopic`, `closeForumTopic`, `reopenForumTopic`, `deleteForumTopic`.
pub(crate) fn change(telegram: &mut TelegramState, bot: i64, method: &str, params: &Params) -> Result<Value, Refusal> {
    let key = target::chat(telegram, bot, params)?;
    let user = telegram.bots[&bot].user();
    let Some(chat) = telegram.chats.get_mut(&key) else { return Err(Refusal::bad_request("chat not found")) };
    is_forum(chat)?;
    let right = if method == "deleteForumTopic" { "can_delete_messages" } else { "can_manage_topics" };
    if !target::member(chat, bot)?.may(right) {
        return Err(Refusal::bad_request("CHAT_ADMIN_REQUIRED"));
    }
    let thread = params.int("message_thread_id").unwrap_or_default();
    let Some(topic) = chat.topics.get_mut(&thread).filter(|topic| !topic.deleted) else {
        return Err(Refusal::bad_request("message thread not found"));
    };
    let unmodified = || Refusal::bad_request("TOPIC_NOT_MODIFIED");
    let (kind, event) = match method {
        "deleteForumTopic" => {
            delete(chat, thread);
            return Ok(json!(true));
        }
        "closeForumTopic" if topic.closed => return Err(unmodified()),
        "reopenForumTopic" if !topic.closed => return Err(unmodified()),
        "closeForumTopic" | "reopenForumTopic" => {
            topic.closed = method == "closeForumTopic";
            (if topic.closed { "forum_topic_closed" } else { "forum_topic_reopened" }, json!({}))
        }
        _ => ("forum_topic_edited", edit(topic, params)?.ok_or_else(unmodified)?),
    };
    let mut content = Map::new();
    content.insert(kind.to_owned(), event);
    announce(telegram, &key, Some(thread), user, kind, content);
    Ok(json!(true))
}

/// Changes the name and the icon, and returns the changed members. `None`: nothing changed.
fn edit(topic: &mut Topic, params: &Params) -> Result<Option<Value>, Refusal> {
    let mut changed = Map::new();
    if let Some(name) = params.text("name").filter(|name| !name.is_empty()) {
        check_name(name)?;
        if name != topic.name {
            name.clone_into(&mut topic.name);
            changed.insert("name".to_owned(), json!(name));
        }
    }
    if let Some(icon) = params.text("icon_custom_emoji_id") {
        let icon = Some(icon.to_owned()).filter(|icon| !icon.is_empty());
        if icon != topic.icon_custom_emoji_id {
            changed.insert("icon_custom_emoji_id".to_owned(), json!(icon.clone().unwrap_or_default()));
            topic.icon_custom_emoji_id = icon;
        }
    }
    Ok(Some(Value::Object(changed)).filter(|changed| changed != &json!({})))
}

/// Removes a topic with all its messages. Telegram has no update for that.
pub(crate) fn delete(chat: &mut Chat, thread: i64) {
    if let Some(topic) = chat.topics.get_mut(&thread) {
        topic.deleted = true;
    }
    let gone = |message: &&mut super::state::Message| message.thread_id == Some(thread) || message.id == thread;
    chat.messages.values_mut().filter(gone).for_each(|message| message.deleted = true);
}

/// Writes a service message and queues its update for every bot of the chat. Whether bots get each other's, nobody
/// knows of the real service, so the chat has a switch. Returns the message's id.
pub(crate) fn announce(
    telegram: &mut TelegramState,
    key: &str,
    thread: Option<i64>,
    user: Value,
    kind: &str,
    content: Map<String, Value>,
) -> i64 {
    let Some(chat) = telegram.chats.get_mut(key) else { return 0 };
    let from_bot = (user["is_bot"] == true).then(|| user["id"].as_i64()).flatten();
    let mut message = chat.draft(user, from_bot.is_some(), kind, content);
    message.thread_id = if kind == "forum_topic_created" { Some(message.id) } else { thread };
    let id = message.id;
    chat.messages.insert(id, message.clone());
    let rendered = chat.rendered_message(&message, true);
    let sees = |bot: &i64| chat.bots_see_each_other || from_bot.is_none_or(|author| author == *bot);
    let bots: Vec<i64> = chat.bots_present().into_iter().filter(sees).collect();
    for bot in bots {
        telegram.queue(bot, key, Some(id), "message", rendered.clone());
    }
    id
}

fn is_forum(chat: &Chat) -> Result<(), Refusal> {
    if chat.is_forum { Ok(()) } else { Err(Refusal::bad_request("the chat is not a forum")) }
}
