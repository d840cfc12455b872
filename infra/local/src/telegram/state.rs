//! The state of the Telegram simulator: bots, chats with their topics and messages, files, and updates that wait for a
//! webhook.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::faults::Subject;
use crate::world::{count, now, now_ms};

/// A group's id; for a private chat bot and person, since each bot has a chat of its own with a person.
pub(crate) type ChatKey = String;

/// All of Telegram.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct TelegramState {
    pub(crate) bots: BTreeMap<i64, Bot>,
    pub(crate) chats: BTreeMap<ChatKey, Chat>,
    pub(crate) files: BTreeMap<String, StoredFile>,
    pub(crate) callbacks: BTreeMap<String, bool>,
    /// New chats number their messages from `message_floor`, new bots their updates from `update_floor`: a database
    /// that outlives a reset of the simulators must not meet an id again.
    message_floor: i64,
    update_floor: u32,
    last_file: u64,
    last_callback: u64,
}

/// A bot and its updates.
#[derive(Serialize, Deserialize)]
pub(crate) struct Bot {
    pub(crate) id: i64,
    pub(crate) token: String,
    pub(crate) username: String,
    pub(crate) webhook: Option<Webhook>,
    pub(crate) allowed_updates: Vec<String>,
    pub(crate) commands: Vec<Value>,
    pub(crate) updates: BTreeMap<u32, Update>,
    pub(crate) waiting: BTreeMap<ChatKey, VecDeque<u32>>,
    pub(crate) last_update: u32,
    /// Those that were accepted, oldest first.
    #[serde(default)]
    delivered: VecDeque<u32>,
}

/// The accepted updates of a bot that can be delivered again.
const MAX_DELIVERED: usize = 10_000;

/// The address that updates are sent to.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Webhook {
    pub(crate) url: String,
    pub(crate) secret_token: Option<String>,
    pub(crate) max_connections: u16,
    pub(crate) last_error: Option<(i64, String)>,
}

/// One update. It stays after its delivery, so that it can be delivered again.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Update {
    pub(crate) chat: ChatKey,
    pub(crate) message_id: Option<i64>,
    pub(crate) body: Value,
}

/// A chat.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Chat {
    pub(crate) id: i64,
    pub(crate) title: Option<String>,
    pub(crate) person: Option<Value>,
    pub(crate) is_forum: bool,
    pub(crate) members: BTreeMap<i64, Member>,
    pub(crate) topics: BTreeMap<i64, Topic>,
    pub(crate) messages: BTreeMap<i64, Message>,
    pub(crate) last_message: i64,
    pub(crate) migrated_to: Option<i64>,
    /// True: each bot gets the service messages that other bots cause.
    #[serde(default = "yes")]
    pub(crate) bots_see_each_other: bool,
}

fn yes() -> bool {
    true
}

/// A bot's membership of a chat.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) status: Status,
    /// The rights it does not have; an administrator has all others.
    pub(crate) denied: Vec<String>,
}

/// The status of a member.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Administrator,
    Member,
    Left,
    Kicked,
}

/// A forum topic.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) icon_color: u32,
    pub(crate) icon_custom_emoji_id: Option<String>,
    pub(crate) closed: bool,
    pub(crate) deleted: bool,
}

/// A message; `content` holds the members that make its kind.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) id: i64,
    pub(crate) thread_id: Option<i64>,
    pub(crate) from: Value,
    pub(crate) from_bot: bool,
    pub(crate) date: i64,
    pub(crate) edit_date: Option<i64>,
    pub(crate) kind: String,
    pub(crate) content: Map<String, Value>,
    pub(crate) reply_to: Option<i64>,
    pub(crate) pinned: bool,
    pub(crate) reactions: Vec<Value>,
    pub(crate) deleted: bool,
    /// Unix milliseconds at which the simulator got it, whatever `date` says.
    #[serde(default)]
    pub(crate) at: i64,
}

/// The bytes of a file.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StoredFile {
    pub(crate) file_id: String,
    pub(crate) unique_id: String,
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) mime: String,
    #[serde(with = "crate::persistence::as_base64")]
    pub(crate) bytes: bytes::Bytes,
    /// The message of a person that it came with. Faults are scoped by it.
    #[serde(default)]
    pub(crate) home: Option<Home>,
}

