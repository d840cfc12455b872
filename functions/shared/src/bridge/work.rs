//! What a bot has to do next: the dialog that has waited longest, with its unfinished posts and unshown messages.
//! Looking is part of every transaction of the outbox's holder, so a message costs no round trip of its own for it.

mod statements;

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{bot_outbox::BotOutbox, budget::TelegramBudget, claim::Claim, drain::Target, posts::PostDraft};
use crate::{
    platform::db::{self, ClientId, DbError, ResultSets},
    tenancy::accounts::Keys,
};
pub use statements::claim_bot_work;

/// The bot as an outbox's holder needs it.
#[derive(Deserialize)]
pub struct ClaimedBot {
    /// Its tenant.
    pub client_id: ClientId,
    /// Its token, sealed.
    #[serde(deserialize_with = "db::bytes")]
    pub token: Vec<u8>,
    /// The group it works in.
    pub group_chat_id: Option<i64>,
    /// Whether each dialog is to have a topic.
    pub topic_mode: bool,
    /// Whether it was found broken.
    pub broken: bool,
    /// Whether its organisation is suspended.
    pub suspended: bool,
}

/// How far a dialog's topic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// There is none.
    None,
    /// It was asked for, and the answer is not known.
    Creating {
        /// When it was asked for.
        since: Timestamp,
    },
    /// It is there.
    Open {
        /// The group.
        chat_id: i64,
        /// The topic in it.
        thread_id: i64,
    },
}

/// The chosen dialog.
#[derive(Deserialize)]
pub struct ClaimedDialog {
    /// The row in `dialogs`.
    pub id: i64,
    /// The bot in whose group it is shown: another one, if its account moved.
    pub bot_id: i64,
    /// Avito's id of the chat.
    pub avito_chat_id: String,
    /// The other person: `{id, name}`.
    pub buyer: Option<Value>,
    /// What the chat is about: `{title, price, city, url}`.
    pub item: Option<Value>,
    /// Whether Avito itself confirmed that the chat exists.
    pub confirmed: bool,
    /// Its topic.
    pub topic: Topic,
    /// Whether we closed the topic.
    pub topic_closed: bool,
    /// The mark that its name bears.
    pub topic_emoji: String,
    /// The mark that it ought to bear.
    pub wanted_emoji: String,
    /// The mark that was written down to be shown in a while.
    #[serde(skip)]
    pub scheduled_emoji: Option<String>,
    /// `waiting`, `answered`, `closed` or `blocked`.
    pub state: String,
    /// The name of the Avito account.
    pub account_name: String,
    /// The keys of the Avito account.
    pub keys: Keys,
    /// The time zone in which people read times, IANA.
    pub timezone: String,
    /// When the newest shown message was written.
    #[serde(skip)]
    pub last_posted_at: Option<Timestamp>,
}

/// A post that is not finished.
#[derive(Deserialize)]
pub struct Post {
    /// The row in `posts`.
    pub id: i64,
    /// What it is.
    pub kind: String,
    /// What is asked of Telegram.
    pub content: Value,
    /// Whether it was begun before, with an unknown outcome.
    pub outcome_unknown: bool,
    /// How often it failed.
    pub attempts: i32,
    /// Where it goes when it belongs to no dialog's topic.
    pub chat_id: Option<i64>,
    /// The topic there.
    pub thread_id: Option<i64>,
}

/// A message that waits to be shown.
#[derive(Deserialize)]
pub struct PendingMessage {
    /// The row in `messages`.
    pub id: i64,
    /// Who wrote it.
    pub origin: String,
    /// Avito's word for its kind.
    pub kind: String,
    /// Its text.
    pub text: Option<String>,
    /// What else it holds.
    pub attachments: Value,
    /// When it was written.
    pub created: Option<Timestamp>,
    /// When we heard of it.
    pub arrived: Timestamp,
    /// Who wrote it, if it was one of us.
    pub author: Option<String>,
    /// Whether the poll has seen it, and so knows its place among others.
    pub confirmed: bool,
    /// The message in the topic that shows what it answers.
    #[serde(default)]
    pub reply_to: Option<i64>,
}

