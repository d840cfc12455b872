//! The batches that a worker gets from SQS: equal tasks merged, run at the same time or in order, and the messages that
//! go back.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use futures_util::{
    FutureExt, StreamExt,
    future::{Either, join_all},
    stream::FuturesUnordered,
};

use super::tasks::Task;

/// The time after which an invocation's free slots ask for more tasks. A single short task ends sooner and asks for
/// nothing.
const HELP_AFTER: Duration = Duration::from_millis(500);
/// The time between two such requests.
const HELP_INTERVAL: Duration = Duration::from_millis(100);

/// One task of a batch, with the messages that carried it.
pub struct Received<T> {
    /// The task.
    pub task: T,
    /// The number of times that SQS has delivered it, this one included.
    pub receipts: u32,
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

impl<T> Received<T> {
    /// True if SQS delivers it again: the worker that had it before did not finish it.
    pub fn is_again(&self) -> bool {
        self.receipts > 1
    }
}

impl<T: Task> Batch<T> {
    /// Reads an event. Messages that are no task of this queue go back, and so to the dead-letter queue in the end.
    pub fn read(event: SqsEvent, deadline: Instant) -> Self {
        let mut batch = Self { tasks: Vec::new(), deadline, unreadable: Vec::new() };
        let mut indexes: HashMap<T, usize> = HashMap::new();
        for record in event.records {
            let message_id = record.message_id.unwrap_or_default();
            let receipts =
                record.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok()).unwrap_or(1);
            let Ok(task) = serde_json::from_str::<T>(record.body.as_deref().unwrap_or_default()) else {
                tracing::error!(message_id, "a queue message is no task of this queue");
                batch.unreadable.push(message_id);
                continue;
            };
            let index = *indexes.entry(task.clone()).or_insert_with(|| {
                let group = record.attributes.get("MessageGroupId").cloned();
                batch.tasks.push(Received { task, receipts, message_ids: Vec::new(), group });
                batch.tasks.len() - 1
            });
            batch.tasks[index].receipts = batch.tasks[index].receipts.max(receipts);
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
        let done = join_all(self.tasks.iter().map(|received| handle(received.task.clone(), received.is_again()))).await;
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
            under_way.push(work(Some(index), received.task.clone(), received.is_again()));
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

    /// Runs the tasks of a FIFO queue one after the other. `handle` gets a task, and how often SQS has delivered it. A task that is
    /// not done goes back, with all later ones of its group.
    pub async fn work_in_order<F: Future<Output = bool>>(self, handle: impl Fn(T, u32) -> F) -> SqsBatchResponse {
        let mut done = Vec::with_capacity(self.tasks.len());
        let mut blocked_groups = HashSet::new();
        for received in &self.tasks {
            let is_done =
                !blocked_groups.contains(&received.group) && handle(received.task.clone(), received.receipts).await;
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
mod tests;
