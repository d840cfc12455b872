//! Sends typed tasks to SQS.

use std::{hash::Hash, time::Duration};

use aws_sdk_sqs::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    types::SendMessageBatchRequestEntry,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::OnceCell;

use crate::platform::config::{Config, Variable};

/// A queue's message: a small versioned enum of ids. An environment variable names its queue.
pub trait Task: Serialize + DeserializeOwned + Clone + Eq + Hash + Send + Sync + 'static {
    /// The variable with the queue's address.
    const QUEUE: Variable;
}

/// SQS did not take the task.
#[derive(Debug, thiserror::Error)]
#[error("SQS did not take the task: {0}")]
pub struct QueueError(&'static str);

/// The longest delay of a message (SQS).
pub const MAX_DELAY: Duration = Duration::from_secs(900);
/// The most messages of one call (SQS).
const CALL_LIMIT: usize = 10;
/// The sender of a webhook waits 2 s in all, so a call to SQS may take only a part of that.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);
const CALL_TIMEOUT: Duration = Duration::from_millis(800);

/// The process's SQS client, made on first use.
#[derive(Default)]
pub struct Queue {
    client: OnceCell<Client>,
}

impl Queue {
    async fn client(&self) -> &Client {
        let open = || async {
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(ATTEMPT_TIMEOUT)
                .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                .operation_timeout(CALL_TIMEOUT)
                .build();
            let shared = aws_config::defaults(aws_config::BehaviorVersion::latest())
                .timeout_config(timeouts)
                .retry_config(
                    RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(50)),
                )
                .load()
                .await;
            Client::new(&shared)
        };
        self.client.get_or_init(open).await
    }

    /// Sends one task, which SQS delivers after `delay` (at most [`MAX_DELAY`]).
    pub async fn send<T: Task>(&self, config: &Config, task: &T, delay: Duration) -> Result<(), QueueError> {
        self.send_many(config, std::slice::from_ref(task), delay).await
    }

    /// Sends tasks, ten in one call. After a call that failed, the others are made all the same; the first error is returned.
    pub async fn send_many<T: Task>(&self, config: &Config, tasks: &[T], delay: Duration) -> Result<(), QueueError> {
        let delay = i32::try_from(delay.min(MAX_DELAY).as_millis().div_ceil(1000)).unwrap_or_default();
        let mut outcome = Ok(());
        for chunk in tasks.chunks(CALL_LIMIT) {
            outcome = outcome.and(self.send_chunk(config, chunk, delay).await);
        }
        outcome
    }

    /// Sends at most [`CALL_LIMIT`] tasks in one call. `delay` is in seconds.
    async fn send_chunk<T: Task>(&self, config: &Config, tasks: &[T], delay: i32) -> Result<(), QueueError> {
        let entries = tasks
            .iter()
            .enumerate()
            .map(|(index, task)| {
                SendMessageBatchRequestEntry::builder()
                    .id(index.to_string())
                    .message_body(body(task)?)
                    .delay_seconds(delay)
                    .build()
                    .map_err(|_| QueueError("a request is incomplete"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let call = self.client().await.send_message_batch().queue_url(config.text(T::QUEUE)).set_entries(Some(entries));
        let answer = Box::pin(call.send()).await.map_err(|_| QueueError("the call failed"))?;
        if answer.failed().is_empty() { Ok(()) } else { Err(QueueError("some messages were refused")) }
    }

    /// Sends one task to a FIFO queue: in order within `group`, once per `deduplication` within five minutes.
    pub async fn send_in_order<T: Task>(
        &self,
        config: &Config,
        task: &T,
        group: &str,
        deduplication: &str,
    ) -> Result<(), QueueError> {
        let call = self.client().await.send_message().queue_url(config.text(T::QUEUE)).message_body(body(task)?);
        let call = call.message_group_id(group).message_deduplication_id(deduplication);
        Box::pin(call.send()).await.map(|_| ()).map_err(|_| QueueError("the call failed"))
    }

    /// Checks that the queue of this variable answers.
    pub async fn ping(&self, config: &Config, queue: Variable) -> Result<(), QueueError> {
        let call = self.client().await.get_queue_attributes().queue_url(config.text(queue));
        Box::pin(call.send()).await.map(|_| ()).map_err(|_| QueueError("the call failed"))
    }
}

fn body<T: Task>(task: &T) -> Result<String, QueueError> {
    serde_json::to_string(task).map_err(|_| QueueError("the task cannot be written as JSON"))
}
