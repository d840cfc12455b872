//! Every minute: wakes what rows committed and nobody was woken for, and forgets used sign-ins.

use lambda_http::Error;
use serde_json::{Value, json};
use tuberry::{App, bridge, identity::telegram_login};

tuberry::schedule!("sweep", sweep, [Database, TelegramQueue, AvitoQueue]);

async fn sweep(app: &'static App, _: Value) -> Result<Value, Error> {
    let swept = bridge::sweep::sweep(app).await?;
    telegram_login::forget_used(app).await?;
    tracing::info!(bots = swept.bots, dialogs = swept.dialogs, "swept");
    Ok(json!({ "bots": swept.bots, "dialogs": swept.dialogs }))
}