/// The place of a file: chat, topic and message.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Home {
    pub(crate) chat: i64,
    pub(crate) topic: Option<i64>,
    pub(crate) message: i64,
}

impl StoredFile {
    /// Makes a call one about the message that the file came with.
    pub(crate) fn place(&self, subject: &mut Subject) {
        if let Some(Home { chat, topic, message }) = self.home {
            (subject.chat_id, subject.topic) = (Some(chat), topic);
            subject.message_id = Some(message.to_string());
        }
    }
}

fn file_id(number: u64) -> String {
    format!("AgACAgIAAxkDAAI{number:012}")
}

impl TelegramState {
    /// An empty state with the same counters.
    pub(crate) fn emptied(&self) -> Self {
        let message = self.chats.values().map(|chat| chat.last_message).max().unwrap_or(0);
        let update = self.bots.values().map(|bot| bot.last_update).max().unwrap_or(0);
        Self {
            message_floor: message.max(self.message_floor),
            update_floor: update.max(self.update_floor),
            last_file: self.last_file,
            last_callback: self.last_callback,
            ..Self::default()
        }
    }

    /// The bot with this token.
    pub(crate) fn bot_by_token(&self, token: &str) -> Option<&Bot> {
        let id = token.split(':').next()?.parse().ok()?;
        self.bots.get(&id).filter(|bot| bot.token == token)
    }

    /// Creates a bot, or changes name and token of the existing one.
    pub(crate) fn ensure_bot(&mut self, id: i64, token: String, username: String) {
        let floor = self.update_floor.max(100_000_000);
        let bot = self.bots.entry(id).or_insert_with(|| Bot {
            id,
            token: String::new(),
            username: String::new(),
            webhook: None,
            allowed_updates: Vec::new(),
            commands: Vec::new(),
            updates: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last_update: floor,
            delivered: VecDeque::new(),
        });
        bot.token = token;
        bot.username = username;
    }

    /// The chat of this key. It is created empty if there is none.
    pub(crate) fn ensure_chat(&mut self, key: &str, id: i64) -> &mut Chat {
        // Message 1 of a group is about its creation. As a thread, 1 would be the General topic.
        let last_message = self.message_floor.max(1);
        self.chats.entry(key.to_owned()).or_insert_with(|| Chat {
            id,
            title: None,
            person: None,
            is_forum: false,
            members: BTreeMap::new(),
            topics: BTreeMap::new(),
            messages: BTreeMap::new(),
            last_message,
            migrated_to: None,
            bots_see_each_other: true,
        })
    }

    /// Stores a file and gives it ids.
    pub(crate) fn store_file(&mut self, folder: &str, name: &str, mime: &str, bytes: bytes::Bytes) -> StoredFile {
        self.last_file += 1;
        let extension = name.rsplit_once('.').map_or("bin", |(_, extension)| extension);
        let file = StoredFile {
            file_id: file_id(self.last_file),
            unique_id: format!("AQAD{:08}", self.last_file),
            path: format!("{folder}/file_{}.{extension}", self.last_file),
            name: name.to_owned(),
            mime: mime.to_owned(),
            bytes,
            home: None,
        };
        self.files.insert(file.file_id.clone(), file.clone());
        file
    }

    /// The number of files that were ever stored.
    pub(crate) fn files_so_far(&self) -> u64 {
        self.last_file
    }

    /// Notes the message that the files after the first `since` came with.
    pub(crate) fn place_files(&mut self, since: u64, home: Home) {
        for number in since + 1..=self.last_file {
            if let Some(file) = self.files.get_mut(&file_id(number)) {
                file.home = Some(home);
            }
        }
    }

    /// The id of a pressed button's callback, which can be answered once.
    pub(crate) fn open_callback(&mut self) -> String {
        self.last_callback += 1;
        let id = format!("{}", 4_400_000_000_000_000_000_u64 + self.last_callback);
        self.callbacks.insert(id.clone(), false);
        id
    }

