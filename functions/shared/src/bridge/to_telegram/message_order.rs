//! The order of messages that a buyer writes in quick succession. Avito counts in whole seconds: if messages share one
//! second, Avito's own list has their order.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    sender::{TelegramSender, TelegramStep},
    work::{ClaimedDialog, PendingMessage},
};
use crate::{
    avito,
    bridge::common::{
        avito_call::{AvitoCaller, CallError},
        avito_rate_limit::CallPriority,
    },
    platform::{db::Statement, secrets::Secret},
};

/// The timeout of the call that reads the order, with the call for a new token. A longer wait is not worth it.
const POSITIONS_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks Avito for the order of messages that share one second. None: the order is known, was asked for before, or could
/// not be read.
pub(super) async fn fetch_positions(
    sender: &TelegramSender<'_>,
    dialog: &ClaimedDialog,
    messages: &[PendingMessage],
) -> Option<TelegramStep> {
    let unknown = of_unknown_order(messages);
    let has_new = sender.asked_positions.lock().is_ok_and(|mut asked| {
        let before = asked.len();
        asked.extend(unknown);
        asked.len() > before
    });
    if !has_new {
        return None;
    }
    let late = || Err(avito::Error::Unknown(None).into());
    match tokio::time::timeout(POSITIONS_TIMEOUT, read_positions(sender, dialog)).await.unwrap_or_else(|_| late()) {
        Ok(positions) => Some(TelegramStep::Commit(vec![store_positions(dialog.id, positions)])),
        Err(error) => {
            tracing::warn!(dialog_id = dialog.id, %error, "the order within a second is not known; arrival decides");
            None
        }
    }
}

/// True if [`fetch_positions`] would ask Avito.
pub(super) fn needs_positions(sender: &TelegramSender<'_>, messages: &[PendingMessage]) -> bool {
    sender.asked_positions.lock().is_ok_and(|asked| of_unknown_order(messages).iter().any(|id| !asked.contains(id)))
}

/// Returns the messages that only a webhook reported and that share their second with a neighbour.
fn of_unknown_order(messages: &[PendingMessage]) -> Vec<i64> {
    let shares = |one: &PendingMessage, other: &PendingMessage| one.created.is_some() && one.created == other.created;
    let neighbours = |index: usize| [index.checked_sub(1), Some(index + 1)].into_iter().flatten();
    let of_one_second = |index: usize| {
        neighbours(index).filter_map(|other| messages.get(other)).any(|other| shares(&messages[index], other))
    };
    (0..messages.len())
        .filter(|index| !messages[*index].confirmed && of_one_second(*index))
        .map(|index| messages[index].id)
        .collect()
}

/// Reads the newest messages of the chat with their positions, oldest first.
async fn read_positions(sender: &TelegramSender<'_>, dialog: &ClaimedDialog) -> Result<Value, CallError> {
    let (keys, chat_id) = (&dialog.keys, &dialog.avito_chat_id);
    let read = async |avito: &avito::Client, token: &Secret| {
        avito.messages(token, keys.user_id, chat_id, avito::MAX_PAGE_SIZE, 0).await
    };
    let newest_first = AvitoCaller::new(sender.app, keys).call(CallPriority::Optional, None, read).await?;
    Ok((0..)
        .zip(newest_first.iter().rev())
        .map(|(position, message)| json!({ "id": message.id, "position": position }))
        .collect())
}

fn store_positions(dialog_id: i64, positions: Value) -> Statement {
    Statement::new(
        "UPDATE messages m SET avito_position = seen.position FROM jsonb_to_recordset($2) AS seen (id text, position int)
         WHERE m.dialog_id = $1 AND m.avito_message_id = seen.id AND m.needs_post AND m.post_id IS NULL",
    )
    .bind(dialog_id)
    .bind(positions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::common::states::MessageOrigin;
    use jiff::Timestamp;

    fn message(id: i64, second: Option<i64>, confirmed: bool) -> PendingMessage {
        PendingMessage {
            id,
            origin: MessageOrigin::Buyer,
            kind: "text".to_owned(),
            text: None,
            attachments: json!({}),
            created: second.and_then(|second| Timestamp::from_second(second).ok()),
            arrived: Timestamp::UNIX_EPOCH,
            confirmed,
            author: None,
            reply_to: None,
        }
    }

    #[test]
    fn messages_of_one_second_that_only_webhooks_reported_have_an_unknown_order() {
        let messages = [
            message(1, Some(10), false),
            message(2, Some(11), false),
            message(3, Some(11), true),
            message(4, Some(11), false),
            message(5, Some(12), false),
        ];
        assert_eq!(of_unknown_order(&messages), [2, 4]);
    }

    #[test]
    fn one_message_and_messages_without_a_time_have_a_known_order() {
        assert_eq!(of_unknown_order(&[message(1, Some(1), false)]), [0; 0]);
        assert_eq!(of_unknown_order(&[message(1, None, false), message(2, None, false)]), [0; 0]);
        assert_eq!(of_unknown_order(&[]), [0; 0]);
    }
}
