//! The outcome of an update, what its statements returned, and the command that a message begins with.

use serde_json::{Value, json};

use crate::{
    platform::db::{DbError, ResultSets, Statement, get},
    telegram::update::Message,
};

/// The label of statements whose column `not_yet` is true if the update answers a post whose message id is not stored
/// yet.
pub(super) const NOT_YET: &str = "not_yet";
/// The label of statements that return a row if a pressed button did something.
pub(super) const ACTED: &str = "acted";

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

/// The facts that an update's statements returned, besides the wake-ups.
pub(super) struct UpdateFacts {
    /// True if Telegram is to repeat the update in a moment.
    pub(super) needs_repeat: bool,
    /// True if the pressed button did something.
    pub(super) has_acted: bool,
}

impl UpdateFacts {
    /// Reads the result sets labelled [`NOT_YET`] and [`ACTED`].
    pub(super) fn read(results: &ResultSets) -> Result<Self, DbError> {
        let mut needs_repeat = false;
        for row in results.labelled(NOT_YET) {
            needs_repeat |= get::<Option<bool>>(row, "not_yet")?.unwrap_or_default();
        }
        Ok(Self { needs_repeat, has_acted: results.labelled(ACTED).next().is_some() })
    }
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
    command_and_bot(message).map(|(word, _)| word)
}

/// Returns the name of the bot for which a command is meant. None: the text is no command, or one for any bot.
pub(super) fn bot_of_command(message: &Message) -> Option<&str> {
    command_and_bot(message).and_then(|(_, bot)| bot)
}

fn command_and_bot(message: &Message) -> Option<(&str, Option<&str>)> {
    let words = message.text()?.split_whitespace().next()?.strip_prefix('/')?;
    let (word, bot) = words.split_once('@').map_or((words, None), |(word, bot)| (word, Some(bot)));
    let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (is_name(word) && bot.is_none_or(is_name)).then_some((word, bot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telegram::update::Update;

    fn written(text: &str) -> Message {
        let update = json!({ "update_id": 1, "message": { "message_id": 5, "chat": { "id": -5 }, "text": text } });
        Update::from_value(&update).message().cloned().unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn a_command_has_a_name_and_may_name_its_bot() {
        for (text, expected) in [
            ("/close", Some(("close", None))),
            (" /close@OtherBot now", Some(("close", Some("OtherBot")))),
            ("/q имя", Some(("q", None))),
            ("/", None),
            ("/@OtherBot", None),
            ("/close@", None),
            ("/да", None),
            ("close", None),
            ("5/7@a", None),
        ] {
            let message = written(text);
            assert_eq!(command(&message).map(|word| (word, bot_of_command(&message))), expected, "{text}");
        }
    }
}
