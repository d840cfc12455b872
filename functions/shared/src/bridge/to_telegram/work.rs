//! The next work of a bot: the dialog that has waited longest, with its unfinished posts and its unposted messages.
//! Each transaction of the worker also claims the next work, so a message costs no round trip of its own for the claim.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    bridge::{
        common::{
            claim::Claim,
            outage::Outage,
            post_kind::PostKind,
            states::{DialogState, MessageOrigin},
            telegram_budget::{TelegramBudget, time_since},
        },
        rows::{bot_outbox::BotOutbox, posts::PostDraft},
    },
    platform::{
        db::{self, ClientId, DbError, ResultSets},
        endings::History,
    },
    tenancy::accounts::Keys,
};

/// A bot, with all that its worker needs of it.
#[derive(Deserialize)]
pub(super) struct ClaimedBot {
    /// Its tenant.
    pub(super) client_id: ClientId,
    /// Its token, sealed.
    #[serde(deserialize_with = "db::bytes")]
    pub(super) token: Vec<u8>,
    /// The group it works in.
    pub(super) group_chat_id: Option<i64>,
    /// True if each dialog is to have a topic.
    pub(super) topic_mode: bool,
    /// True if it was found unable to post.
    pub(super) broken: bool,
    /// The time since which it is unable. None: it is able.
    pub(super) broken_since: Option<Timestamp>,
    /// True if its client is suspended.
    pub(super) suspended: bool,
}

/// The state of a dialog's topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Topic {
    /// There is none.
    None,
    /// Telegram was asked to create it, and the outcome is unknown.
    Creating {
        /// The time of the request.
        since: Timestamp,
    },
    /// It exists.
    Open {
        /// The group.
        chat_id: i64,
        /// The topic's id in the group.
        thread_id: i64,
    },
}

/// The dialog of the claimed work.
#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column of its own")]
pub(super) struct ClaimedDialog {
    /// The row in `dialogs`.
    pub(super) id: i64,
    /// The bot in whose group its messages are posted: not the claiming bot, if its account moved to another.
    pub(super) bot_id: i64,
    /// Avito's id of the chat.
    pub(super) avito_chat_id: String,
    /// The buyer: `{id, name}`.
    pub(super) buyer: Option<Value>,
    /// The item that the chat is about: `{title, price, city, url}`.
    pub(super) item: Option<Value>,
    /// True if Avito's API confirmed that the chat exists, or could not be asked for so long that it is shown without.
    pub(super) confirmed: bool,
    /// The failed attempts to have the chat confirmed.
    pub(super) confirm_attempts: i32,
    /// The time of the first of them.
    pub(super) confirm_failed_since: Option<Timestamp>,
    /// True if its next post of a buyer's message schedules that the chat is marked read.
    pub(super) schedules_mark_read: bool,
    /// The times that our own code or SQL failed for it, one after the other.
    pub(super) set_aside_attempts: i32,
    /// The failed attempts to create a topic.
    pub(super) topic_attempts: i32,
    /// The time of the first of them.
    pub(super) topic_failed_since: Option<Timestamp>,
    /// True if it is shown in General for now, because it could not have a topic.
    pub(super) in_general: bool,
    /// Its topic.
    pub(super) topic: Topic,
    /// True if the bridge closed the topic.
    pub(super) topic_closed: bool,
    /// The emoji that the topic's name bears.
    pub(super) topic_emoji: String,
    /// The emoji that the topic's name should bear.
    pub(super) wanted_emoji: String,
    /// The emoji of the scheduled rename. None: no rename is needed, or none is scheduled.
    #[serde(skip)]
    pub(super) scheduled_emoji: Option<String>,
    /// Its state.
    pub(super) state: DialogState,
    /// The name of the Avito account.
    pub(super) account_name: String,
    /// The keys of the Avito account.
    pub(super) keys: Keys,
    /// The time zone in which people read times, IANA.
    pub(super) timezone: String,
    /// The time, by Avito's clock, of the newest message that has a post. None: there is none.
    #[serde(skip)]
    pub(super) last_posted_at: Option<Timestamp>,
}

/// The chat and topic that a post goes to. No `thread_id`: the chat itself.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) chat_id: i64,
    pub(super) thread_id: Option<i64>,
}

