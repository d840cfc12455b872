//! Where Telegram sends what people write to a bot: an address that ends in a secret, and a header made of it.

use frankenstein::{AsyncTelegramApi, methods::SetWebhookParams, types::AllowedUpdate};

use super::telegram as bot_api;
use crate::{
    App,
    platform::{config::var, secrets::Secret},
    telegram,
};

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
