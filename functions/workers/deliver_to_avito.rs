//! Queue `avito`: claims the work of dialogs and delivers it to Avito, several dialogs at the same time.

use aws_lambda_events::sqs::SqsBatchResponse;
use tuberry::{
    App,
    bridge::{
        queue_tasks::AvitoTask,
        to_avito::worker::{WorkerOutcome, deliver_to_avito},
    },
    platform::queue::Batch,
};

tuberry::worker!(
    "deliver-to-avito",
    deliver,
    [Database, Cache, Secrets, TelegramApi, AvitoApi, MediaHosts, AvitoQueue, TelegramQueue]
);

/// Delivers the dialogs of a batch. While another worker holds a dialog's lease, its task is done: that worker sees the
/// work. A task that SQS delivers again goes back until the lease ends, because that worker may have died.
async fn deliver(app: &'static App, batch: Batch<AvitoTask>) -> SqsBatchResponse {
    let stop = batch.stop_at();
    batch
        .work(|task, again| async move {
            let AvitoTask::V1 { dialog_id } = task;
            match deliver_to_avito(app, dialog_id, stop).await {
                Ok(WorkerOutcome::Done) => true,
                Ok(WorkerOutcome::LeaseTaken) => !again,
                Err(error) => {
                    tracing::error!(dialog_id, %error, "a dialog could not be delivered");
                    false
                }
            }
        })
        .await
}