/// What the transaction found.
#[derive(Deserialize)]
#[serde(from = "BotWorkRow")]
pub struct BotWork {
    /// The outbox.
    pub outbox: BotOutbox,
    /// The bot.
    pub bot: ClaimedBot,
    /// The chosen dialog; none when only posts outside dialogs or receipts wait.
    pub dialog: Option<ClaimedDialog>,
    /// Its unfinished posts, in their order.
    pub posts: Vec<Post>,
    /// Its unshown messages, in their order.
    pub messages: Vec<PendingMessage>,
    /// Receipts that may be set, of all the bot's dialogs; then there is nothing else.
    pub receipts: Vec<Post>,
    /// By what those messages are known to stand as they were read.
    pub version: String,
    /// The post that was begun before this was found: that of [`PreparedPosts`].
    pub sending_post_id: Option<i64>,
}

/// What may be written down, if its dialog still stands as it was when this was composed.
pub struct PreparedPosts {
    /// The dialog.
    pub dialog_id: i64,
    /// By what it is known to stand so.
    pub version: String,
    /// What is written down, in its order.
    pub drafts: Vec<PostDraft>,
    /// Whether the first of them is sent at once.
    pub is_first_sending: bool,
}

/// What a holder has just done.
#[derive(Default)]
pub struct Completed {
    /// What that left of the messages' budget.
    pub messages: Option<TelegramBudget>,
    /// What it left of the reactions', if any were set.
    pub reactions: Option<TelegramBudget>,
    /// What Telegram has by now.
    pub sent_post: Option<SentPost>,
}

/// A post that Telegram has.
pub struct SentPost {
    /// The row in `posts`.
    pub post_id: i64,
    /// Telegram's ids of its messages.
    pub message_ids: Vec<i64>,
}

impl Post {
    /// Where it goes, when it belongs to no dialog's topic.
    pub fn target(&self) -> Option<Target> {
        self.chat_id.map(|chat_id| Target { chat_id, thread_id: self.thread_id })
    }
}

impl BotWork {
    /// Where all posts go, when there are no topics.
    pub fn one_chat(&self) -> Option<Target> {
        let chat_id = self.bot.group_chat_id?;
        (!self.bot.topic_mode || self.outbox.topics_off).then_some(Target { chat_id, thread_id: None })
    }

    /// Where a dialog is shown, if it can be by now.
    pub fn target_of(&self, dialog: &ClaimedDialog) -> Option<Target> {
        match (self.one_chat(), dialog.topic) {
            (Some(chat), _) => dialog.confirmed.then_some(chat),
            (None, Topic::Open { chat_id, thread_id }) => Some(Target { chat_id, thread_id: Some(thread_id) }),
            (None, Topic::None | Topic::Creating { .. }) => None,
        }
    }

    /// The group, where what belongs to no topic goes.
    pub fn group(&self) -> Target {
        Target { chat_id: self.bot.group_chat_id.unwrap_or_default(), thread_id: None }
    }
}

/// What the transaction answers: lists that are empty are not there, and what is looked for after the dialog stands beside it.
#[derive(Deserialize)]
struct BotWorkRow {
    outbox: BotOutbox,
    bot: ClaimedBot,
    dialog: Option<ClaimedDialog>,
    scheduled_emoji: Option<String>,
    last_posted_at: Option<Timestamp>,
    posts: Option<Vec<Post>>,
    messages: Option<Vec<PendingMessage>>,
    /// By the messages that answer another: the message in the topic that shows it.
    replies: Option<HashMap<i64, Option<i64>>>,
    receipts: Option<Vec<Post>>,
    version: Option<String>,
    sending_post_id: Option<i64>,
}

impl From<BotWorkRow> for BotWork {
    fn from(found: BotWorkRow) -> Self {
        let (scheduled_emoji, last_posted_at) = (found.scheduled_emoji, found.last_posted_at);
        let mut messages = found.messages.unwrap_or_default();
        for message in &mut messages {
            message.reply_to = found.replies.as_ref().and_then(|replies| replies.get(&message.id).copied().flatten());
        }
        Self {
            outbox: found.outbox,
            bot: found.bot,
            dialog: found.dialog.map(|dialog| ClaimedDialog { scheduled_emoji, last_posted_at, ..dialog }),
            posts: found.posts.unwrap_or_default(),
            messages,
            receipts: found.receipts.unwrap_or_default(),
            version: found.version.unwrap_or_default(),
            sending_post_id: found.sending_post_id,
        }
    }
}

/// Reads the answers to [`claim_bot_work`].
pub fn read(results: &ResultSets) -> Result<Claim<BotWork>, DbError> {
    Ok(Claim::read(results)?.0)
}
