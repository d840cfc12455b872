//! Albums, and pictures under a note or a command: they stay inside. Telegram sends the pictures of an album one by one, and the
//! caption of one of them decides for all, whichever comes first.

use super::outcome::UpdateOutcome;
use crate::{
    bridge::{
        common::{
            texts::{self, Language},
            wakeups::WAKEUPS,
        },
        rows::{bot_outbox, posts},
    },
    platform::db::Statement,
    telegram::update::{Content, Message},
};

/// Keeps the whole album of a message inside. Nothing is done for a message of no album.
pub(super) fn keep_inside(bot_id: i64, message: &Message) -> Vec<Statement> {
    let album = message.media_group_id.iter();
    album
        .map(|album| {
            Statement::call("keep_album_inside")
                .arg("bot_id", bot_id)
                .arg("telegram_chat_id", message.chat.id)
                .arg("media_group_id", album.clone())
                .labelled(WAKEUPS)
        })
        .collect()
}

/// Adds to a command that the picture above it, or anything else but a text, does not go to the buyer, with a notice that says so.
pub(super) fn without_media(bot_id: i64, message: &Message, mut outcome: UpdateOutcome) -> UpdateOutcome {
    if !matches!(message.content, Content::Media { .. }) {
        return outcome;
    }
    outcome.statements.extend(keep_inside(bot_id, message));
    let notice = Statement::new(
        "SELECT sql.put_notice(d.client_id, d.bot_id, d.id, $6, format('stays_inside:%s:%s', $2::bigint, $5::bigint))
         FROM dialogs d JOIN tenancy_bots b ON b.bot_id = $1 AND $2 IN (b.group_chat_id, b.former_group_chat_id)
         WHERE d.id = find_dialog($1, $2, $3, $4)",
    );
    outcome.statements.push(
        notice
            .bind(bot_id)
            .bind(message.chat.id)
            .bind(message.thread_id)
            .bind(message.answers())
            .bind(message.message_id)
            .bind(posts::notice(texts::stays_under_command(Language::Russian), Some(message.message_id))),
    );
    outcome.statements.push(bot_outbox::make_due_for_posts(bot_id));
    outcome
}
