//! After a lost answer: reads the chat and looks for the part, before it is sent again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    send::newest_messages,
    sender::{AvitoSender, AvitoStep, NoAnswer},
    work::{DialogWork, Part, SentPart},
};
use crate::{
    avito,
    bridge::{common::text_split, error::BridgeError},
    platform::{
        db::{Statement, get},
        endings::Duty,
    },
};

/// A part of unknown outcome is verified after this time at the earliest: it may still appear in Avito's list.
const FIRST_VERIFY_DELAY: Duration = Duration::from_secs(3);
/// The delay between the first verification that does not find the part and the second: 8 s after the call.
const SECOND_VERIFY_DELAY: Duration = Duration::from_secs(5);
/// The delay between the second verification and the third: 30 s after the call.
const THIRD_VERIFY_DELAY: Duration = Duration::from_secs(22);
/// The largest difference that is allowed for between Avito's clock and ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(10);

impl AvitoSender<'_> {
    /// Looks for a part of unknown outcome among the chat's newest messages, and sends it again if it is not there.
    pub(super) async fn verify_sent(&self, work: &DialogWork, part: &Part) -> Result<AvitoStep, BridgeError> {
        let waited = Duration::try_from(work.now.duration_since(part.sending_since)).unwrap_or_default();
        if let Some(left) = FIRST_VERIFY_DELAY.checked_sub(waited).filter(|left| !left.is_zero()) {
            return Ok(AvitoStep::ReleaseFor(Vec::new(), left));
        }
        // While sends are out, the chat is read just before the part is tried again, not over and over.
        let held = work.outage.as_ref().and_then(|outage| outage.held_until("messages.send", work.now));
        if let Some(until) = held {
            let wait = Duration::try_from(until.duration_since(work.now)).unwrap_or_default();
            return Ok(AvitoStep::ReleaseFor(Vec::new(), wait.max(SECOND_VERIFY_DELAY)));
        }
        let messages = match self.call(work, "messages.list", newest_messages(work)).await {
            Ok(messages) => messages,
            Err(NoAnswer::Failed(error)) => {
                return self.after_part_failure(work, part, Duty::Verification, &error).await;
            }
            Err(NoAnswer::Instead(next)) => return Ok(next),
        };
        if let Some(id) = self.find_sent(work, part, &messages).await? {
            metrics::counter!("parts_verified_sent").increment(1);
            return Ok(AvitoStep::CommitSent(SentPart { part_id: part.id, avito_message_id: id }));
        }
        let is_settled = waited >= FIRST_VERIFY_DELAY + SECOND_VERIFY_DELAY + THIRD_VERIFY_DELAY;
        if !is_settled && let Some(wait) = self.next_verification(work, part).await? {
            return Ok(AvitoStep::ReleaseFor(vec![count_verification(part.id)], wait));
        }
        if part.is_auto_reply
            && let Some(end) = self.end_if_obsolete(part).await?
        {
            return Ok(end);
        }
        if self.run(vec![withdraw_changed(part.id)]).await?.iter().flatten().next().is_some() {
            // Its writer wants it deleted or changed: it does not go as it was.
            return Ok(AvitoStep::Commit(Vec::new()));
        }
        let results = self.run(vec![restart_sending(part.id)]).await?;
        if results.iter().flatten().next().is_none() {
            return Ok(AvitoStep::Commit(Vec::new())); // Avito reported the message in the meantime
        }
        Box::pin(self.send(work, part)).await
    }

    /// Returns the wait until the part is looked for again. None: it counts as not sent. A trusted webhook reports within half a
    /// minute what Avito's list may not show yet.
    async fn next_verification(&self, work: &DialogWork, part: &Part) -> Result<Option<Duration>, BridgeError> {
        Ok(match part.verify_attempts {
            0 => Some(SECOND_VERIFY_DELAY),
            1 => {
                let results = self.run(vec![select_trusted_webhook(work.keys.account_id)]).await?;
                results.iter().flatten().next().map(|_| THIRD_VERIFY_DELAY)
            }
            _ => None,
        })
    }

    /// Returns the oldest own message that looks like the part, is not older, and belongs to no other part or message.
    /// All pictures look alike. None: there is no such message.
    async fn find_sent(
        &self,
        work: &DialogWork,
        part: &Part,
        newest: &[avito::Message],
    ) -> Result<Option<String>, BridgeError> {
        let earliest = part.sending_since.checked_sub(CLOCK_SKEW).unwrap_or(Timestamp::MIN).as_second();
        let candidates: Vec<String> = newest
            .iter()
            .rev()
            .filter(|message| message.is_own(work.keys.user_id) && looks_like(part, message))
            .filter(|message| message.created.is_some_and(|created| created >= earliest))
            .map(|message| message.id.clone())
            .collect();
        if candidates.is_empty() {
            return Ok(None);
        }
        let results = self.run(vec![select_known_ids(work.keys.account_id, candidates.clone())]).await?;
        let known: Vec<String> =
            results.iter().flatten().map(|row| get(row, "avito_message_id")).collect::<Result<_, _>>()?;
        Ok(candidates.into_iter().find(|id| !known.contains(id)))
    }
}

