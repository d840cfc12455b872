//! After a lost answer: reads the chat and looks for the part, before it is sent again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    send::newest_messages,
    sender::{AvitoSender, AvitoStep, FIRST_VERIFY_DELAY, SECOND_VERIFY_DELAY},
    work::{DialogWork, Part, SentPart},
};
use crate::{
    avito,
    bridge::{common::text_split, error::BridgeError},
    platform::db::{Statement, get},
};

/// After so many verifications that do not find it, a part counts as not sent.
const MAX_VERIFY_ATTEMPTS: i32 = 2;
/// The largest difference that is allowed for between Avito's clock and ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(10);

impl AvitoSender<'_> {
    /// Looks for a part of unknown outcome among the chat's newest messages, and sends it again if it is not there.
    pub(super) async fn verify_sent(&self, work: &DialogWork, part: &Part) -> Result<AvitoStep, BridgeError> {
        let waited = Duration::try_from(work.now.duration_since(part.sending_since)).unwrap_or_default();
        if let Some(left) = FIRST_VERIFY_DELAY.checked_sub(waited).filter(|left| !left.is_zero()) {
            return Ok(AvitoStep::ReleaseFor(Vec::new(), left));
        }
        let messages = match self.call(work, newest_messages(work)).await {
            Ok(Ok(messages)) => messages,
            Ok(Err(error)) => {
                tracing::warn!(dialog_id = self.dialog_id, %error, "a chat could not be read to verify a part");
                return Ok(AvitoStep::ReleaseFor(Vec::new(), error.retry_in().unwrap_or(SECOND_VERIFY_DELAY)));
            }
            Err(next) => return Ok(next),
        };
        match self.find_sent(work, part, &messages).await? {
            Some(id) => {
                metrics::counter!("parts_verified_sent").increment(1);
                Ok(AvitoStep::CommitSent(SentPart { part_id: part.id, avito_message_id: id }))
            }
            None if part.verify_attempts + 1 < MAX_VERIFY_ATTEMPTS => {
                Ok(AvitoStep::ReleaseFor(vec![count_verification(part.id)], SECOND_VERIFY_DELAY))
            }
            None => {
                let results = self.run(vec![restart_sending(part.id)]).await?;
                if results.iter().flatten().next().is_none() {
                    return Ok(AvitoStep::Commit(Vec::new())); // Avito reported the message in the meantime
                }
                self.send(work, part).await
            }
        }
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

/// Starts the sending of a part anew: no verification found it, so Avito does not have it. No row: it is not `sending`.
fn restart_sending(part_id: i64) -> Statement {
    Statement::new(
        "UPDATE parts SET sending_since = now(), verify_attempts = 0, attempts = attempts + 1 WHERE id = $1 AND state = 'sending'
         RETURNING sending_since",
    )
    .bind(part_id)
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
