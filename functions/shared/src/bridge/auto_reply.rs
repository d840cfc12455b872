//! The auto-reply: a buyer who gets no answer for a while receives a text. The statement that records the buyer's
//! message stores the scheduled time in the dialog, and an answer clears it. The task names that time: if the dialog
//! has another one or none, the task does nothing.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    App, avito,
    bridge::{
        common::{
            tenant_cache, text_split,
            wakeups::{WAKEUPS, Wakeups},
        },
        error::BridgeError,
    },
    platform::db::{ClientId, Scope, Statement, get},
};

/// Cancels every scheduled auto-reply of the transaction's tenant: the auto-reply was switched off or on.
pub fn cancel_all_scheduled() -> Statement {
    Statement::new(
        "UPDATE dialogs SET auto_reply_scheduled_at = NULL
         WHERE client_id = current_client_id() AND auto_reply_scheduled_at IS NOT NULL",
    )
}

/// The text for a dialog whose auto-reply is scheduled for this time.
const TEXT: &str = "
    SELECT coalesce(s.text, '') AS text, d.client_id
    FROM dialogs d LEFT JOIN tenancy_auto_replies s ON s.client_id = d.client_id
    WHERE d.id = $1 AND d.auto_reply_scheduled_at = $2";

fn insert_auto_reply(dialog_id: i64, scheduled_at: Timestamp, text: String, parts: Value) -> Statement {
    Statement::call("insert_auto_reply")
        .arg("dialog_id", dialog_id)
        .arg("scheduled_at", scheduled_at)
        .arg("text", text)
        .arg("parts", parts)
        .labelled(WAKEUPS)
}

/// Starts to send the auto-reply if the dialog still has this scheduled time. True if it did.
pub async fn send(app: &App, dialog_id: i64, scheduled_at: Timestamp) -> Result<bool, BridgeError> {
    let find = Statement::new(TEXT).bind(dialog_id).bind(scheduled_at);
    let found = app.db().run(Scope::TenantOf(tenant_cache::find_tenant_of_dialog(dialog_id)), vec![find]).await?;
    let Some(row) = found.last().and_then(|rows| rows.first()) else {
        return Ok(false); // an answer came first, or it was sent already
    };
    let text: String = get(row, "text")?;
    let parts = text_split::parts_of(&text, 0);
    let insert = insert_auto_reply(dialog_id, scheduled_at, text, json!(parts));
    let results = app.db().run(Scope::Tenant(ClientId(get(row, "client_id")?)), vec![insert]).await?;
    let is_started = results.labelled(WAKEUPS).next().is_some();
    if is_started {
        metrics::counter!("auto_replies").increment(1);
        Wakeups::read(&results)?.wake(app).await;
    }
    Ok(is_started)
}

/// True if the newest message of a person in the chat is the buyer's. `newest_first` is Avito's list.
pub(in crate::bridge) fn buyer_waits(newest_first: &[avito::Message], own_user_id: i64) -> bool {
    newest_first.iter().find(|message| !message.is_system()).is_some_and(|message| !message.is_own(own_user_id))
}

/// Returns a row if an answer came after the part was created, or the part is too old to be of use.
pub(in crate::bridge) fn select_obsolete(part_id: i64) -> Statement {
    Statement::new(
        "SELECT m.id FROM parts p JOIN messages m ON m.client_id = p.client_id AND m.id = p.message_id
         WHERE p.id = $1 AND (m.created_at < now() - interval '10 minutes' OR EXISTS (
             SELECT FROM messages o
             WHERE o.client_id = m.client_id AND o.dialog_id = m.dialog_id AND o.direction = 'out' AND NOT o.is_auto_reply
               AND o.status <> 'failed'
               AND o.created_at > least(m.created_at, (
                   SELECT max(b.created_at) FROM messages b
                   WHERE b.client_id = m.client_id AND b.dialog_id = m.dialog_id AND b.origin = 'buyer'))))",
    )
    .bind(part_id)
}

/// Cancels an auto-reply that was not sent. This interval then counts as one without an auto-reply.
pub(in crate::bridge) fn cancel(part_id: i64) -> Vec<Statement> {
    metrics::counter!("auto_replies_cancelled").increment(1);
    vec![
        Statement::new(
            "UPDATE messages m SET status = 'failed', error = 'not needed any more'
             FROM parts p WHERE p.id = $1 AND m.client_id = p.client_id AND m.id = p.message_id AND p.state = 'sending'",
        )
        .bind(part_id),
        Statement::new(
            "UPDATE parts o SET state = 'cancelled', error = 'not needed any more' FROM parts p
             WHERE p.id = $1 AND o.message_id = p.message_id AND o.state IN ('pending', 'sending')",
        )
        .bind(part_id),
        Statement::new(
            "UPDATE dialogs d SET auto_reply_last_sent_at = (
                 SELECT max(o.created_at) FROM messages o
                 WHERE o.client_id = d.client_id AND o.dialog_id = d.id AND o.is_auto_reply AND o.status <> 'failed')
             FROM parts p JOIN messages m ON m.client_id = p.client_id AND m.id = p.message_id
             WHERE p.id = $1 AND p.state = 'cancelled' AND d.id = p.dialog_id AND d.auto_reply_last_sent_at = m.created_at",
        )
        .bind(part_id),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SELLER: i64 = 7;

    fn written(author_id: i64, text: &str) -> avito::Message {
        let message =
            json!({ "id": "m", "author_id": author_id, "created": 1, "type": "text", "content": { "text": text } });
        serde_json::from_value(message).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_buyer_waits_if_the_newest_message_of_a_person_is_the_buyers() {
        let (buyer, seller) = (written(9, "Ещё продаёте?"), written(SELLER, "Да"));
        let system = written(1, "[Системное сообщение] Осторожно");
        assert!(buyer_waits(&[buyer.clone(), seller.clone()], SELLER));
        assert!(buyer_waits(&[system.clone(), buyer.clone()], SELLER));
        assert!(!buyer_waits(&[seller.clone(), buyer.clone()], SELLER));
        assert!(!buyer_waits(&[system, seller, buyer], SELLER));
        assert!(!buyer_waits(&[], SELLER));
    }
}
