//! Presses on buttons under notices. Each acts once, by compare-and-set on its row. The webhook's response answers every
//! press, and an edit of the notice removes the buttons.

use super::outcome::{ButtonReply, UpdateOutcome};
use crate::{
    bridge::{
        common::{
            buttons::Button,
            texts::{self, Language},
        },
        rows::bot_outbox,
    },
    platform::db::Statement,
    telegram::update::Press,
};

/// A statement that acts on the row that `$target` selects, and inserts the edit that removes the buttons. It returns
/// `acted` if it did anything.
///
/// It has seven parameters: bot, chat, row, and four for the edit. Those are the notice's message id, its text, the
/// line to add if the button acted, and the line to add if not. Without a text there is no edit.
macro_rules! button_action {
    ($target:literal, $acted:literal) => {
        concat!(
            "WITH target AS (",
            $target,
            " JOIN tenancy_bots r ON r.bot_id = $1 AND $2 IN (r.group_chat_id, r.former_group_chat_id)
             WHERE t.id = $3 AND t.bot_id = $1), ",
            $acted,
            ", edit AS (
                 INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, telegram_chat_id, dedup_key)
                 SELECT client_id, $1, dialog_id, 'edit',
                        jsonb_build_object('message_id', $4::bigint, 'text',
                            concat($5::text, E'\\n\\n', CASE WHEN EXISTS (SELECT FROM acted) THEN $6::text ELSE $7::text END)),
                        $2, format('button:%s:%s', $2::bigint, $4::bigint)
                 FROM target WHERE $5 IS NOT NULL
                 ON CONFLICT (bot_id, dedup_key) DO NOTHING
             )
             SELECT acted.*, true AS acted FROM acted"
        )
    };
}

const RETRY: &str = button_action!(
    "SELECT t.id, t.client_id, t.dialog_id FROM messages t",
    "retried AS (
         UPDATE parts p SET state = 'pending', attempts = 0, verify_attempts = 0, error = NULL
         FROM target WHERE p.message_id = target.id AND p.state = 'failed'
         RETURNING p.message_id, p.dialog_id
     ), message AS (
         UPDATE messages m SET status = 'sending', error = NULL FROM retried WHERE m.id = retried.message_id
     ), acted AS (
         UPDATE dialogs d SET send_at = greatest(coalesce(d.send_at, now()), now())
         FROM retried WHERE d.id = retried.dialog_id RETURNING d.id AS dialog_id, d.send_at
     )"
);
const CANCEL: &str = button_action!(
    "SELECT t.id, t.client_id, t.dialog_id FROM messages t",
    "dropped AS (
         UPDATE parts p SET state = 'cancelled' FROM target WHERE p.message_id = target.id AND p.state = 'failed'
         RETURNING p.message_id
     ), acted AS (SELECT DISTINCT message_id FROM dropped)"
);
const BLOCK: &str = button_action!(
    "SELECT t.id, t.client_id, t.id AS dialog_id FROM dialogs t",
    "acted AS (
         UPDATE dialogs d SET block_requested_at = now(), send_at = now()
         FROM target WHERE d.id = target.id AND d.state <> 'blocked' AND d.block_requested_at IS NULL
         RETURNING d.id AS dialog_id, d.send_at
     )"
);
const DONT_BLOCK: &str =
    button_action!("SELECT t.id, t.client_id, t.id AS dialog_id FROM dialogs t", "acted AS (SELECT id FROM target)");

/// Handles a press on a button.
pub(super) fn handle_callback(bot_id: i64, press: &Press) -> UpdateOutcome {
    let language = Language::of_code(press.from.as_ref().and_then(|from| from.language_code.as_deref()));
    let nothing = texts::button_did_nothing(language);
    let button = press.data.as_deref().and_then(Button::parse);
    let (Some(button), Some(message)) = (button, &press.message) else {
        let reply = ButtonReply { id: press.id.clone(), done: nothing, nothing };
        return UpdateOutcome { reply: Some(reply), ..UpdateOutcome::default() };
    };
    let (sql, id, done) = match button {
        Button::Retry(id) => (RETRY, id, texts::sending_again as fn(Language) -> &'static str),
        Button::Cancel(id) => (CANCEL, id, texts::cancelled as fn(Language) -> &'static str),
        Button::Block(id) => (BLOCK, id, texts::blocking as fn(Language) -> &'static str),
        Button::DontBlock(id) => (DONT_BLOCK, id, texts::not_blocking as fn(Language) -> &'static str),
    };
    let act = Statement::new(sql)
        .bind(bot_id)
        .bind(message.chat.id)
        .bind(id)
        .bind(message.message_id)
        .bind(message.text().map(str::to_owned))
        .bind(done(Language::Russian))
        .bind(texts::button_did_nothing(Language::Russian));
    UpdateOutcome {
        statements: vec![act, bot_outbox::make_due_for_posts(bot_id)],
        reply: Some(ButtonReply { id: press.id.clone(), done: done(language), nothing }),
        ..UpdateOutcome::default()
    }
}
