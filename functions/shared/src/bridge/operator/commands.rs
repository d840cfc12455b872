//! The commands of operators in a topic: `/close`, `/reopen`, `/block`, `/del`, and `/q` for a canned reply.
//! One statement carries out each. Its key is the message with the command, so that a repeated update does nothing.

use serde_json::{Value, json};

use super::{
    edits,
    outcome::{UpdateOutcome, command},
};
use crate::{
    bridge::{
        common::{
            buttons,
            texts::{self, Language},
        },
        rows::bot_outbox,
    },
    platform::db::Statement,
    telegram::update::{Kind, Message, Update},
};

/// Runs a command. None: `word` is another command, or no command at all.
pub(super) fn run_command(bot_id: i64, message: &Message, word: &str) -> Option<UpdateOutcome> {
    let statement = match word {
        "del" => return Some(edits::handle_delete_command(bot_id, message)),
        "close" => command_statement(bot_id, message, "close", texts::closed(Language::Russian), None),
        "reopen" => command_statement(bot_id, message, "reopen", texts::reopened(Language::Russian), None),
        "block" => {
            let question = texts::block_whom(Language::Russian);
            command_statement(bot_id, message, "block", question, Some(buttons::block_buttons()))
        }
        _ => return None,
    };
    Some(UpdateOutcome {
        statements: vec![statement, bot_outbox::make_due_for_posts(bot_id)],
        ..UpdateOutcome::default()
    })
}

/// Runs the command in the dialog of its topic, with a post of this text.
fn command_statement(
    bot_id: i64,
    message: &Message,
    command: &'static str,
    text: &str,
    buttons: Option<Value>,
) -> Statement {
    let mut content = json!({ "text": text, "reply_to": message.message_id });
    if let Some(buttons) = buttons {
        content["reply_markup"] = buttons;
    }
    Statement::call("run_command")
        .arg("bot_id", bot_id)
        .arg("telegram_chat_id", message.chat.id)
        .arg("thread_id", message.thread_id)
        .arg("reply_to_message_id", message.answers())
        .arg("telegram_message_id", message.message_id)
        .arg("command", command)
        .arg("content", content)
}

/// Returns the message with which an operator asks for a canned reply, and the reply's name. The name is empty if the
/// operator asks for the list of names. None: the update is no `/q` of a person.
pub(super) fn canned_reply(update: &Update) -> Option<(&Message, String)> {
    let Kind::Message(message) = &update.kind else { return None };
    let by_person = message.from.as_ref().is_some_and(|from| !from.is_bot) || message.is_by_anonymous_admin();
    let asked = by_person && command(message) == Some("q");
    let name = || message.text().unwrap_or_default().split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    asked.then(|| (message, name()))
}

/// Returns the client's canned reply of this name. An error is a text for the operator, with the names that there are.
pub(super) fn choose_canned_reply(replies: &Value, name: &str) -> Result<String, String> {
    let none = serde_json::Map::new();
    let replies = replies.as_object().unwrap_or(&none);
    let wanted = name.to_lowercase();
    let found = replies.iter().find(|(known, _)| known.to_lowercase() == wanted);
    match found.and_then(|(_, text)| text.as_str()).filter(|text| !text.trim().is_empty()) {
        Some(text) => Ok(text.to_owned()),
        None if replies.is_empty() => Err(texts::no_canned_replies(Language::Russian).to_owned()),
        None => {
            let names = replies.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let names = crate::telegram::text::truncate_utf16(&names, 3000);
            Err(format!("{} {names}", texts::canned_replies_are(Language::Russian)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canned_reply_is_found_in_any_case_and_an_unknown_name_returns_the_list_of_names() {
        let replies = json!({ "Привет": "Здравствуйте!", "адрес": "Москва", "пусто": " " });
        assert_eq!(choose_canned_reply(&replies, "привет").as_deref(), Ok("Здравствуйте!"));
        for unknown in ["", "пока", "пусто"] {
            assert!(
                choose_canned_reply(&replies, unknown)
                    .is_err_and(|names| names.contains("адрес") && names.contains("Привет"))
            );
        }
        for none in [json!({}), json!([]), json!(null)] {
            assert!(choose_canned_reply(&none, "привет").is_err_and(|names| !names.is_empty()));
        }
    }
}
