//! People change a chat: they let a bot in or throw it out, close and delete topics, migrate the group. The bots get
//! the updates that the real service sends.

use serde_json::{Map, Value, json};

use super::state::{Member, Status, TelegramState};
use super::{target, topics};
use crate::world::now;

/// The person who makes these changes.
pub(crate) fn owner() -> Value {
    json!({ "id": 700_000_001, "is_bot": false, "first_name": "Владелец", "username": "group_owner" })
}

/// Sets a bot's membership of a chat. A change is sent to the bot as `my_chat_member`.
pub(crate) fn set_member(telegram: &mut TelegramState, key: &str, bot: i64, member: &Member) {
    let Some(user) = telegram.bots.get(&bot).map(super::state::Bot::user) else { return };
    let Some(chat) = telegram.chats.get_mut(key) else { return };
    let before = chat.members.insert(bot, member.clone());
    if before.as_ref() == Some(member) {
        return;
    }
    let before = before.unwrap_or(Member { status: Status::Left, denied: Vec::new() });
    let from = chat.person.clone().unwrap_or_else(owner);
    let update = json!({
        "chat": chat.rendered(), "from": from, "date": now(),
        "old_chat_member": before.rendered(&user), "new_chat_member": member.rendered(&user),
    });
    telegram.queue(bot, key, None, "my_chat_member", update);
}

/// Changes the status of one bot, or of all, in a chat. `false`: no such chat or bot.
pub(crate) fn set_status(telegram: &mut TelegramState, chat_id: i64, token: Option<&str>, status: Status) -> bool {
    let only = token.map(|token| telegram.bot_by_token(token).map(|bot| bot.id));
    let bots: Vec<i64> = telegram.bots.keys().copied().filter(|id| only.is_none_or(|only| only == Some(*id))).collect();
    let mut found = false;
    for bot in bots {
        let key = target::key(bot, chat_id);
        let member = telegram.chats.get(&key).and_then(|chat| chat.members.get(&bot)).cloned();
        if let Some(member) = member {
            found = true;
            let status = if chat_id > 0 && status == Status::Administrator { Status::Member } else { status };
            set_member(telegram, &key, bot, &Member { status, ..member });
        }
    }
    found
}

/// A person deletes a topic. Telegram sends no update for it.
pub(crate) fn delete_topic(telegram: &mut TelegramState, chat_id: i64, thread: i64) -> bool {
    let Some(chat) = telegram.chats.get_mut(&chat_id.to_string()) else { return false };
    let known = chat.topics.contains_key(&thread);
    topics::delete(chat, thread);
    known
}

/// A person closes a topic.
pub(crate) fn close_topic(telegram: &mut TelegramState, chat_id: i64, thread: i64) -> bool {
    let key = chat_id.to_string();
    let topic = telegram.chats.get_mut(&key).and_then(|chat| chat.topics.get_mut(&thread));
    let Some(topic) = topic.filter(|topic| !topic.deleted) else { return false };
    if !topic.closed {
        topic.closed = true;
        let mut content = Map::new();
        content.insert("forum_topic_closed".to_owned(), json!({}));
        topics::announce(telegram, &key, Some(thread), owner(), "forum_topic_closed", content);
    }
    true
}

/// The group gets another id, with all that is in it; the old one only points to the new.
pub(crate) fn migrate(telegram: &mut TelegramState, from: i64, to: i64) -> bool {
    let (old, new) = (from.to_string(), to.to_string());
    let Some(chat) = telegram.chats.get(&old).filter(|chat| chat.migrated_to.is_none()).cloned() else { return false };
    telegram.chats.insert(new.clone(), super::state::Chat { id: to, ..chat });
    let event = |name: &str, id: i64| {
        let mut content = Map::new();
        content.insert(name.to_owned(), json!(id));
        content
    };
    topics::announce(telegram, &old, None, owner(), "migrate_to_chat_id", event("migrate_to_chat_id", to));
    topics::announce(telegram, &new, None, owner(), "migrate_from_chat_id", event("migrate_from_chat_id", from));
    if let Some(chat) = telegram.chats.get_mut(&old) {
        chat.migrated_to = Some(to);
    }
    true
}
