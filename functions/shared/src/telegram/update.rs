//! Updates that Telegram posts to a bot's webhook, read so that no new word loses one. If an update is answered with an
//! error, Telegram repeats it for a day and holds up all others of its chat.

use serde_json::Value;

use super::content::read as read_content;
pub use super::content::{Content, File, Media, Service};
use crate::platform::json;

/// One update, as far as it can be read. People's texts are in it, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Update {
    /// `update_id`: a repeated delivery has the same.
    pub id: Option<i64>,
    /// Its kind, with its content.
    pub kind: Kind,
}

/// The kind of an update.
#[derive(Clone, PartialEq, Eq)]
pub enum Kind {
    /// A new message.
    Message(Message),
    /// A message was changed.
    EditedMessage(Message),
    /// A new post in a channel.
    ChannelPost(Message),
    /// The bot's own rights in a chat have changed.
    MyChatMember(Membership),
    /// A button under a message was pressed.
    CallbackQuery(Press),
    /// Something else, by Telegram's word for it.
    Other(String),
    /// JSON that is no update, or one without its essentials.
    Unknown,
}

/// A message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id in the chat.
    pub message_id: i64,
    /// Its chat.
    pub chat: Chat,
    /// Its topic. Replies outside topics carry a thread id too; those do not count.
    pub thread_id: Option<i64>,
    /// Its author.
    pub from: Option<Person>,
    /// The chat in whose name it was written; its own chat for anonymous administrators.
    pub sender_chat_id: Option<i64>,
    /// The time of its creation, in Unix seconds.
    pub date: Option<i64>,
    /// The time of its last change, in Unix seconds.
    pub edit_date: Option<i64>,
    /// The message it answers. In a topic every message names at least the one that began the topic.
    pub reply_to: Option<i64>,
    /// The album it belongs to.
    pub media_group_id: Option<String>,
    /// True if it was forwarded.
    pub is_forwarded: bool,
    /// Its content.
    pub content: Content,
}

impl Message {
    /// Its text, or the caption under its media. None: it has neither.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Media { caption, .. } => caption.as_deref(),
            Content::Service(_) | Content::Unknown => None,
        }
    }

    /// The message that a person answered on purpose. None: it answers none, or only names the topic's first message.
    pub fn answers(&self) -> Option<i64> {
        self.reply_to.filter(|id| Some(*id) != self.thread_id)
    }

    /// True if an administrator wrote it in the group's name. Telegram then names a bot as its sender.
    pub fn is_by_anonymous_admin(&self) -> bool {
        self.sender_chat_id == Some(self.chat.id)
    }
}

/// A chat.
#[derive(Clone, PartialEq, Eq)]
pub struct Chat {
    /// Its id; negative for groups.
    pub id: i64,
    /// `private`, `group`, `supergroup`, `channel`, or a word to come.
    pub kind: String,
    /// Its title; people have none.
    pub title: Option<String>,
    /// True if it has topics.
    pub is_forum: bool,
}

/// A person or a bot.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    /// Telegram's id.
    pub id: i64,
    /// True if it is a bot.
    pub is_bot: bool,
    /// The first name.
    pub first_name: String,
    /// The last name.
    pub last_name: Option<String>,
    /// The name after the `@`.
    pub username: Option<String>,
    /// The language of their app.
    pub language_code: Option<String>,
}

/// A button that was pressed.
#[derive(Clone, PartialEq, Eq)]
pub struct Press {
    /// The id that the answer must name.
    pub id: String,
    /// The data that the button carries.
    pub data: Option<String>,
    /// The message with the button; of a very old one Telegram sends only chat and id. None: Telegram has forgotten it.
    pub message: Option<Message>,
    /// The person who pressed it.
    pub from: Option<Person>,
}

/// The bot's new state in a chat.
#[derive(Clone, PartialEq, Eq)]
pub struct Membership {
    /// The chat.
    pub chat: Chat,
    /// The person who changed it.
    pub by: Option<Person>,
    /// The time of the change, in Unix seconds.
    pub date: Option<i64>,
    /// `creator`, `administrator`, `member`, `restricted`, `left`, `kicked`, or a word to come.
    pub status: String,
    /// The status before.
    pub status_before: Option<String>,
    /// True if the bot may create and change topics.
    pub can_manage_topics: bool,
    /// True if the bot may delete messages, and with them topics.
    pub can_delete_messages: bool,
    /// True if the bot may pin messages.
    pub can_pin_messages: bool,
}

