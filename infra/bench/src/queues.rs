//! SQS as far as the functions use it: `SendMessage`, `SendMessageBatch` and `GetQueueAttributes` of its JSON protocol.
//! The bench is Lambda and SQS at once: a task goes into the inbox of the function that consumes the queue, after its
//! delay. An emulator's own time would be part of every figure.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::Outcome;
use crate::plan::Starts;
use crate::runtime::Function;
use crate::server::{self, Answer, Call};

/// All queues, by name. A queue without a consumer drops its tasks.
pub(crate) struct Queues {
    state: Arc<State>,
    /// Its address, before the name of a queue.
    pub(crate) base: String,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct State {
    consumers: Mutex<HashMap<String, Arc<Function>>>,
    /// Delayed tasks of an earlier round are not delivered any more.
    round: AtomicU64,
    requests: AtomicU64,
    tasks: AtomicU64,
}

impl Queues {
    pub(crate) async fn start() -> Outcome<Self> {
        let state = Arc::<State>::default();
        let serving = Arc::clone(&state);
        let (address, server) = server::listen(move |call| {
            let answer = serving.answer(&call);
            async move { answer }
        })
        .await?;
        Ok(Self { state, base: format!("http://{address}"), _server: server })
    }

    /// Has a function consume its queue from now on.
    pub(crate) fn attach(&self, function: &Arc<Function>) {
        if let Starts::Queue { queue, .. } = &function.described.starts {
            self.state.consumers().insert(queue.clone(), Arc::clone(function));
        }
    }

    /// Forgets consumers and delayed tasks.
    pub(crate) fn detach_all(&self) {
        self.state.round.fetch_add(1, Ordering::SeqCst);
        self.state.consumers().clear();
    }

    /// The number of requests so far, and of the tasks in them.
    pub(crate) fn counted(&self) -> (u64, u64) {
        (self.state.requests.load(Ordering::SeqCst), self.state.tasks.load(Ordering::SeqCst))
    }
}

impl State {
    fn consumers(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Function>>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(self: &Arc<Self>, call: &Call) -> Answer {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let target = call.headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Ok(request) = serde_json::from_slice::<Value>(&call.body) else {
            return server::empty(StatusCode::BAD_REQUEST);
        };
        let queue = request["QueueUrl"].as_str().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
        // The digests of bodies are left empty: the client does not compare them.
        let answer = match target.rsplit('.').next().unwrap_or_default() {
            "SendMessage" => {
                self.take(queue, &request);
                json!({ "MessageId": "m", "MD5OfMessageBody": "" })
            }
            "SendMessageBatch" => {
                let entries = request["Entries"].as_array().cloned().unwrap_or_default();
                for entry in &entries {
                    self.take(queue, entry);
                }
                let taken = |entry: &Value| json!({ "Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "" });
                json!({ "Successful": entries.iter().map(taken).collect::<Vec<_>>(), "Failed": [] })
            }
            "GetQueueAttributes" => json!({ "Attributes": {} }),
            _ => return server::empty(StatusCode::BAD_REQUEST),
        };
        server::body("application/x-amz-json-1.0", answer.to_string())
    }

    fn take(self: &Arc<Self>, queue: &str, entry: &Value) {
        self.tasks.fetch_add(1, Ordering::SeqCst);
        let body = entry["MessageBody"].as_str().unwrap_or_default().to_owned();
        let Some(consumer) = self.consumers().get(queue).cloned() else { return };
        let delay = Duration::from_secs(entry["DelaySeconds"].as_u64().unwrap_or_default());
        if delay.is_zero() {
            consumer.task(body);
            return;
        }
        let (state, round) = (Arc::clone(self), self.round.load(Ordering::SeqCst));
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            if state.round.load(Ordering::SeqCst) == round {
                consumer.task(body);
            }
        });
    }
}