/// An unfinished post.
#[derive(Deserialize)]
pub(super) struct Post {
    /// The row in `posts`.
    pub(super) id: i64,
    /// The kind of post.
    pub(super) kind: PostKind,
    /// The content that Telegram is asked to post.
    pub(super) content: Value,
    /// True if it was found `sending`: an earlier call's outcome is unknown.
    pub(super) outcome_unknown: bool,
    /// The number of failed attempts.
    pub(super) attempts: i32,
    /// The number of those whose answer was lost.
    pub(super) answers_lost: i32,
    /// The time of the first failure. None: there was none.
    pub(super) failed_since: Option<Timestamp>,
    /// The chat that it goes to. None: it goes to its dialog's topic.
    pub(super) chat_id: Option<i64>,
    /// The topic in that chat.
    pub(super) thread_id: Option<i64>,
}

/// A message that needs a post and has none yet.
#[derive(Deserialize)]
pub(super) struct PendingMessage {
    /// The row in `messages`.
    pub(super) id: i64,
    /// Its writer.
    pub(super) origin: MessageOrigin,
    /// Avito's name of its kind.
    pub(super) kind: String,
    /// Its text.
    pub(super) text: Option<String>,
    /// All else that it contains.
    pub(super) attachments: Value,
    /// The time when it was written, by Avito's clock.
    pub(super) created: Option<Timestamp>,
    /// The time when the bridge recorded it.
    pub(super) arrived: Timestamp,
    /// The writer's name, if the message was written through the bridge.
    pub(super) author: Option<String>,
    /// True if a poll has found it in Avito's list, so that its position there is known.
    pub(super) confirmed: bool,
    /// The message in Telegram that shows the one it quotes. None: it quotes none, or that one was not posted.
    #[serde(default)]
    pub(super) reply_to: Option<i64>,
}

/// The claimed work of a bot.
#[derive(Deserialize)]
#[serde(from = "BotWorkRow")]
pub(super) struct BotWork {
    /// The outbox.
    pub(super) outbox: BotOutbox,
    /// The calls that fail for one dialog after the other. None: none does.
    pub(super) outage: Option<Outage>,
    /// The bot.
    pub(super) bot: ClaimedBot,
    /// The dialog to work for. None: only posts outside of dialogs, or receipts, are due.
    pub(super) dialog: Option<ClaimedDialog>,
    /// The dialog's unfinished posts, in the order of sending.
    pub(super) posts: Vec<Post>,
    /// The dialog's messages that need a post, in their order.
    pub(super) messages: Vec<PendingMessage>,
    /// The receipts that may be set now, of all the bot's dialogs. If there are any, nothing else is due.
    pub(super) receipts: Vec<Post>,
    /// The `xmin` of the rows that were read: the dialog, these messages and its unfinished posts.
    pub(super) version: String,
    /// The id of the prepared post that this claim set to `sending`. None: it set none.
    pub(super) sending_post_id: Option<i64>,
}

/// Posts that were composed ahead. A claim stores them only if their dialog has not changed since.
pub(super) struct PreparedPosts {
    /// Their dialog.
    pub(super) dialog_id: i64,
    /// The [`BotWork::version`] that they were composed from.
    pub(super) version: String,
    /// The posts, in the order of sending.
    pub(super) drafts: Vec<PostDraft>,
    /// True if the first is set to `sending` when it is stored. False: its files must be fetched first.
    pub(super) is_first_sending: bool,
}

/// The results of the last call, which the next claim stores.
#[derive(Clone, Default)]
pub(super) struct Completed {
    /// The budget for messages that is left. None: it is unchanged.
    pub(super) messages: Option<TelegramBudget>,
    /// The budget for reactions that is left. None: no reactions were set.
    pub(super) reactions: Option<TelegramBudget>,
    /// The post that was sent. None: the outcome of the transaction marks it itself.
    pub(super) sent_post: Option<SentPost>,
}

/// A post that Telegram has.
#[derive(Clone)]
pub(super) struct SentPost {
    /// The row in `posts`.
    pub(super) post_id: i64,
    /// Telegram's ids of its messages.
    pub(super) message_ids: Vec<i64>,
}

impl Post {
    /// Returns the post's own target. None: it goes to its dialog's topic.
    pub(super) fn target(&self) -> Option<Target> {
        self.chat_id.map(|chat_id| Target { chat_id, thread_id: self.thread_id })
    }

