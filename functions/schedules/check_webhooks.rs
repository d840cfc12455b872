//! Every five minutes: asks Avito about the webhooks whose time of the day it is, and gives old ones another secret.

use std::time::Instant;

use lambda_http::Error;
use serde_json::{Value, json};
use tuberry::{
    App,
    tenancy::account_webhooks::{MAX_CHECK_DURATION, check},
};

tuberry::schedule!("check-webhooks", check_webhooks, [Database, Secrets, AvitoApi, PublicBaseUrl]);

async fn check_webhooks(app: &'static App, _: Value) -> Result<Value, Error> {
    let checked = check(app, Instant::now() + MAX_CHECK_DURATION).await?;
    tracing::info!(checked, "webhooks looked after");
    Ok(json!({ "checked": checked }))
}
