//! Marks a chat read in Avito.

use super::{
    sender::{AvitoSender, AvitoStep},
    work::DialogWork,
};
use crate::{
    avito,
    bridge::{common::avito_rate_limit::CallPriority, error::BridgeError},
    platform::{db::Statement, secrets::Secret},
};

impl AvitoSender<'_> {
    pub(super) async fn mark_read(&self, work: &DialogWork) -> Result<AvitoStep, BridgeError> {
        let (user_id, chat_id) = (work.keys.user_id, &work.avito_chat_id);
        let mark = async |avito: &avito::Client, token: &Secret| avito.mark_read(token, user_id, chat_id).await;
        Ok(match self.call_with_own_right(CallPriority::Background, work, mark).await {
            Ok(Err(error)) if let Some(wait) = error.retry_in() => AvitoStep::ReleaseFor(Vec::new(), wait),
            Ok(_) => AvitoStep::Commit(vec![clear_mark_read(self.dialog_id)]),
            Err(next) => next,
        })
    }
}

/// Clears the request to mark the chat read: it is done, or Avito refuses it.
fn clear_mark_read(dialog_id: i64) -> Statement {
    Statement::new("UPDATE dialogs SET mark_read_at = NULL WHERE id = $1 AND mark_read_at <= now()").bind(dialog_id)
}
