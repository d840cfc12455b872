//! The webhook of a bot: an address that ends in a secret, and a header that is derived from the secret.

use frankenstein::{AsyncTelegramApi, methods::SetWebhookParams, types::AllowedUpdate};

use super::bot::telegram as bot_api;
use crate::{
    App,
    platform::{certainty::Certainty, config::var, db::Statement, secrets::Secret},
    telegram,
};

/// The time for which the request that sets a webhook excludes others, seconds. It is longer than an endpoint runs, so
/// that of two calls to Telegram the later one takes effect last.
const CHANGE_TIMEOUT_SECONDS: f64 = 20.0;

/// Has Telegram send a bot's updates to the address that ends in `secret`.
pub(super) async fn set(app: &App, bot_id: i64, token: Secret, secret: &Secret) -> Result<(), telegram::Error> {
    let base = app.config().text(var::PUBLIC_BASE_URL).trim_end_matches('/');
    let params = SetWebhookParams::builder()
        .url(format!("{base}/api/webhooks/telegram/{bot_id}/{}", secret.expose()))
        .secret_token(app.keyring().derive(secret).expose())
        .allowed_updates(vec![
            AllowedUpdate::Message,
            AllowedUpdate::EditedMessage,
            AllowedUpdate::CallbackQuery,
            AllowedUpdate::MyChatMember,
        ])
        .max_connections(40_u32)
        .build();
    bot_api(app, token).set_webhook(&params).await.map(|_| ())
}

/// Accepts a new secret beside those that Telegram may be using. No row: another request is setting the webhook.
pub(super) fn add_pending_secret(bot_id: i64, secret: &Secret) -> Statement {
    Statement::new(
        "UPDATE bots
         SET pending_webhook_hashes = CASE
                 WHEN $2 = ANY (pending_webhook_hashes) THEN pending_webhook_hashes
                 -- each call of unknown outcome leaves a hash behind; the newest ones may be in use
                 ELSE (array_append(pending_webhook_hashes, $2))[greatest(1, cardinality(pending_webhook_hashes) - 6):] END,
             webhook_change_until = now() + make_interval(secs => $3)
         WHERE id = $1 AND (coalesce(webhook_change_until <= now(), true) OR $2 = ANY (pending_webhook_hashes))
         RETURNING id",
    )
    .bind(bot_id)
    .bind(secret.hash().to_vec())
    .bind(CHANGE_TIMEOUT_SECONDS)
}

/// Makes the newest pending secret the only one that is accepted, because Telegram uses it.
pub(super) fn activate_secret(bot_id: i64, secret: &Secret) -> Statement {
    Statement::new(
        "UPDATE bots SET webhook_secret_hash = $2, pending_webhook_hashes = '{}', webhook_change_until = NULL,
                webhook_set_at = now()
         WHERE id = $1 AND pending_webhook_hashes[cardinality(pending_webhook_hashes)] = $2",
    )
    .bind(bot_id)
    .bind(secret.hash().to_vec())
}

/// Drops the newest pending secret, which Telegram certainly does not use.
pub(super) fn drop_pending_secret(bot_id: i64, secret: &Secret) -> Statement {
    Statement::new(
        "UPDATE bots SET pending_webhook_hashes = array_remove(pending_webhook_hashes, $2), webhook_change_until = NULL
         WHERE id = $1 AND pending_webhook_hashes[cardinality(pending_webhook_hashes)] = $2",
    )
    .bind(bot_id)
    .bind(secret.hash().to_vec())
}

/// True if Telegram may have set the webhook in spite of the error.
pub(super) fn is_outcome_unknown(error: &telegram::Error) -> bool {
    matches!(error.certainty(), Certainty::MaybeDone | Certainty::Done)
}
