//! Queue `telegram`: claims the work of bots and delivers it to Telegram, several bots at the same time.

use aws_lambda_events::sqs::SqsBatchResponse;
use tuberry::{
    App,
    bridge::{
        queue_tasks::TelegramTask,
        to_telegram::worker::{WorkerOutcome, deliver_to_telegram, due_bots},
    },
    platform::queue::Batch,
};

tuberry::worker!(
    "deliver-to-telegram",
    deliver,
    [Database, Cache, Secrets, TelegramApi, AvitoApi, MediaHosts, TelegramQueue, AvitoQueue]
);

/// The most bots for which one invocation works at the same time: as many as a batch has (`BatchSize` in the template).
const MAX_CONCURRENT_BOTS: usize = 10;

/// Delivers for the bots of a batch. While another worker holds a bot's lease, its task is done: that worker sees the
/// work. A task that SQS delivers again goes back until the lease ends, because that worker may have died.
async fn deliver(app: &'static App, batch: Batch<TelegramTask>) -> SqsBatchResponse {
    let stop = batch.stop_at();
    let work = |task, again: bool| async move {
        let TelegramTask::V1 { bot_id } = task;
        match deliver_to_telegram(app, bot_id, stop).await {
            Ok(WorkerOutcome::Done) => true,
            Ok(WorkerOutcome::LeaseTaken) => !again,
            Err(error) => {
                tracing::error!(bot_id, %error, "a bot's work could not be delivered");
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
