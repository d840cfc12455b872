//! Every five minutes: checks with Avito the webhooks that are due, each once a day, and gives old ones another secret.

use std::time::Instant;

use lambda_http::Error;
use serde_json::{Value, json};
use tuberry::{
    App,
    tenancy::accounts::webhooks::{MAX_CHECK_DURATION, check},
};

tuberry::schedule!("check-webhooks", check_webhooks, [Database, Secrets, AvitoApi, PublicBaseUrl]);

async fn check_webhooks(app: &'static App, _: Value) -> Result<Value, Error> {
    let checked = check(app, Instant::now() + MAX_CHECK_DURATION).await?;
    tracing::info!(checked, "webhooks checked");
    Ok(json!({ "checked": checked }))
}
