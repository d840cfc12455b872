//! Marks a chat read in Avito.

use std::time::Duration;

use super::{
    sender::{AvitoSender, AvitoStep, FIRST_VERIFY_DELAY},
    work::DialogWork,
};
use crate::{
    avito,
    bridge::{
        common::avito_rate_limit::{self, CallPriority},
        error::BridgeError,
    },
    platform::db::Statement,
    tenancy::accounts,
};

impl AvitoSender<'_> {
    pub(super) async fn mark_read(&self, work: &DialogWork) -> Result<AvitoStep, BridgeError> {
        let token = match self.token(work, None).await {
            Ok(token) => token,
            Err(next) => return Ok(next),
        };
        let avito = accounts::avito(self.app);
        let call = avito.mark_read(&token, work.keys.user_id, &work.avito_chat_id);
        let answer = avito_rate_limit::within(self.app, work.keys.account_id, CallPriority::Background, call).await;
        Ok(match answer {
            Err(avito::Error::Unauthorized { .. }) => match self.token(work, Some(&token)).await {
                Ok(_) => AvitoStep::ReleaseFor(Vec::new(), Duration::ZERO),
                Err(next) => next,
            },
            Err(error) if error.retry_in().is_some() => {
                AvitoStep::ReleaseFor(Vec::new(), error.retry_in().unwrap_or(FIRST_VERIFY_DELAY))
            }
            _ => AvitoStep::Commit(vec![clear_mark_read(self.dialog_id)]),
        })
    }
}

/// Clears the request to mark the chat read: it is done, or Avito refuses it.
fn clear_mark_read(dialog_id: i64) -> Statement {
    Statement::new("UPDATE dialogs SET mark_read_at = NULL WHERE id = $1 AND mark_read_at <= now()").bind(dialog_id)
}