fn looks_like(part: &Part, message: &avito::Message) -> bool {
    if part.picture.is_some() {
        return message.kind == avito::Kind::Image;
    }
    let text = message.content.text.as_deref().filter(|_| message.kind == avito::Kind::Text);
    text.is_some_and(|text| text_split::key(text) == part.text_key)
}

/// Counts a verification that did not find the part.
fn count_verification(part_id: i64) -> Statement {
    Statement::new("UPDATE parts SET verify_attempts = verify_attempts + 1 WHERE id = $1 AND state = 'sending'")
        .bind(part_id)
}

/// Sets a part that no verification found back to `pending`, if its message is to be changed or deleted, and has it wait until it is.
/// No row: it is not.
fn withdraw_changed(part_id: i64) -> Statement {
    Statement::new(
        "UPDATE parts p SET state = 'pending', due_at = greatest(p.due_at, m.change_due_at) FROM messages m
         WHERE p.id = $1 AND p.state = 'sending' AND m.id = p.message_id AND m.change_due_at IS NOT NULL
         RETURNING p.id",
    )
    .bind(part_id)
}

/// Starts the sending of a part anew: no verification found it. Its message may appear twice all the same. No row: it is not
/// `sending`.
fn restart_sending(part_id: i64) -> Statement {
    Statement::new(
        "WITH restarted AS (
             UPDATE parts SET sending_since = now(), verify_attempts = 0, verify_failures = 0, verify_failed_since = NULL,
                    attempts = attempts + 1, failed_since = coalesce(failed_since, sending_since)
             WHERE id = $1 AND state = 'sending'
             RETURNING client_id, message_id
         )
         UPDATE messages m SET maybe_duplicate = true FROM restarted r WHERE m.client_id = r.client_id AND m.id = r.message_id
         RETURNING m.id",
    )
    .bind(part_id)
}

/// Returns a row if the account's webhook is trusted: it is registered, and reported everything in the last 24 hours.
fn select_trusted_webhook(account_id: i64) -> Statement {
    Statement::new(
        "SELECT p.avito_account_id FROM account_polls p JOIN tenancy_webhooks w ON w.avito_account_id = p.avito_account_id
         WHERE p.avito_account_id = $1 AND w.is_registered AND p.unreported_since IS NULL
           AND coalesce(p.webhook_missed_at < now() - interval '24 hours', true)",
    )
    .bind(account_id)
}

/// Selects those of these Avito ids that a part or a message of the account already has. Messages that were recorded as
/// written in Avito's app do not count: one of them may be the part.
fn select_known_ids(account_id: i64, ids: Vec<String>) -> Statement {
    Statement::new(
        "SELECT avito_message_id FROM parts WHERE avito_account_id = $1 AND avito_message_id = ANY($2)
         UNION SELECT avito_message_id FROM messages
         WHERE avito_account_id = $1 AND avito_message_id = ANY($2) AND origin <> 'avito_app'",
    )
    .bind(account_id)
    .bind(ids)
}
