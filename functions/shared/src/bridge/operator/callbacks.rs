//! Presses on buttons under notices. Each acts once, by compare-and-set on its row. The webhook's response answers every
//! press, and an edit of the notice removes the buttons.

use super::outcome::{ACTED, ButtonReply, UpdateOutcome};
use crate::{
    bridge::{
        common::{
            buttons::Button,
            texts::{self, Language},
            wakeups::WAKEUPS,
        },
        rows::bot_outbox,
    },
    platform::db::Statement,
    telegram::update::Press,
};

/// Handles a press on a button.
pub(super) fn handle_callback(bot_id: i64, press: &Press) -> UpdateOutcome {
    let language = Language::of_code(press.from.as_ref().and_then(|from| from.language_code.as_deref()));
    let nothing = texts::button_did_nothing(language);
    let button = press.data.as_deref().and_then(Button::parse);
    let (Some(button), Some(message)) = (button, &press.message) else {
        let reply = ButtonReply { id: press.id.clone(), done: nothing, nothing };
        return UpdateOutcome { reply: Some(reply), ..UpdateOutcome::default() };
    };
    let (action, id, done) = match button {
        Button::Retry(id) => ("retry", id, texts::sending_again as fn(Language) -> &'static str),
        Button::Cancel(id) => ("cancel", id, texts::cancelled as fn(Language) -> &'static str),
        Button::Block(id) => ("block", id, texts::blocking as fn(Language) -> &'static str),
        Button::DontBlock(id) => ("dont_block", id, texts::not_blocking as fn(Language) -> &'static str),
    };
    let act = Statement::call("press_button")
        .arg("bot_id", bot_id)
        .arg("telegram_chat_id", message.chat.id)
        .arg("action", action)
        .arg("target_id", id)
        .arg("telegram_message_id", message.message_id)
        .arg("text", message.text().map(str::to_owned))
        .arg("acted_line", done(Language::Russian))
        .arg("nothing_line", texts::button_did_nothing(Language::Russian))
        .labelled(WAKEUPS)
        .labelled(ACTED);
    UpdateOutcome {
        statements: vec![act, bot_outbox::make_due_for_posts(bot_id)],
        reply: Some(ButtonReply { id: press.id.clone(), done: done(language), nothing }),
        ..UpdateOutcome::default()
    }
}
