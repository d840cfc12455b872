//! Every minute: wakes what rows committed and nobody was woken for.

use lambda_http::Error;
use serde_json::{Value, json};
use tuberry::{App, bridge};

tuberry::schedule!("sweep", sweep, [Database, TelegramQueue, AvitoQueue]);

async fn sweep(app: &'static App, _: Value) -> Result<Value, Error> {
    let swept = bridge::sweep::sweep(app).await?;
    tracing::info!(bots = swept.bots, dialogs = swept.dialogs, "swept");
    Ok(json!({ "bots": swept.bots, "dialogs": swept.dialogs }))
}
