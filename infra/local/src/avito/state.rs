//! The state of the Avito simulator: accounts with their tokens and webhooks, chats with their messages, pictures and
//! voices.

use std::collections::{BTreeMap, VecDeque};

use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::view::hashed;
use crate::persistence::as_base64;
use crate::world::{QueueKey, now, now_ms};

/// All of Avito.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct AvitoState {
    /// By `user_id`.
    pub(crate) accounts: BTreeMap<i64, Account>,
    pub(crate) tokens: BTreeMap<String, Token>,
    pub(crate) chats: BTreeMap<String, Chat>,
    pub(crate) files: BTreeMap<String, File>,
    #[serde(skip)]
    pub(crate) deliveries: BTreeMap<QueueKey, VecDeque<Hook>>,
}

/// An account and its keys.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) user_id: i64,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) name: String,
    pub(crate) webhooks: Vec<String>,
    pub(crate) blacklist: Vec<i64>,
    /// Calls a minute that it may make. `None`: calls are not counted, and answers have no headers about them.
    #[serde(default)]
    pub(crate) calls_per_minute: Option<u32>,
    #[serde(skip)]
    pub(crate) calls_in_minute: (i64, u32),
    #[serde(default)]
    pub(crate) switches: Switches,
    /// Other products on the account; their addresses stand in `webhooks` as well while they are registered.
    #[serde(default)]
    pub(crate) foreign: Vec<Foreign>,
}

/// Nobody knows these of the real Avito, so each account has switches for them.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Switches {
    pub(crate) subscriptions: Subscriptions,
    /// Lists show other ids of users than webhooks do.
    pub(crate) hashed_ids: bool,
    /// The sentence in place of every text. `None`: texts are shown.
    pub(crate) tariff_placeholder: Option<String>,
}

/// The number of addresses that an account keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subscriptions {
    /// A new address replaces the old one without a word.
    One,
    #[default]
    Many,
}

/// Another product that is subscribed to the account.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Foreign {
    pub(crate) url: String,
    /// The delay after which it registers again whenever its address is gone. `None`: it never notices.
    pub(crate) takes_back_after_ms: Option<u64>,
}

impl Switches {
    /// A message's content as the account gets it.
    pub(crate) fn content(&self, message: &Message) -> Value {
        let mut content = message.content.clone();
        if let Some(sentence) = &self.tariff_placeholder
            && content["text"].is_string()
        {
            content["text"] = json!(sentence);
        }
        content
    }
}

impl Account {
    /// Registers an address.
    pub(crate) fn subscribe(&mut self, url: &str) {
        match self.switches.subscriptions {
            Subscriptions::One => self.webhooks.clear(),
            Subscriptions::Many => self.webhooks.retain(|known| known != url),
        }
        self.webhooks.push(url.to_owned());
    }

    /// Sets how many addresses it keeps. Of several the newest one stays.
    pub(crate) fn keep(&mut self, subscriptions: Subscriptions) {
        self.switches.subscriptions = subscriptions;
        let surplus = self.webhooks.len().saturating_sub(1);
        if subscriptions == Subscriptions::One {
            self.webhooks.drain(..surplus);
        }
    }

    /// The other product that has this address.
    pub(crate) fn foreign(&self, url: &str) -> Option<&Foreign> {
        self.foreign.iter().find(|foreign| foreign.url == url)
    }

    /// Counts a call. `Ok`: the rate limit and the calls left; `Err`: seconds to wait; `None`: no limit.
    pub(crate) fn count(&mut self) -> Option<Result<(u32, u32), u32>> {
        let limit = self.calls_per_minute?;
        let (minute, second) = (now().div_euclid(60), now().rem_euclid(60));
        if self.calls_in_minute.0 != minute {
            self.calls_in_minute = (minute, 0);
        }
        if self.calls_in_minute.1 >= limit {
            return Some(Err(u32::try_from(60 - second).unwrap_or(60)));
        }
        self.calls_in_minute.1 += 1;
        Some(Ok((limit, limit - self.calls_in_minute.1)))
    }
}

/// An access token.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Token {
    pub(crate) user_id: i64,
    pub(crate) expires_at: i64,
}

