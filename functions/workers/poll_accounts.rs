//! Queue `poll`: asks Avito about accounts, fifty a task, and records what no webhook told.

use aws_lambda_events::sqs::SqsBatchResponse;
use tuberry::{
    App,
    bridge::{polls::poll, tasks::PollTask},
    platform::queue::Batch,
};

tuberry::worker!(
    "poll-accounts",
    poll_batch,
    [Database, Cache, Secrets, AvitoApi, PollInterval, AutoReplyDelay, TelegramQueue, AutoReplyQueue]
);

async fn poll_batch(app: &'static App, batch: Batch<PollTask>) -> SqsBatchResponse {
    batch
        .work(|task, _| async move {
            match poll(app, &task).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(%error, "accounts could not be looked at");
                    false
                }
            }
        })
        .await
}
