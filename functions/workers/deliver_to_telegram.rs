//! Queue `telegram`: looks at bots and posts what waits for them, side by side.

use aws_lambda_events::sqs::SqsBatchResponse;
use tuberry::{
    App,
    bridge::{
        drain::{WorkerOutcome, deliver_to_telegram, due_bots},
        tasks::TelegramTask,
    },
    platform::queue::Batch,
};

tuberry::worker!(
    "deliver-to-telegram",
    deliver,
    [Database, Cache, Secrets, TelegramApi, AvitoApi, MediaHosts, TelegramQueue]
);

/// Bots that one invocation works for at the same time: as many as a batch holds (`BatchSize` in the template).
const MAX_CONCURRENT_BOTS: usize = 10;

/// A bot that somebody else works for is done here, unless its task comes again: then that somebody may be dead, and the
/// task waits for the lease to end.
async fn deliver(app: &'static App, batch: Batch<TelegramTask>) -> SqsBatchResponse {
    let stop = batch.stop_at();
    let work = |task, again: bool| async move {
        let TelegramTask::V1 { bot_id } = task;
        match deliver_to_telegram(app, bot_id, stop).await {
            Ok(WorkerOutcome::Done) => true,
            Ok(WorkerOutcome::LeaseTaken) => !again,
            Err(error) => {
                tracing::error!(bot_id, %error, "a bot could not be looked at");
                false
            }
        }
    };
    let more = |most| async move {
        let due = due_bots(app, most).await;
        due.unwrap_or_default().into_iter().map(|bot_id| TelegramTask::V1 { bot_id }).collect()
    };
    batch.work_and_help(MAX_CONCURRENT_BOTS, stop, work, more).await
}
