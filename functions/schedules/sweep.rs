//! Every minute: measures the state of the whole for the alarms, wakes the bots, dialogs and auto-replies whose wake-up was
//! lost, goes on with relocations, notifies owners of failures, and deletes used sign-ins and old idempotency keys.

use lambda_http::Error;
use serde_json::{Value, json};
use tuberry::{
    App, bridge,
    identity::{owners, ways::login_widget},
    tenancy::idempotency,
};

tuberry::schedule!("sweep", sweep, [Database, MasterBotToken, TelegramApi, TelegramQueue, AvitoQueue, AutoReplyQueue]);

async fn sweep(app: &'static App, _: Value) -> Result<Value, Error> {
    // First: the gauges show what waits, and the sweep wakes it.
    bridge::sweep::read_gauges(app.db()).await?.record();
    let bridge::sweep::SweepReport { bots, dialogs, auto_replies } = bridge::sweep::sweep(app).await?;
    bridge::api::relocation::finish_relocations(app).await?;
    let notified = owners::send_notices(app).await?;
    login_widget::forget_used(app).await?;
    idempotency::forget_old(app).await?;
    tracing::info!(bots, dialogs, auto_replies, told = notified, "swept");
    Ok(json!({ "bots": bots, "dialogs": dialogs, "auto_replies": auto_replies, "told": notified }))
}
