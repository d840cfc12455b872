//! SQS: sends typed tasks and reads typed batches. A task only starts work, so its loss or repetition changes nothing.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    time::{Duration, Instant},
};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use aws_sdk_sqs::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    types::SendMessageBatchRequestEntry,
};
use futures_util::{
    FutureExt, StreamExt,
    future::{Either, join_all},
    stream::FuturesUnordered,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::OnceCell;

use super::config::{Config, Variable};

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
/// The time after which an invocation's free slots ask for more tasks. A single short task ends sooner and asks for
/// nothing.
const HELP_AFTER: Duration = Duration::from_millis(500);
/// The time between two such requests.
const HELP_INTERVAL: Duration = Duration::from_millis(100);
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

    /// Sends tasks, ten in one call.
    pub async fn send_many<T: Task>(&self, config: &Config, tasks: &[T], delay: Duration) -> Result<(), QueueError> {
        let delay = i32::try_from(delay.min(MAX_DELAY).as_millis().div_ceil(1000)).unwrap_or_default();
        for chunk in tasks.chunks(CALL_LIMIT) {
            let entries = chunk
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
            let call =
                self.client().await.send_message_batch().queue_url(config.text(T::QUEUE)).set_entries(Some(entries));
            let answer = Box::pin(call.send()).await.map_err(|_| QueueError("the call failed"))?;
            if !answer.failed().is_empty() {
                return Err(QueueError("some messages were refused"));
            }
        }
        Ok(())
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

/// One task of a batch, with the messages that carried it.
pub struct Received<T> {
    /// The task.
    pub task: T,
    /// True if SQS delivers it again: the worker that had it before did not finish it.
    pub again: bool,
    message_ids: Vec<String>,
    /// The message group, within which a FIFO queue keeps the order.
    group: Option<String>,
}

/// A batch as a worker sees it: equal tasks merged, in the order of their first message.
pub struct Batch<T> {
    /// The tasks.
    pub tasks: Vec<Received<T>>,
    /// The moment at which Lambda stops the process.
    pub deadline: Instant,
    unreadable: Vec<String>,
}

impl<T: Task> Batch<T> {
    /// Reads an event. Messages that are no task of this queue go back, and so to the dead-letter queue in the end.
    pub fn read(event: SqsEvent, deadline: Instant) -> Self {
        let mut batch = Self { tasks: Vec::new(), deadline, unreadable: Vec::new() };
        let mut indexes: HashMap<T, usize> = HashMap::new();
        for record in event.records {
            let message_id = record.message_id.unwrap_or_default();
            let again = record.attributes.get("ApproximateReceiveCount").is_some_and(|count| count != "1");
            let Ok(task) = serde_json::from_str::<T>(record.body.as_deref().unwrap_or_default()) else {
                tracing::error!(message_id, "a queue message is no task of this queue");
                batch.unreadable.push(message_id);
                continue;
            };
            let index = *indexes.entry(task.clone()).or_insert_with(|| {
                let group = record.attributes.get("MessageGroupId").cloned();
                batch.tasks.push(Received { task, again: false, message_ids: Vec::new(), group });
                batch.tasks.len() - 1
            });
            batch.tasks[index].again |= again;
            batch.tasks[index].message_ids.push(message_id);
        }
        batch
    }

    /// The moment after which no new work is started: two fifths of the function's time are left then (12 s of 30).
    pub fn stop_at(&self) -> Instant {
        let now = Instant::now();
        now + self.deadline.saturating_duration_since(now).mul_f64(0.6)
    }

    /// Runs all tasks at the same time. `handle` gets a task, and `true` if SQS delivers it again. It returns `true` if
    /// the task is done; otherwise the task goes back.
    pub async fn work<F: Future<Output = bool>>(self, handle: impl Fn(T, bool) -> F) -> SqsBatchResponse {
        let done = join_all(self.tasks.iter().map(|received| handle(received.task.clone(), received.again))).await;
        self.answer(&done)
    }

    /// As [`Batch::work`], but free slots take other tasks meanwhile. An invocation lasts as long as its longest task,
    /// and new messages wait in the queue until there are more processes.
    ///
    /// After 500 ms, free slots ask `more` for that many tasks, every 100 ms until `stop`. At most `max_concurrent`
    /// tasks run at the same time. A task from `more` belongs to no SQS message: if it fails, the sweep finds it. After
    /// a failure no more tasks are taken, because `more` would return the same task again at once.
    pub async fn work_and_help<F, M>(
        self,
        max_concurrent: usize,
        stop: Instant,
        handle: impl Fn(T, bool) -> F,
        more: impl Fn(usize) -> M,
    ) -> SqsBatchResponse
    where
        F: Future<Output = bool>,
        M: Future<Output = Vec<T>>,
    {
        let work =
            |index, task, again| Either::Left(handle(task, again).map(move |is_done| Ended::Task(index, is_done)));
        let mut done = vec![false; self.tasks.len()];
        let mut under_way = FuturesUnordered::new();
        let mut working = self.tasks.len();
        for (index, received) in self.tasks.iter().enumerate() {
            under_way.push(work(Some(index), received.task.clone(), received.again));
        }
        let (mut asking, mut has_failed) = (false, false);
        let mut help_again = tokio::time::interval_at(tokio::time::Instant::now() + HELP_AFTER, HELP_INTERVAL);
        while working > 0 {
            tokio::select! {
                Some(ended) = under_way.next() => match ended {
                    Ended::Task(index, is_done) => {
                        working -= 1;
                        has_failed |= !is_done;
                        if let Some(index) = index {
                            done[index] = is_done;
                        }
                    }
                    Ended::Asking(tasks) => {
                        asking = false;
                        let tasks = if Instant::now() < stop { tasks } else { Vec::new() };
                        working += tasks.len();
                        under_way.extend(tasks.into_iter().map(|task| work(None, task, false)));
                    }
                },
                _ = help_again.tick() => {
                    if !asking && !has_failed && working < max_concurrent && Instant::now() < stop {
                        asking = true;
                        under_way.push(Either::Right(more(max_concurrent - working).map(Ended::Asking)));
                    }
                }
            }
        }
        // Dropping an unfinished `more` would close its Postgres connection and lose the plans cached in that session.
        if asking {
            let _ = tokio::time::timeout_at(stop.into(), under_way.next()).await;
        }
        self.answer(&done)
    }

    /// Runs the tasks of a FIFO queue one after the other. A task that is not done goes back, with all later ones of
    /// its group.
    pub async fn work_in_order<F: Future<Output = bool>>(self, handle: impl Fn(T) -> F) -> SqsBatchResponse {
        let mut done = Vec::with_capacity(self.tasks.len());
        let mut blocked_groups = HashSet::new();
        for received in &self.tasks {
            let is_done = !blocked_groups.contains(&received.group) && handle(received.task.clone()).await;
            if !is_done {
                blocked_groups.insert(&received.group);
            }
            done.push(is_done);
        }
        self.answer(&done)
    }

    /// Returns the messages that go back: those of the tasks for which `done` is `false`, and the unreadable ones.
    fn answer(self, done: &[bool]) -> SqsBatchResponse {
        let failed =
            self.tasks.into_iter().zip(done).filter(|(_, done)| !**done).flat_map(|(task, _)| task.message_ids);
        let mut answer = SqsBatchResponse::default();
        answer.batch_item_failures = failed
            .chain(self.unreadable)
            .map(|message_id| {
                let mut failure = BatchItemFailure::default();
                failure.item_identifier = message_id;
                failure
            })
            .collect();
        answer
    }
}

/// The end of a task, or of a request for more.
enum Ended<T> {
    /// A task, with its index in the batch, and `true` if it is done. None: the task came from `more`.
    Task(Option<usize>, bool),
    /// A call of `more`, with the tasks that it returned.
    Asking(Vec<T>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::sync::Mutex;

    #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(tag = "v")]
    enum Example {
        #[serde(rename = "1")]
        At { id: i64 },
    }

    impl Task for Example {
        const QUEUE: Variable = super::super::config::var::TELEGRAM_QUEUE_URL;
    }

    fn event(bodies: &[(&str, &str, &str)]) -> SqsEvent {
        let records: Vec<_> = bodies
            .iter()
            .map(|(id, body, count)| {
                serde_json::json!({"messageId": id, "body": body, "attributes": {"ApproximateReceiveCount": count},
                    "messageAttributes": {}})
            })
            .collect();
        serde_json::from_value(serde_json::json!({ "Records": records })).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn equal_tasks_of_a_batch_run_once_and_fail_together() {
        let body = r#"{"v":"1","id":7}"#;
        let other = r#"{"v":"1","id":8}"#;
        let batch =
            Batch::<Example>::read(event(&[("a", body, "1"), ("b", other, "1"), ("c", body, "2")]), Instant::now());
        assert_eq!(
            batch.tasks.iter().map(|received| (received.task.clone(), received.again)).collect::<Vec<_>>(),
            [(Example::At { id: 7 }, true), (Example::At { id: 8 }, false)]
        );
        let failed: Vec<_> =
            batch.answer(&[false, true]).batch_item_failures.into_iter().map(|f| f.item_identifier).collect();
        assert_eq!(failed, ["a", "c"]);
    }

    /// Runs two tasks, the first of which lasts until `more` has nothing left. Returns the tasks that ran, and the
    /// messages that went back.
    async fn run_and_help(mut besides: Vec<i64>, stop: Instant) -> (Vec<i64>, Vec<String>) {
        let batch = event(&[("a", r#"{"v":"1","id":1}"#, "1"), ("b", r#"{"v":"1","id":2}"#, "1")]);
        let batch = Batch::<Example>::read(batch, Instant::now());
        let (worked, besides) = (Mutex::new(Vec::new()), Mutex::new(std::mem::take(&mut besides)));
        let nothing_else = tokio::sync::Notify::new();
        let handle = |Example::At { id }, _| {
            let (worked, nothing_else) = (&worked, &nothing_else);
            async move {
                if id == 1 && Instant::now() < stop {
                    nothing_else.notified().await;
                }
                worked.lock().unwrap_or_else(|error| panic!("{error}")).push(id);
                // After a failure, `more` is not called any more.
                if id == 9 {
                    nothing_else.notify_one();
                }
                id < 9
            }
        };
        let more = |most: usize| {
            let mut besides = besides.lock().unwrap_or_else(|error| panic!("{error}"));
            let most = most.min(besides.len());
            if most == 0 {
                nothing_else.notify_one();
            }
            std::future::ready(besides.drain(..most).map(|id| Example::At { id }).collect())
        };
        let answer = batch.work_and_help(3, stop, handle, more).await;
        let back = answer.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect();
        let mut worked = worked.into_inner().unwrap_or_else(|error| panic!("{error}"));
        worked.sort_unstable();
        (worked, back)
    }

    #[tokio::test]
    async fn slots_that_become_free_take_more_tasks_while_others_run() {
        let later = Instant::now() + Duration::from_secs(60);
        let (worked, back) = run_and_help(vec![3, 4, 5, 6, 9], later).await;
        assert_eq!((worked, back), (vec![1, 2, 3, 4, 5, 6, 9], Vec::new()), "tasks from `more` are in no message");
    }

    #[tokio::test]
    async fn no_more_tasks_are_taken_after_the_time_to_stop() {
        let (worked, back) = run_and_help(vec![3, 4], Instant::now()).await;
        assert_eq!((worked, back), (vec![1, 2], Vec::new()));
    }

    /// Dropped half-way, it would close its connection to Postgres and lose the plans cached there.
    #[tokio::test]
    async fn a_request_for_more_tasks_is_awaited_after_the_last_task_and_its_tasks_are_not_started() {
        let batch = event(&[("a", r#"{"v":"1","id":1}"#, "1"), ("b", r#"{"v":"1","id":2}"#, "1")]);
        let batch = Batch::<Example>::read(batch, Instant::now());
        let later = Instant::now() + Duration::from_secs(60);
        let (asked, awaited, worked) = (tokio::sync::Notify::new(), Mutex::new(false), Mutex::new(Vec::new()));
        let handle = |Example::At { id }, _| {
            let (asked, worked) = (&asked, &worked);
            async move {
                if id == 1 {
                    asked.notified().await;
                }
                worked.lock().unwrap_or_else(|error| panic!("{error}")).push(id);
                true
            }
        };
        let more = |_| {
            let (asked, awaited) = (&asked, &awaited);
            async move {
                asked.notify_one();
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                *awaited.lock().unwrap_or_else(|error| panic!("{error}")) = true;
                vec![Example::At { id: 3 }]
            }
        };
        batch.work_and_help(3, later, handle, more).await;
        assert!(awaited.into_inner().unwrap_or_else(|error| panic!("{error}")));
        assert_eq!(worked.into_inner().unwrap_or_else(|error| panic!("{error}")), [2, 1]);
    }

    #[tokio::test]
    async fn slots_that_stay_free_beside_a_long_task_take_more_tasks() {
        let batch = Batch::<Example>::read(event(&[("a", r#"{"v":"1","id":1}"#, "1")]), Instant::now());
        let later = Instant::now() + Duration::from_secs(60);
        let other_is_done = tokio::sync::Notify::new();
        let handle = |Example::At { id }, _| {
            let other_is_done = &other_is_done;
            async move {
                if id == 1 {
                    other_is_done.notified().await;
                } else {
                    other_is_done.notify_one();
                }
                true
            }
        };
        let worked = batch.work_and_help(10, later, handle, |_| std::future::ready(vec![Example::At { id: 2 }]));
        assert!(tokio::time::timeout(Duration::from_secs(20), worked).await.is_ok());
    }

    #[tokio::test]
    async fn a_batch_of_one_short_task_asks_for_no_more_tasks() {
        let batch = Batch::<Example>::read(event(&[("a", r#"{"v":"1","id":1}"#, "1")]), Instant::now());
        let (asked, later) = (Mutex::new(0), Instant::now() + Duration::from_secs(60));
        let more = |_| {
            *asked.lock().unwrap_or_else(|error| panic!("{error}")) += 1;
            std::future::ready(Vec::new())
        };
        batch.work_and_help(10, later, |_, _| std::future::ready(true), more).await;
        assert_eq!(asked.into_inner().unwrap_or_else(|error| panic!("{error}")), 0);
    }

    #[tokio::test]
    async fn a_task_that_is_not_done_holds_up_only_its_own_group() {
        let record = |id: &str, group: &str, number: i64| {
            serde_json::json!({"messageId": id, "body": format!(r#"{{"v":"1","id":{number}}}"#), "messageAttributes": {},
                "attributes": {"ApproximateReceiveCount": "1", "MessageGroupId": group}})
        };
        let records = [record("a", "one", 1), record("b", "other", 2), record("c", "one", 3), record("d", "other", 4)];
        let event = serde_json::from_value(serde_json::json!({ "Records": records })).expect("an event");
        let handled = std::cell::RefCell::new(Vec::new());
        let answer = Batch::<Example>::read(event, Instant::now()).work_in_order(async |Example::At { id }| {
            handled.borrow_mut().push(id);
            id != 1
        });
        let failed: Vec<_> = answer.await.batch_item_failures.into_iter().map(|f| f.item_identifier).collect();
        assert_eq!((failed, handled.into_inner()), (vec!["a".to_owned(), "c".to_owned()], vec![1, 2, 4]));
    }

    #[test]
    fn a_message_that_is_no_task_goes_back() {
        let batch = Batch::<Example>::read(event(&[("a", "nonsense", "1")]), Instant::now());
        let failed: Vec<_> = batch.answer(&[]).batch_item_failures.into_iter().map(|f| f.item_identifier).collect();
        assert_eq!(failed, ["a"]);
    }
}
