//! The replay: one post with the last messages of a dialog, in its new topic. It has only messages that were delivered:
//! a message that still waits follows by itself, and would stand there twice.

use jiff::tz::TimeZone;
use serde_json::Value;
use tokio_postgres::types::Json;

use super::{
    compose::{message_text, post_text, styled::Styled},
    sender::TelegramSender,
    work::{BotWork, ClaimedDialog},
};
use crate::{
    bridge::{
        common::texts::{self, Language},
        error::BridgeError,
    },
    platform::db::{DbError, Statement, get},
};

/// The most UTF-16 units of one message: ten messages, with times and names, fit into a post.
const MAX_LINE_UNITS: usize = 350;

/// Selects the last ten messages that were delivered either way, oldest first.
fn delivered(dialog_id: i64) -> Statement {
    Statement::new(
        "SELECT direction, to_json(last) AS message FROM (
             SELECT m.id, m.direction, m.origin, m.kind, m.text, m.attachments, m.author_name AS author,
                    m.confirmed_at IS NOT NULL AS confirmed, coalesce(m.avito_created, m.created_at) AS created,
                    m.created_at AS arrived, NULL::bigint AS reply_to
             FROM messages m LEFT JOIN posts p ON p.id = m.post_id
             WHERE m.dialog_id = $1 AND m.error IS DISTINCT FROM 'deleted by the operator'
               AND (p.state = 'sent' OR (m.direction = 'out' AND NOT m.needs_post AND m.status IN ('sent', 'read')))
             ORDER BY m.id DESC LIMIT 10
         ) AS last ORDER BY id",
    )
    .bind(dialog_id)
}

/// Composes the replay of a dialog. None: nothing was delivered.
pub(super) async fn compose(
    sender: &TelegramSender<'_>,
    work: &BotWork,
    dialog: &ClaimedDialog,
) -> Result<Option<Value>, BridgeError> {
    let zone = TimeZone::get(&dialog.timezone).unwrap_or(TimeZone::UTC);
    let rows = sender.run_with_dialog_lock(work, vec![delivered(dialog.id)]).await?;
    let lines = rows
        .iter()
        .flatten()
        .map(|row| {
            let own = get::<String>(row, "direction")? == "out";
            let who =
                if own { Styled::bold(texts::you(Language::Russian)) } else { Styled::plain(post_text::buyer(dialog)) };
            let Json(message) = get(row, "message")?;
            Ok(message_text::replay_line(&message, &who, &zone))
        })
        .collect::<Result<Vec<Styled>, DbError>>()?;
    Ok((!lines.is_empty()).then(|| text(&lines)))
}

fn text(lines: &[Styled]) -> Value {
    let heading = std::iter::once(Styled::bold(texts::last_messages(Language::Russian)));
    Styled::join("\n", heading.chain(lines.iter().map(|line| line.shortened(MAX_LINE_UNITS)))).content()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telegram::text::{TEXT_LIMIT, utf16_len};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ten_messages_of_any_length_fit_into_one_post(lengths in prop::collection::vec(1usize..5000, 1..=10)) {
            let lines: Vec<Styled> = lengths.iter().map(|length| Styled::plain("😀".repeat(*length))).collect();
            let replay = text(&lines);
            let said = replay["text"].as_str().unwrap_or_default();
            prop_assert!(utf16_len(said) <= TEXT_LIMIT && said.split('\n').count() == lines.len() + 1);
        }
    }
}
