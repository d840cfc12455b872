//! The replay: one post with the last messages of a dialog, in its new topic. It has only messages that were delivered:
//! a message that still waits follows by itself, and would stand there twice.

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokio_postgres::types::Json;

use super::{
    compose::{message_text, post_text},
    sender::TelegramSender,
    work::{BotWork, ClaimedDialog},
};
use crate::{
    bridge::{
        common::texts::{self, Language},
        error::BridgeError,
    },
    platform::db::{DbError, Statement, get},
    telegram::text::truncate_utf16,
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
            let who = if own { texts::you(Language::Russian).to_owned() } else { post_text::buyer(dialog) };
            let Json(message) = get(row, "message")?;
            Ok(message_text::replay_line(&message, &who, &zone))
        })
        .collect::<Result<Vec<String>, DbError>>()?;
    Ok((!lines.is_empty()).then(|| text(&lines)))
}

fn text(lines: &[String]) -> Value {
    let short = lines.iter().map(|line| match truncate_utf16(line, MAX_LINE_UNITS) {
        cut if cut.len() < line.len() => format!("{cut}…"),
        whole => whole.to_owned(),
    });
    let all: Vec<String> = std::iter::once(texts::last_messages(Language::Russian).to_owned()).chain(short).collect();
    json!({ "text": all.join("\n") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telegram::text::{TEXT_LIMIT, utf16_len};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ten_messages_of_any_length_fit_into_one_post(lengths in prop::collection::vec(0usize..5000, 1..=10)) {
            let lines: Vec<String> = lengths.iter().map(|length| "😀".repeat(*length)).collect();
            let replay = text(&lines);
            let said = replay["text"].as_str().unwrap_or_default();
            prop_assert!(utf16_len(said) <= TEXT_LIMIT && said.split('\n').count() == lines.len() + 1);
        }
    }
}
