//! Updates that Telegram posts to a bot's webhook, read so that no new word loses one. If an update is answered with an
//! error, Telegram repeats it for a day and holds up all others of its chat.

use serde_json::Value;

use super::content::read as read_content;
pub use super::content::{Content, File, Media, Service};

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
        serde_json::from_slice(body).map(|body| Self::from_value(&body)).map_err(|_| NotJson)
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn in_topic(more: &Value) -> Value {
        let mut message = json!({
            "message_id": 57, "message_thread_id": 12, "is_topic_message": true, "date": 1_767_225_600,
            "from": {"id": 987_654_321, "is_bot": false, "first_name": "Иван", "username": "ivan_test", "language_code": "ru"},
            "chat": {"id": -1_001_234_567_890_i64, "title": "Продажи", "type": "supergroup", "is_forum": true},
            "reply_to_message": {"message_id": 12, "forum_topic_created": {"name": "Диван · Анна", "icon_color": 7_322_096}},
        });
        for (field, value) in more.as_object().expect("an object") {
            message[field] = value.clone();
        }
        json!({"update_id": 5_000_000_000_i64, "message": message})
    }

    fn message(update: &Value) -> Message {
        Update::from_value(update).message().cloned().expect("a message")
    }

    #[test]
    fn an_operators_answer_is_read_with_its_topic_and_writer() {
        let body = in_topic(&json!({"text": "Да, <b> продаю"})).to_string();
        let update = Update::read(body.as_bytes()).expect("JSON");
        let read = update.message().expect("a message");
        assert_eq!((update.id, read.message_id, read.thread_id), (Some(5_000_000_000), 57, Some(12)));
        assert_eq!(
            (read.chat.id, read.chat.kind.as_str(), read.chat.is_forum),
            (-1_001_234_567_890, "supergroup", true)
        );
        assert_eq!(read.from.as_ref().map(|from| (from.id, from.is_bot)), Some((987_654_321, false)));
        assert_eq!((read.text(), read.answers()), (Some("Да, <b> продаю"), None));
    }

    #[test]
    fn only_another_message_than_the_topics_first_is_answered() {
        let read = message(&in_topic(&json!({"text": "да", "reply_to_message": {"message_id": 40}})));
        assert_eq!((read.answers(), read.reply_to), (Some(40), Some(40)));
    }

    #[test]
    fn the_thread_of_a_reply_outside_topics_does_not_count() {
        let read = message(&in_topic(&json!({"text": "да", "is_topic_message": false})));
        assert_eq!((read.thread_id, read.answers()), (None, Some(12)));
    }

    #[test]
    fn media_are_distinguished_even_if_they_come_twice() {
        let content = |fields: Value| message(&in_topic(&fields)).content;
        let media = |fields: Value| match content(fields) {
            Content::Media { media, .. } => media.as_str(),
            _ => "",
        };
        assert_eq!(media(json!({"photo": [{"file_id": "a"}], "caption": "вот"})), "photo");
        assert_eq!(media(json!({"animation": {}, "document": {}})), "animation");
        assert_eq!(media(json!({"venue": {}, "location": {}})), "venue");
        assert_eq!(media(json!({"dice": {"emoji": "🎲", "value": 3}})), "dice");
        for word in ["voice", "video", "document", "sticker", "contact", "location", "audio"] {
            assert_eq!(media(json!({word: {}})), word);
        }
        let captioned = message(&in_topic(&json!({"photo": [], "caption": "вот"})));
        assert_eq!(captioned.text(), Some("вот"));
        assert!(content(json!({"hologram": {}})) == Content::Unknown);
    }

    #[test]
    fn service_messages_are_distinguished_from_answers() {
        let content = |fields: Value| message(&in_topic(&fields)).content;
        let created = content(json!({"forum_topic_created": {"name": "Стол · Анна", "icon_color": 1}}));
        assert!(created == Content::Service(Service::TopicCreated { name: "Стол · Анна".into() }));
        assert!(content(json!({"forum_topic_closed": {}})) == Content::Service(Service::TopicClosed));
        assert!(content(json!({"forum_topic_edited": {"name": "x"}})) == Content::Service(Service::TopicEdited));
        assert!(content(json!({"migrate_to_chat_id": -100_500})) == Content::Service(Service::MigratedTo(-100_500)));
        assert!(content(json!({"migrate_from_chat_id": -5})) == Content::Service(Service::MigratedFrom(-5)));
        assert!(content(json!({"pinned_message": {}})) == Content::Service(Service::Other("pinned_message")));
    }

    #[test]
    fn an_anonymous_administrator_is_recognised_by_the_groups_id() {
        let read = message(&in_topic(
            &json!({"text": "да", "from": {"id": 1_087_968_824, "is_bot": true, "first_name": "Group"},
            "sender_chat": {"id": -1_001_234_567_890_i64, "type": "supergroup"}}),
        ));
        assert!(read.is_by_anonymous_admin() && read.from.is_some_and(|from| from.is_bot));
    }

    #[test]
    fn the_bots_own_rights_are_read() {
        let update = Update::from_value(&json!({"update_id": 7, "my_chat_member": {"date": 1_767_225_600,
            "chat": {"id": -1001, "title": "Продажи", "type": "supergroup", "is_forum": true},
            "from": {"id": 5, "is_bot": false, "first_name": "Иван"},
            "old_chat_member": {"user": {"id": 1}, "status": "left"},
            "new_chat_member": {"user": {"id": 1}, "status": "administrator", "can_manage_topics": true, "can_sing": true}}}));
        let Kind::MyChatMember(member) = update.kind else { panic!("a membership") };
        assert_eq!((member.status.as_str(), member.status_before.as_deref()), ("administrator", Some("left")));
        assert!(member.can_manage_topics && !member.can_pin_messages && member.chat.is_forum);
        assert_eq!(member.by.map(|by| by.id), Some(5));
    }

    #[test]
    fn a_pressed_button_is_read_with_its_message_even_an_old_one() {
        let update = Update::from_value(&json!({"update_id": 8, "callback_query": {"id": "77", "data": "again:5",
            "chat_instance": "1", "from": {"id": 5, "is_bot": false, "first_name": "Иван"},
            "message": in_topic(&json!({"text": "Не отправлено"}))["message"]}}));
        let Kind::CallbackQuery(press) = update.kind else { panic!("a press") };
        let message = press.message.expect("its message");
        assert_eq!((press.id.as_str(), press.data.as_deref()), ("77", Some("again:5")));
        assert_eq!((message.message_id, message.thread_id, message.text()), (57, Some(12), Some("Не отправлено")));
        let old = Update::from_value(&json!({"update_id": 9, "callback_query": {"id": "78",
            "message": {"chat": {"id": -5, "type": "group"}, "message_id": 3, "date": 0}}}));
        let Kind::CallbackQuery(press) = old.kind else { panic!("a press") };
        assert!(press.data.is_none() && press.message.is_some_and(|message| message.text().is_none()));
    }

    #[test]
    fn unknown_words_and_fields_lose_nothing() {
        let odd = in_topic(&json!({"text": "да", "forward_origin": {"type": "dream"}, "new_field": [1],
            "chat": {"id": -5, "type": "holochat"}, "from": null, "entities": [{"type": "smell"}]}));
        let read = message(&odd);
        assert_eq!((read.chat.kind.as_str(), read.text(), read.is_forwarded), ("holochat", Some("да"), true));
        assert!(read.from.is_none());
        let mut beside = odd;
        beside["a_field_to_come"] = json!({});
        assert_eq!(message(&beside).message_id, 57);
        assert!(Update::from_value(&json!({"update_id": 1, "dream": {}})).kind == Kind::Other("dream".into()));
    }

    #[test]
    fn json_that_is_no_update_is_unknown_and_anything_else_an_error() {
        for body in
            ["{}", "[]", "null", r#"{"update_id":1}"#, r#"{"update_id":1,"message":{}}"#, r#"{"message":{"text":"a"}}"#]
        {
            assert!(Update::read(body.as_bytes()).is_ok_and(|update| update.kind == Kind::Unknown), "{body}");
        }
        assert!(Update::read(b"").is_err() && Update::read(b"<html>").is_err());
    }

    proptest! {
        #[test]
        fn no_update_is_ever_refused(field in "[a-z_]{1,20}", value in "\\PC{0,20}", number in any::<i64>()) {
            for odd in [json!(value), json!(number), json!([value]), json!({(field.clone()): value}), json!(null)] {
                let update = in_topic(&json!({(field.clone()): odd}));
                prop_assert!(Update::read(update.to_string().as_bytes()).is_ok_and(|update| update.id.is_some()));
            }
        }
    }
}
