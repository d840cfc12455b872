//! Queue `auto-reply`: sends the auto-replies that are due, to buyers who still wait for an answer.

use aws_lambda_events::sqs::SqsBatchResponse;
use tuberry::{
    App,
    bridge::{auto_reply, queue_tasks::AutoReplyTask},
    platform::queue::Batch,
};

tuberry::worker!("send-auto-reply", send, [Database, AvitoQueue]);

async fn send(app: &'static App, batch: Batch<AutoReplyTask>) -> SqsBatchResponse {
    batch
        .work(|task, _again| async move {
            let AutoReplyTask::V1 { dialog_id, scheduled_at } = task;
            match auto_reply::send(app, dialog_id, scheduled_at).await {
                Ok(_) => true,
                Err(error) => {
                    tracing::error!(dialog_id, %error, "an auto-reply could not be sent");
                    false
                }
            }
        })
        .await
}
