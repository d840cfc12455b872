//! Queue `intake`: records the webhooks that came while Postgres was away, in order within a chat.

use std::time::Duration;

use aws_lambda_events::sqs::SqsBatchResponse;
use tuberry::{
    App,
    bridge::{avito_webhook::record_from_intake, tasks::IntakeTask},
    platform::queue::Batch,
};

tuberry::worker!("record-intake", record, [Database, AutoReplyDelay, TelegramQueue, AutoReplyQueue]);

/// What is left of the function's time for giving back what could not be recorded.
const GIVING_BACK: Duration = Duration::from_secs(2);

/// One after the other: in a FIFO queue what stands behind a failure must fail too.
async fn record(app: &'static App, batch: Batch<IntakeTask>) -> SqsBatchResponse {
    let deadline = batch.deadline.checked_sub(GIVING_BACK).unwrap_or(batch.deadline);
    batch
        .work_in_order(|task| async move {
            let IntakeTask::V1 { account_id, payload } = task;
            match record_from_intake(app, account_id, &payload, deadline).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(account_id, %error, "a kept webhook could not be recorded");
                    false
                }
            }
        })
        .await
}
