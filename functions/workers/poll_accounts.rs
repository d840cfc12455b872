//! Queue `poll`: polls accounts, fifty a task, and records what no webhook reported.

use std::time::Duration;

use aws_lambda_events::sqs::SqsBatchResponse;
use tuberry::{
    App,
    bridge::{ingest::polls::poll, queue_tasks::PollTask},
    platform::queue::Batch,
};

tuberry::worker!(
    "poll-accounts",
    poll_batch,
    [Database, Cache, Secrets, AvitoApi, PollInterval, AutoReplyDelay, TelegramQueue, AutoReplyQueue]
);

/// The part of the function's time that is left for storing which accounts were not polled, and for the answer to SQS.
const TIME_FOR_OUTCOMES: Duration = Duration::from_secs(3);

async fn poll_batch(app: &'static App, batch: Batch<PollTask>) -> SqsBatchResponse {
    let stop = batch.deadline.checked_sub(TIME_FOR_OUTCOMES).unwrap_or(batch.deadline);
    batch
        .work(|task, _| async move {
            match poll(app, &task, stop).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(%error, "accounts could not be polled");
                    false
                }
            }
        })
        .await
}
