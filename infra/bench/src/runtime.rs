//! Lambda's Runtime API (docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html) around the processes of one function:
//! each asks for its next event and is given one at a time; tasks of a queue come in batches, as Lambda hands them
//! over.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::Outcome;
use crate::events;
use crate::plan::{Described, Starts};
use crate::server::{self, Answer, Call};

/// The result of an invocation.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The function's answer; `Err`: it failed.
    pub(crate) body: Result<Value, String>,
    /// From handing the event over to having the answer.
    pub(crate) took: Duration,
}

/// An event or a task that waits for a process of the function.
enum Waiting {
    Event { body: String, reply: oneshot::Sender<Answered> },
    Task(String),
}

/// An invocation that is under way.
struct UnderWay {
    since: Instant,
    reply: Option<oneshot::Sender<Answered>>,
    tasks: usize,
}

/// A function: its inbox, and the times of its invocations.
pub(crate) struct Function {
    pub(crate) described: Described,
    inbox: Mutex<VecDeque<Waiting>>,
    arrived: Semaphore,
    under_way: Mutex<HashMap<u64, UnderWay>>,
    busy: AtomicUsize,
    last_id: AtomicU64,
    took: Mutex<Vec<Duration>>,
    returned: AtomicUsize,
}

/// Locks a mutex. No code panics under one of these locks; after a panic the figures would be void anyway.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Function {
    pub(crate) fn new(described: Described) -> Arc<Self> {
        Arc::new(Self {
            described,
            inbox: Mutex::default(),
            arrived: Semaphore::new(0),
            under_way: Mutex::default(),
            busy: AtomicUsize::new(0),
            last_id: AtomicU64::new(0),
            took: Mutex::default(),
            returned: AtomicUsize::new(0),
        })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.described.name
    }

    /// Hands an event over and waits for the answer.
    pub(crate) async fn invoke(&self, event: &Value) -> Outcome<Answered> {
        let (reply, answer) = oneshot::channel();
        self.put(Waiting::Event { body: event.to_string(), reply });
        let limit = Duration::from_secs(self.described.timeout_s) + Duration::from_secs(5);
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(format!("{} did not answer; see its log.", self.name()).into()),
        }
    }

    /// Puts a task of its queue into its inbox.
    pub(crate) fn task(&self, body: String) {
        self.put(Waiting::Task(body));
    }

    fn put(&self, waiting: Waiting) {
        locked(&self.inbox).push_back(waiting);
        self.arrived.add_permits(1);
    }

    /// True if nothing waits for it and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        let inbox = locked(&self.inbox);
        inbox.is_empty() && self.busy.load(Ordering::SeqCst) == 0
    }

    /// Takes the times of its invocations since the last call.
    pub(crate) fn take_times(&self) -> Vec<Duration> {
        std::mem::take(&mut *locked(&self.took))
    }

    /// The number of tasks that it returned as failed. They are not delivered again: without faults that is not needed.
    pub(crate) fn returned(&self) -> usize {
        self.returned.load(Ordering::SeqCst)
    }

    /// Serves the Runtime API of one process. The receiver gets the time of its first request for an event.
    pub(crate) async fn serve(self: &Arc<Self>) -> Outcome<(SocketAddr, JoinSet<()>, oneshot::Receiver<Instant>)> {
        let (ready, is_ready) = oneshot::channel();
        let (function, ready) = (Arc::clone(self), Arc::new(Mutex::new(Some(ready))));
        let (address, server) = server::listen(move |call| {
            let now = Instant::now();
            let (function, ready) = (Arc::clone(&function), Arc::clone(&ready));
            async move {
                if call.method == Method::GET
                    && let Some(ready) = locked(&ready).take()
                {
                    let _ = ready.send(now);
                }
                function.answer(&call, now).await
            }
        })
        .await?;
        Ok((address, server, is_ready))
    }

    async fn answer(&self, call: &Call, now: Instant) -> Answer {
        match call.path.trim_start_matches("/2018-06-01/runtime/").split('/').collect::<Vec<_>>().as_slice() {
            ["invocation", "next"] => self.next().await,
            ["invocation", id, "response"] => {
                self.ended(id, serde_json::from_slice(&call.body).unwrap_or_default(), now)
            }
            ["invocation", id, "error"] => self.failed(id, &String::from_utf8_lossy(&call.body), now),
            _ => server::empty(StatusCode::ACCEPTED),
        }
    }

    async fn next(&self) -> Answer {
        let Ok(arrived) = self.arrived.acquire().await else { return server::empty(StatusCode::GONE) };
        arrived.forget();
        let (body, reply, tasks) = {
            let mut inbox = locked(&self.inbox);
            self.busy.fetch_add(1, Ordering::SeqCst);
            match inbox.pop_front() {
                Some(Waiting::Event { body, reply }) => (body, Some(reply), Vec::new()),
                Some(Waiting::Task(first)) => {
                    let tasks = self.batch(first, &mut inbox);
                    (events::of_queue(&tasks).to_string(), None, tasks)
                }
                None => (String::new(), None, Vec::new()),
            }
        };
        let id = self.last_id.fetch_add(1, Ordering::SeqCst);
        let deadline = SystemTime::now() + Duration::from_secs(self.described.timeout_s);
        let deadline = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut answer = server::body("application/json", body);
        for (name, value) in [
            ("lambda-runtime-aws-request-id", id.to_string()),
            ("lambda-runtime-deadline-ms", deadline.to_string()),
            ("lambda-runtime-invoked-function-arn", format!("arn:aws:lambda:us-east-1:0:function:{}", self.name())),
            ("lambda-runtime-trace-id", "Root=1-0-0;Parent=0;Sampled=0".to_owned()),
        ] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                answer.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        locked(&self.under_way).insert(id, UnderWay { since: Instant::now(), reply, tasks: tasks.len() });
        answer
    }

    /// The tasks that go with the first, as many as a batch holds.
    fn batch(&self, first: String, inbox: &mut VecDeque<Waiting>) -> Vec<String> {
        let Starts::Queue { batch, .. } = self.described.starts else { return vec![first] };
        let mut tasks = vec![first];
        while tasks.len() < batch && matches!(inbox.front(), Some(Waiting::Task(_))) {
            let Ok(arrived) = self.arrived.try_acquire() else { break };
            arrived.forget();
            if let Some(Waiting::Task(task)) = inbox.pop_front() {
                tasks.push(task);
            }
        }
        tasks
    }

    fn ended(&self, id: &str, body: Value, now: Instant) -> Answer {
        let failures = body["batchItemFailures"].as_array().cloned().unwrap_or_default();
        let is_returned =
            |index: usize| failures.iter().any(|failure| failure["itemIdentifier"] == events::message_id(index));
        self.end(id, Ok(body), now, is_returned)
    }

    fn failed(&self, id: &str, why: &str, now: Instant) -> Answer {
        self.end(id, Err(why.to_owned()), now, |_| true)
    }

    fn end(&self, id: &str, body: Result<Value, String>, now: Instant, is_returned: impl Fn(usize) -> bool) -> Answer {
        let under_way = id.parse().ok().and_then(|id| locked(&self.under_way).remove(&id));
        let Some(under_way) = under_way else { return server::empty(StatusCode::NOT_FOUND) };
        let took = now - under_way.since;
        locked(&self.took).push(took);
        let returned = (0..under_way.tasks).filter(|index| is_returned(*index)).count();
        self.returned.fetch_add(returned, Ordering::SeqCst);
        if let Some(reply) = under_way.reply {
            let _ = reply.send(Answered { body, took });
        }
        self.busy.fetch_sub(1, Ordering::SeqCst);
        server::empty(StatusCode::ACCEPTED)
    }
}
