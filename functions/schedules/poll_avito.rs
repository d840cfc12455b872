//! Every minute: enqueues the polls of the coming minute, also for accounts of which a webhook could not be stored.

use lambda_http::Error;
use serde_json::{Value, json};
use tuberry::{App, bridge::ingest::polls::schedule};

tuberry::schedule!("poll-avito", enqueue, [Database, Cache, PollQueue, PollInterval]);

async fn enqueue(app: &'static App, _: Value) -> Result<Value, Error> {
    let tasks = schedule(app).await?;
    tracing::info!(tasks, "polls enqueued");
    Ok(json!({ "tasks": tasks }))
}
