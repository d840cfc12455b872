//! The outcome of an update, and the command that a message begins with.

use serde_json::{Value, json};

use crate::{platform::db::Statement, telegram::update::Message};

/// The outcome of an update: the statements to run and the answer to give at once.
#[derive(Default)]
pub(super) struct UpdateOutcome {
    pub(super) statements: Vec<Statement>,
    pub(super) answer: Option<Value>,
    /// The answer to a pressed button.
    pub(super) reply: Option<ButtonReply>,
    /// True if one of the statements already stores whether the group has topics.
    pub(super) stores_topic_mode: bool,
}

/// The two possible answers to a press: `done` if the button did something, `nothing` if not.
pub(super) struct ButtonReply {
    pub(super) id: String,
    pub(super) done: &'static str,
    pub(super) nothing: &'static str,
}

impl ButtonReply {
    /// Returns the Bot API call that answers the press.
    pub(super) fn call(&self, acted: bool) -> Value {
        let text = if acted { self.done } else { self.nothing };
        json!({ "method": "answerCallbackQuery", "callback_query_id": self.id, "text": text })
    }
}

/// Returns the command at the beginning of a text, without the bot's name behind it. None: the text is no command.
pub(super) fn command(message: &Message) -> Option<&str> {
    let word = message.text()?.split_whitespace().next()?.strip_prefix('/')?;
    let word = word.split('@').next()?;
    let is_command = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_command.then_some(word)
}
