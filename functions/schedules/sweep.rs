//! Every minute: wakes what rows committed and nobody was woken for, tells owners what broke, and forgets used sign-ins
//! and the keys of repeated requests.

use lambda_http::Error;
use serde_json::{Value, json};
use tuberry::{
    App, bridge,
    identity::{owners, telegram_login},
    tenancy::idempotency,
};

tuberry::schedule!("sweep", sweep, [Database, MasterBotToken, TelegramApi, TelegramQueue, AvitoQueue, AutoReplyQueue]);

async fn sweep(app: &'static App, _: Value) -> Result<Value, Error> {
    let bridge::sweep::SweepReport { bots, dialogs, auto_replies } = bridge::sweep::sweep(app).await?;
    let told = owners::tell(app).await?;
    telegram_login::forget_used(app).await?;
    idempotency::forget_old(app).await?;
    tracing::info!(bots, dialogs, auto_replies, told, "swept");
    Ok(json!({ "bots": bots, "dialogs": dialogs, "auto_replies": auto_replies, "told": told }))
}
