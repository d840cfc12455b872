//! Queue `avito`: looks at dialogs and sends what waits in them, side by side.

use aws_lambda_events::sqs::SqsBatchResponse;
use tuberry::{
    App,
    bridge::{
        deliver::{WorkerOutcome, deliver_to_avito},
        tasks::AvitoTask,
    },
    platform::queue::Batch,
};

tuberry::worker!(
    "deliver-to-avito",
    deliver,
    [Database, Cache, Secrets, TelegramApi, AvitoApi, MediaHosts, AvitoQueue, TelegramQueue]
);

/// A dialog that somebody else works for is done here, unless its task comes again: then that somebody may be dead, and
/// the task waits for the lease to end.
async fn deliver(app: &'static App, batch: Batch<AvitoTask>) -> SqsBatchResponse {
    let stop = batch.stop_at();
    batch
        .work(|task, again| async move {
            let AvitoTask::V1 { dialog_id } = task;
            match deliver_to_avito(app, dialog_id, stop).await {
                Ok(WorkerOutcome::Done) => true,
                Ok(WorkerOutcome::LeaseTaken) => !again,
                Err(error) => {
                    tracing::error!(dialog_id, %error, "a dialog could not be looked at");
                    false
                }
            }
        })
        .await
}