/// The body is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the webhook's body is not JSON")]
pub struct NotJson;

impl Update {
    /// Reads a webhook's body.
    pub fn read(body: &[u8]) -> Result<Self, NotJson> {
        json::read(body).map(|body| Self::from_value(&body)).map_err(|_| NotJson)
    }

    /// Reads a webhook's body that was parsed before.
    pub fn from_value(body: &Value) -> Self {
        Self { id: body["update_id"].as_i64(), kind: kind(body).unwrap_or(Kind::Unknown) }
    }

    /// The message, new or changed. None: the update has none.
    pub fn message(&self) -> Option<&Message> {
        match &self.kind {
            Kind::Message(message) | Kind::EditedMessage(message) | Kind::ChannelPost(message) => Some(message),
            Kind::MyChatMember(_) | Kind::CallbackQuery(_) | Kind::Other(_) | Kind::Unknown => None,
        }
    }
}

fn kind(body: &Value) -> Option<Kind> {
    body["update_id"].as_i64()?;
    let fields = body.as_object()?;
    // Known fields come first: a new field beside one must not hide it.
    if let Some(value) = fields.get("message") {
        return message(value).map(Kind::Message);
    }
    if let Some(value) = fields.get("edited_message") {
        return message(value).map(Kind::EditedMessage);
    }
    if let Some(value) = fields.get("channel_post") {
        return message(value).map(Kind::ChannelPost);
    }
    if let Some(value) = fields.get("my_chat_member") {
        return membership(value).map(Kind::MyChatMember);
    }
    if let Some(value) = fields.get("callback_query") {
        return press(value).map(Kind::CallbackQuery);
    }
    fields.keys().find(|word| *word != "update_id").cloned().map(Kind::Other)
}

fn message(value: &Value) -> Option<Message> {
    let is_in_topic = value["is_topic_message"] == Value::Bool(true);
    Some(Message {
        message_id: value["message_id"].as_i64()?,
        chat: chat(&value["chat"])?,
        thread_id: value["message_thread_id"].as_i64().filter(|_| is_in_topic),
        from: person(&value["from"]),
        sender_chat_id: value["sender_chat"]["id"].as_i64(),
        date: value["date"].as_i64(),
        edit_date: value["edit_date"].as_i64(),
        reply_to: value["reply_to_message"]["message_id"].as_i64(),
        media_group_id: text(&value["media_group_id"]),
        is_forwarded: value["forward_origin"].is_object(),
        content: read_content(value),
    })
}

fn press(value: &Value) -> Option<Press> {
    Some(Press {
        id: text(&value["id"])?,
        data: text(&value["data"]),
        message: message(&value["message"]),
        from: person(&value["from"]),
    })
}

fn membership(value: &Value) -> Option<Membership> {
    let member = &value["new_chat_member"];
    let may = |right: &str| member["status"] == "creator" || member[right] == Value::Bool(true);
    Some(Membership {
        chat: chat(&value["chat"])?,
        by: person(&value["from"]),
        date: value["date"].as_i64(),
        status: text(&member["status"])?,
        status_before: text(&value["old_chat_member"]["status"]),
        can_manage_topics: may("can_manage_topics"),
        can_delete_messages: may("can_delete_messages"),
        can_pin_messages: may("can_pin_messages"),
    })
}

fn chat(value: &Value) -> Option<Chat> {
    Some(Chat {
        id: value["id"].as_i64()?,
        kind: text(&value["type"]).unwrap_or_default(),
        title: text(&value["title"]),
        is_forum: value["is_forum"] == Value::Bool(true),
    })
}

fn person(value: &Value) -> Option<Person> {
    Some(Person {
        id: value["id"].as_i64()?,
        is_bot: value["is_bot"] == Value::Bool(true),
        first_name: text(&value["first_name"]).unwrap_or_default(),
        last_name: text(&value["last_name"]),
        username: text(&value["username"]),
        language_code: text(&value["language_code"]),
    })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests;