/// A chat with one buyer.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Chat {
    pub(crate) id: String,
    pub(crate) user_id: i64,
    pub(crate) kind: String,
    pub(crate) buyer: Buyer,
    pub(crate) item: Option<Item>,
    pub(crate) created: i64,
    pub(crate) messages: Vec<Message>,
    #[serde(default)]
    pub(crate) state: ChatState,
    /// The time of the newest activity, as lists show it. `None`: that of the newest message.
    #[serde(default)]
    pub(crate) updated: Option<i64>,
}

/// The state of a chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChatState {
    #[default]
    Open,
    /// Can be read; sending, deleting, marking as read and blocking are 403.
    Closed,
    /// Listed; all else is 404.
    Hidden,
    /// Not listed; all else is 404.
    Gone,
}

/// The buyer of a chat.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Buyer {
    pub(crate) id: i64,
    pub(crate) name: String,
}

/// The item that a chat is about.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    #[serde(default = "random_number")]
    pub(crate) id: i64,
    pub(crate) title: String,
    pub(crate) price_string: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) city: Option<String>,
}

/// A message. `content` names pictures as `media:<file>`; answers replace that by an address of this run.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) author_id: i64,
    pub(crate) direction: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) content: Value,
    pub(crate) created: i64,
    /// The time at which the buyer read it. `None`: unread.
    pub(crate) read: Option<i64>,
    /// True if the account has read it.
    pub(crate) is_read: bool,
    pub(crate) deleted: bool,
    pub(crate) quote: Option<String>,
    /// Unix milliseconds at which the simulator got it, whatever `created` says.
    #[serde(default)]
    pub(crate) at: i64,
}

/// A picture or a voice.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct File {
    pub(crate) mime: String,
    #[serde(with = "as_base64")]
    pub(crate) bytes: bytes::Bytes,
    /// The account that it belongs to, and the chat in which it stands. Faults are scoped by them.
    #[serde(default)]
    pub(crate) user_id: Option<i64>,
    #[serde(default)]
    pub(crate) chat: Option<String>,
}

/// A webhook to send.
#[derive(Clone)]
pub(crate) struct Hook {
    pub(crate) url: String,
    pub(crate) user_id: i64,
    pub(crate) chat: String,
    pub(crate) message: String,
    pub(crate) value: Value,
    pub(crate) client_secret: String,
}

/// An id as large as Avito's are: beyond 32 bits.
pub(crate) fn random_number() -> i64 {
    rand::rng().random_range(2_200_000_000..9_000_000_000)
}

/// True if an address is one of this machine.
fn is_on_this_machine(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| matches!(url.host_str(), Some("127.0.0.1" | "localhost")))
}

/// 32 hex digits.
pub(crate) fn message_id() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// A chat id of a type, with the characters that have to be escaped in a path.
pub(crate) fn chat_id(chat_type: &str) -> String {
    const LETTERS: &[u8; 65] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789~_-";
    let mut rng = rand::rng();
    let tail: String = (0..22).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect();
    format!("{chat_type}-{tail}")
}

impl Chat {
    /// Messages, newest first; of one second the later one first.
    pub(crate) fn newest_first(&self) -> Vec<&Message> {
        let mut messages: Vec<&Message> = self.messages.iter().rev().collect();
        messages.sort_by_key(|message| std::cmp::Reverse(message.created));
        messages
    }

    /// True if the account has unread messages here.
    pub(crate) fn is_unread(&self) -> bool {
        self.messages.iter().any(|message| message.direction == "in" && !message.is_read)
    }

    /// Marks all messages as read by the account, as when it opens the chat.
    pub(crate) fn read_by_account(&mut self) {
        self.messages.iter_mut().for_each(|message| message.is_read = true);
    }

    /// A message of this chat.
    pub(crate) fn message_mut(&mut self, id: &str) -> Option<&mut Message> {
        self.messages.iter_mut().find(|message| message.id == id)
    }

    /// Adds a message of the account itself.
    pub(crate) fn add_own(&mut self, kind: &str, content: Value) -> Message {
        let message = Message {
            id: message_id(),
            author_id: self.user_id,
            direction: "out".to_owned(),
            kind: kind.to_owned(),
            content,
            created: now(),
            read: None,
            is_read: true,
            deleted: false,
            quote: None,
            at: now_ms(),
        };
        self.messages.push(message.clone());
        message
    }

