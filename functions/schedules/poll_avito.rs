//! Every minute: enqueues the polls of the minute to come.

use lambda_http::Error;
use serde_json::{Value, json};
use tuberry::{App, bridge::polls::schedule};

tuberry::schedule!("poll-avito", enqueue, [Database, PollQueue, PollInterval]);

async fn enqueue(app: &'static App, _: Value) -> Result<Value, Error> {
    let tasks = schedule(app).await?;
    tracing::info!(tasks, "polls enqueued");
    Ok(json!({ "tasks": tasks }))
}