    /// The history for the table of waits and ends.
    pub(super) fn history(&self, now: Timestamp) -> History {
        History {
            attempts: self.attempts.unsigned_abs(),
            answers_lost: self.answers_lost.unsigned_abs(),
            failing_for: time_since(self.failed_since, now),
            has_witness: false,
        }
    }

    /// True if it is a notice about the end of another post.
    pub(super) fn ends_another(&self) -> bool {
        self.content.get("ends_post").is_some()
    }
}

impl PreparedPosts {
    /// Returns the first post, as the row `id`.
    pub(super) fn first_post(&self, id: i64) -> Post {
        let first = &self.drafts[0];
        Post {
            id,
            kind: first.kind,
            content: first.content.clone(),
            outcome_unknown: false,
            attempts: 0,
            answers_lost: 0,
            failed_since: None,
            chat_id: None,
            thread_id: None,
        }
    }
}

impl BotWork {
    /// Returns the target of all posts in a group without topics. None: there are topics, or the bot has no group.
    pub(super) fn one_chat(&self) -> Option<Target> {
        let chat_id = self.bot.group_chat_id?;
        (!self.bot.topic_mode || self.outbox.topics_off).then_some(Target { chat_id, thread_id: None })
    }

    /// Returns the target of a dialog's posts. None: it has no topic yet or, without topics, is not confirmed yet.
    pub(super) fn target_of(&self, dialog: &ClaimedDialog) -> Option<Target> {
        match (self.one_chat(), dialog.topic) {
            (Some(chat), _) => dialog.confirmed.then_some(chat),
            (None, Topic::Open { chat_id, thread_id }) if !dialog.in_general => {
                Some(Target { chat_id, thread_id: Some(thread_id) })
            }
            (None, _) if dialog.in_general => dialog.confirmed.then(|| self.group()),
            (None, _) => None,
        }
    }

    /// Returns the time before which a call that is out is not tried again. None: it may be made.
    pub(super) fn held_until(&self, method: &str) -> Option<Timestamp> {
        self.outage.as_ref()?.held_until(method, self.outbox.now)
    }

    /// True if the posts of a dialog bear its name: they stand among those of others.
    pub(super) fn is_headed(&self, dialog: &ClaimedDialog) -> bool {
        self.one_chat().is_some() || dialog.in_general
    }

    /// Returns the group itself, the target of posts that belong to no topic.
    pub(super) fn group(&self) -> Target {
        Target { chat_id: self.bot.group_chat_id.unwrap_or_default(), thread_id: None }
    }
}

/// The JSON of claimed work. Empty lists are absent, and values that are read after the dialog stand beside it.
#[derive(Deserialize)]
struct BotWorkRow {
    outbox: BotOutbox,
    outage: Option<Outage>,
    bot: ClaimedBot,
    dialog: Option<ClaimedDialog>,
    scheduled_emoji: Option<String>,
    last_posted_at: Option<Timestamp>,
    posts: Option<Vec<Post>>,
    messages: Option<Vec<PendingMessage>>,
    /// Maps each message that quotes another to the Telegram message that shows the quoted one.
    replies: Option<HashMap<i64, Option<i64>>>,
    receipts: Option<Vec<Post>>,
    version: Option<String>,
    sending_post_id: Option<i64>,
}

impl From<BotWorkRow> for BotWork {
    fn from(row: BotWorkRow) -> Self {
        let (scheduled_emoji, last_posted_at) = (row.scheduled_emoji, row.last_posted_at);
        let mut messages = row.messages.unwrap_or_default();
        for message in &mut messages {
            message.reply_to = row.replies.as_ref().and_then(|replies| replies.get(&message.id).copied().flatten());
        }
        Self {
            outbox: row.outbox,
            outage: row.outage,
            bot: row.bot,
            dialog: row.dialog.map(|dialog| ClaimedDialog { scheduled_emoji, last_posted_at, ..dialog }),
            posts: row.posts.unwrap_or_default(),
            messages,
            receipts: row.receipts.unwrap_or_default(),
            version: row.version.unwrap_or_default(),
            sending_post_id: row.sending_post_id,
        }
    }
}

/// Reads the result of `claim_bot_work`.
pub(super) fn read(results: &ResultSets) -> Result<Claim<BotWork>, DbError> {
    Ok(Claim::read(results)?.0)
}