    /// The message as a webhook carries it: with the ids that lists may hash.
    fn webhook_value(&self, message: &Message, switches: &Switches) -> Value {
        json!({
            "id": message.id, "chat_id": self.id, "user_id": self.user_id, "author_id": message.author_id,
            "created": message.created, "type": message.kind, "chat_type": self.kind,
            "content": switches.content(message),
            "item_id": self.item.as_ref().map(|item| item.id),
            "published_at": jiff::Timestamp::from_second(message.created).ok().map(|at| at.to_string()),
        })
    }
}

impl AvitoState {
    /// The account of a token. `Err(true)`: the token has expired; `Err(false)`: it is unknown.
    pub(crate) fn owner(&self, token: &str) -> Result<i64, bool> {
        match self.tokens.get(token) {
            None => Err(false),
            Some(token) if token.expires_at <= now() => Err(true),
            Some(token) => Ok(token.user_id),
        }
    }

    /// Expires the tokens of an account, or all.
    pub(crate) fn expire_tokens(&mut self, user_id: Option<i64>) {
        let concerned = self.tokens.values_mut().filter(|token| user_id.is_none_or(|id| id == token.user_id));
        concerned.for_each(|token| token.expires_at = 0);
    }

    /// The account's chat with a user, by an id of webhooks or of lists. `item`: the one about this item, if there is any.
    pub(crate) fn chat_of_user(&self, owner: i64, id: i64, item: Option<i64>) -> Option<&Chat> {
        let is_with =
            |chat: &&Chat| chat.user_id == owner && [chat.buyer.id, hashed(owner, chat.buyer.id)].contains(&id);
        let about = |chat: &&Chat| item.is_some() && chat.item.as_ref().map(|item| item.id) == item;
        let mut chats = self.chats.values().filter(is_with);
        chats.clone().find(about).or_else(|| chats.next())
    }

    /// Stores a picture of an account. Its content names it by `media:`.
    pub(crate) fn store_picture(&mut self, mime: &str, bytes: bytes::Bytes, owner: Option<i64>) -> (String, Value) {
        let id = format!("{}.{}", random_number(), &message_id()[..22]);
        let extension = mime.rsplit('/').next().unwrap_or("png").replace("jpeg", "jpg");
        let path = |size: &str| format!("media:/media/chat/{size}/{id}.{extension}");
        let sizes = ["1280x960", "640x480", "140x105", "32x32"];
        let sizes: serde_json::Map<String, Value> =
            sizes.iter().map(|size| ((*size).to_owned(), json!(path(size)))).collect();
        let file = File { mime: mime.to_owned(), bytes, user_id: owner, chat: None };
        self.files.insert(format!("{id}.{extension}"), file);
        (id, Value::Object(sizes))
    }

    /// Notes the chat in which the files of a message's content stand.
    pub(crate) fn place_files(&mut self, user_id: i64, chat: &str, content: &Value) {
        let voice = content["voice"]["voice_id"].as_str().map(|id| format!("{id}.mp4"));
        let sizes = content["image"]["sizes"].as_object().into_iter().flatten();
        let pictures = sizes.filter_map(|(_, link)| Some(link.as_str()?.rsplit('/').next()?.to_owned()));
        for name in voice.into_iter().chain(pictures) {
            if let Some(file) = self.files.get_mut(&name) {
                (file.user_id, file.chat) = (Some(user_id), Some(chat.to_owned()));
            }
        }
    }

    /// Queues a message's webhook, `times` times, for every address of the account.
    pub(crate) fn announce(&mut self, chat: &str, message: &str, times: usize) {
        let Some(chat) = self.chats.get(chat) else { return };
        let Some(message) = chat.messages.iter().find(|known| known.id == message) else { return };
        let Some(account) = self.accounts.get(&chat.user_id) else { return };
        // A simulator must not call the Internet, where other products are.
        let reached = |url: &&String| account.foreign(url).is_none() || is_on_this_machine(url);
        for url in account.webhooks.iter().filter(reached) {
            let hook = Hook {
                url: url.clone(),
                user_id: chat.user_id,
                chat: chat.id.clone(),
                message: message.id.clone(),
                value: chat.webhook_value(message, &account.switches),
                client_secret: account.client_secret.clone(),
            };
            let queue = (format!("avito:{url}"), chat.id.clone());
            self.deliveries.entry(queue).or_default().extend(std::iter::repeat_n(hook, times));
        }
    }
}
