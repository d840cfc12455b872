//! Queue `intake`: records the webhooks that came while Postgres was away, in order within a chat.

use std::time::Duration;

use aws_lambda_events::sqs::SqsBatchResponse;
use tuberry::{
    App,
    bridge::{ingest::intake::record_from_intake, queue_tasks::IntakeTask},
    platform::queue::Batch,
};

tuberry::worker!("record-intake", record, [Database, AutoReplyDelay, TelegramQueue, AutoReplyQueue, IntakeDeadLetters]);

/// The part of the function's time that is left for returning the tasks that could not be recorded.
const TIME_FOR_OUTCOMES: Duration = Duration::from_secs(2);

/// Records one task after the other: in a FIFO queue, the tasks of a chat behind a failed one must fail too.
async fn record(app: &'static App, batch: Batch<IntakeTask>) -> SqsBatchResponse {
    let deadline = batch.deadline.checked_sub(TIME_FOR_OUTCOMES).unwrap_or(batch.deadline);
    batch
        .work_in_order(|task, receipt| async move {
            let IntakeTask::V1 { account_id, .. } = &task;
            match record_from_intake(app, &task, receipt, deadline).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(account_id, %error, receipt, "a buffered webhook could not be recorded");
                    false
                }
            }
        })
        .await
}