    /// Queues an update for one bot, if its webhook subscribes to this kind. A redelivery finds it by `message_id`.
    pub(crate) fn queue(&mut self, bot: i64, chat: &str, message_id: Option<i64>, kind: &str, body: Value) {
        let Some(bot) = self.bots.get_mut(&bot) else { return };
        let by_default = !matches!(kind, "chat_member" | "message_reaction" | "message_reaction_count");
        let wanted = bot.allowed_updates.iter().any(|allowed| allowed == kind);
        if !(wanted || by_default && bot.allowed_updates.is_empty()) {
            return;
        }
        bot.last_update += 1;
        let mut update = Map::new();
        update.insert("update_id".to_owned(), json!(bot.last_update));
        update.insert(kind.to_owned(), body);
        let update = Update { chat: chat.to_owned(), message_id, body: Value::Object(update) };
        bot.updates.insert(bot.last_update, update);
        bot.waiting.entry(chat.to_owned()).or_default().push_back(bot.last_update);
    }
}

impl Bot {
    /// The bot as a `User`.
    pub(crate) fn user(&self) -> Value {
        json!({ "id": self.id, "is_bot": true, "first_name": self.username, "username": self.username })
    }

    /// The number of updates that wait.
    pub(crate) fn pending(&self) -> u64 {
        self.waiting.values().map(|queue| count(queue.len())).sum()
    }

    /// Notes that an update was accepted. The oldest of many accepted ones is forgotten.
    pub(crate) fn accepted(&mut self, chat: &str, update: u32) {
        if let Some(waiting) = self.waiting.get_mut(chat) {
            waiting.retain(|id| *id != update);
        }
        self.delivered.push_back(update);
        if self.delivered.len() > MAX_DELIVERED
            && let Some(oldest) = self.delivered.pop_front()
        {
            self.updates.remove(&oldest);
        }
    }

    /// Forgets the updates that wait.
    pub(crate) fn drop_pending(&mut self) {
        self.waiting.clear();
    }
}

/// The rights of an administrator, in the order of the specification.
pub(crate) const RIGHTS: [&str; 13] = [
    "can_manage_chat",
    "can_delete_messages",
    "can_manage_video_chats",
    "can_restrict_members",
    "can_promote_members",
    "can_change_info",
    "can_invite_users",
    "can_post_stories",
    "can_edit_stories",
    "can_delete_stories",
    "can_pin_messages",
    "can_manage_topics",
    "can_manage_tags",
];

impl Member {
    /// True if the member has this right.
    pub(crate) fn may(&self, right: &str) -> bool {
        self.status == Status::Administrator && !self.denied.iter().any(|denied| denied == right)
    }

    /// The member as a `ChatMember` of its status.
    pub(crate) fn rendered(&self, user: &Value) -> Value {
        match self.status {
            Status::Member => json!({ "status": "member", "user": user }),
            Status::Left => json!({ "status": "left", "user": user }),
            Status::Kicked => json!({ "status": "kicked", "user": user, "until_date": 0 }),
            Status::Administrator => {
                let mut member = json!({
                    "status": "administrator", "user": user, "can_be_edited": false, "is_anonymous": false,
                });
                for right in RIGHTS {
                    member[right] = json!(self.may(right));
                }
                member
            }
        }
    }
}

impl Chat {
    /// True for a chat with one person.
    pub(crate) fn is_private(&self) -> bool {
        self.id > 0
    }

    /// The bots that get the updates of this chat.
    pub(crate) fn bots_present(&self) -> Vec<i64> {
        let present = |member: &Member| matches!(member.status, Status::Administrator | Status::Member);
        self.members.iter().filter(|(_, member)| present(member)).map(|(bot, _)| *bot).collect()
    }

    /// The next message of this chat, not added to it yet.
    pub(crate) fn draft(&mut self, from: Value, from_bot: bool, kind: &str, content: Map<String, Value>) -> Message {
        self.last_message += 1;
        Message {
            id: self.last_message,
            thread_id: None,
            from,
            from_bot,
            date: now(),
            edit_date: None,
            kind: kind.to_owned(),
            content,
            reply_to: None,
            pinned: false,
            reactions: Vec::new(),
            deleted: false,
            at: now_ms(),
        }
    }
}
