//! Records of the simulators: calls, topics of a group and messages in Avito.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// A call that a simulator answered. `status` 0: it closed the connection instead.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Call {
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) user_id: Option<i64>,
    #[serde(default)]
    pub(crate) chat_id: Option<Value>,
    #[serde(default)]
    pub(crate) chat: Option<String>,
    pub(crate) params: Value,
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) retry_after: Option<u64>,
    pub(crate) at: Timestamp,
}

/// A topic as people in the group see it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Topic {
    pub(crate) thread_id: Option<i64>,
    pub(crate) name: Option<String>,
    pub(crate) deleted: bool,
    pub(crate) messages: Vec<GroupMessage>,
}

/// A message in a group.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct GroupMessage {
    pub(crate) message_id: i64,
    pub(crate) from_bot: bool,
    pub(crate) text: Option<String>,
    pub(crate) content: Value,
    pub(crate) reply_to: Option<i64>,
    pub(crate) pinned: bool,
    pub(crate) reactions: Vec<String>,
    pub(crate) deleted: bool,
}

impl Topic {
    pub(crate) fn thread(&self) -> i64 {
        self.thread_id.expect("a topic has a thread")
    }

    /// Lists the bot's texts that are not deleted, header first.
    fn bot_texts(&self) -> impl Iterator<Item = &GroupMessage> {
        self.messages.iter().filter(|message| message.from_bot && !message.deleted && message.text.is_some())
    }

    /// Lists the headers that are not deleted.
    pub(crate) fn headers(&self) -> Vec<&GroupMessage> {
        self.bot_texts().filter(|message| is_header(message)).collect()
    }

    /// Lists the bot's texts besides headers, and those behind a header in one post with it.
    pub(crate) fn posts(&self) -> Vec<&str> {
        fn said(message: &GroupMessage) -> Option<&str> {
            let text = message.text.as_deref()?;
            if is_header(message) { text.split_once("\n\n").map(|(_, said)| said) } else { Some(text) }
        }
        self.bot_texts().filter_map(said).collect()
    }

    /// Lists the lines of the bot's texts: several may stand in one post, each behind its time.
    pub(crate) fn said(&self) -> Vec<String> {
        self.posts().iter().flat_map(|post| lines(post)).collect()
    }

    /// Lists the lines as [`Topic::said`] does, but a post that appeared again counts once.
    pub(crate) fn said_at_least_once(&self) -> Vec<String> {
        let mut posts = self.posts();
        posts.dedup();
        posts.iter().flat_map(|post| lines(post)).collect()
    }

    pub(crate) fn message(&self, message_id: i64) -> &GroupMessage {
        self.messages.iter().find(|message| message.message_id == message_id).expect("the message is in the topic")
    }
}

fn is_header(message: &GroupMessage) -> bool {
    message.text.as_deref().is_some_and(|text| text.contains("\nАккаунт: "))
}

/// Lists the lines of a post, without the times in front of them.
pub(crate) fn lines(post: &str) -> Vec<String> {
    let without_time = |line: &str| match line.split_once(' ') {
        Some((time, rest)) if time.len() == 5 && time.as_bytes()[2] == b':' => rest.to_owned(),
        _ => line.to_owned(),
    };
    post.lines().filter(|line| !line.is_empty()).map(without_time).collect()
}

/// A message in Avito.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AvitoMessage {
    pub(crate) author_id: i64,
    pub(crate) content: Value,
}
