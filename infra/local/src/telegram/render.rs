//! Chats and messages as JSON: complete Bot API objects, since a client with typed answers refuses incomplete ones.

use serde_json::{Map, Value, json};

use super::state::{Chat, Message, Topic};

impl Chat {
    /// The chat as a `Chat`.
    pub(crate) fn rendered(&self) -> Value {
        let mut chat = Map::new();
        chat.insert("id".to_owned(), json!(self.id));
        if let Some(person) = &self.person {
            for member in ["first_name", "last_name", "username"] {
                if let Some(value) = person.get(member) {
                    chat.insert(member.to_owned(), value.clone());
                }
            }
        }
        if let Some(title) = &self.title {
            chat.insert("title".to_owned(), json!(title));
        }
        chat.insert("type".to_owned(), json!(self.type_name()));
        if self.is_forum {
            chat.insert("is_forum".to_owned(), json!(true));
        }
        Value::Object(chat)
    }

    /// `private`, `supergroup` (ids that begin with -100) or `group`.
    pub(crate) fn type_name(&self) -> &'static str {
        match self.id {
            1.. => "private",
            ..=-1_000_000_000_000 => "supergroup",
            _ => "group",
        }
    }

    /// The chat as a `ChatFullInfo`.
    pub(crate) fn rendered_in_full(&self) -> Value {
        let mut chat = self.rendered();
        chat["accent_color_id"] = json!(0);
        chat["max_reaction_count"] = json!(11);
        chat["accepted_gift_types"] = json!({
            "unlimited_gifts": false, "limited_gifts": false, "unique_gifts": false,
            "premium_subscription": false, "gifts_from_channels": false,
        });
        if let Some(pinned) = self.messages.values().rev().find(|message| message.pinned && !message.deleted) {
            chat["pinned_message"] = self.rendered_message(pinned, false);
        }
        if !self.is_private() {
            chat["permissions"] = json!({
                "can_send_messages": true, "can_send_audios": true, "can_send_documents": true,
                "can_send_photos": true, "can_send_videos": true, "can_send_video_notes": true,
                "can_send_voice_notes": true, "can_send_polls": true, "can_send_other_messages": true,
                "can_add_web_page_previews": true, "can_change_info": false, "can_invite_users": true,
                "can_pin_messages": false, "can_manage_topics": false,
            });
        }
        chat
    }

    /// A message as a `Message`, with the message that it replies to, one level deep.
    pub(crate) fn rendered_message(&self, message: &Message, with_reply: bool) -> Value {
        let mut rendered = Map::new();
        rendered.insert("message_id".to_owned(), json!(message.id));
        rendered.insert("from".to_owned(), message.from.clone());
        rendered.insert("chat".to_owned(), self.rendered());
        rendered.insert("date".to_owned(), json!(message.date));
        if let Some(edit_date) = message.edit_date {
            rendered.insert("edit_date".to_owned(), json!(edit_date));
        }
        if let Some(thread_id) = message.thread_id {
            rendered.insert("message_thread_id".to_owned(), json!(thread_id));
            rendered.insert("is_topic_message".to_owned(), json!(true));
        }
        if with_reply && let Some(replied) = self.replied_by(message) {
            rendered.insert("reply_to_message".to_owned(), self.rendered_message(replied, false));
        }
        rendered.extend(message.content.clone());
        Value::Object(rendered)
    }

    /// The message that a message replies to. In a topic a plain message replies to the topic's first service message.
    fn replied_by(&self, message: &Message) -> Option<&Message> {
        let id = message.reply_to.or(message.thread_id).filter(|&id| id != message.id)?;
        self.messages.get(&id).filter(|replied| !replied.deleted)
    }
}

impl Topic {
    /// The topic as a `ForumTopic`.
    pub(crate) fn rendered(&self, thread_id: i64) -> Value {
        let mut topic = self.creation();
        topic.insert("message_thread_id".to_owned(), json!(thread_id));
        Value::Object(topic)
    }

    /// The topic as the `ForumTopicCreated` of its service message.
    pub(crate) fn creation(&self) -> Map<String, Value> {
        let mut created = Map::new();
        created.insert("name".to_owned(), json!(self.name));
        created.insert("icon_color".to_owned(), json!(self.icon_color));
        if let Some(icon) = &self.icon_custom_emoji_id {
            created.insert("icon_custom_emoji_id".to_owned(), json!(icon));
        }
        created
    }
}
