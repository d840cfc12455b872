//! Queue `intake`: records the webhooks that came while Postgres was away, in order within a chat.

use aws_lambda_events::sqs::SqsBatchResponse;
use tuberry::{
    App,
    bridge::{avito_webhook::record_kept, tasks::IntakeTask},
    platform::queue::Batch,
};

tuberry::worker!("record-intake", record, [Database, AutoReplyDelay, TelegramQueue, AutoReplyQueue]);

/// One after the other: in a FIFO queue what stands behind a failure must fail too.
async fn record(app: &'static App, batch: Batch<IntakeTask>) -> SqsBatchResponse {
    batch
        .work_in_order(|task| async move {
            let IntakeTask::V1 { account_id, payload } = task;
            match record_kept(app, account_id, &payload).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(account_id, %error, "a kept webhook could not be recorded");
                    false
                }
            }
        })
        .await
}
