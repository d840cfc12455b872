//! Faults on request: the kind of failure, the calls or webhooks that it strikes, and how often. Probabilities are
//! drawn from a seed, so that a failing run can be repeated.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;

use crate::calls::Target;

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Status,
    Latency,
    LateAnswer,
    ResetBefore,
    ResetAfter,
    /// No answer ever; the call has no effect.
    #[serde(alias = "hang")]
    HangBefore,
    /// No answer ever; the call has its effect.
    HangAfter,
    /// The answer comes in small pieces.
    Trickle,
    /// Bytes of the answer are replaced.
    Raw,
    /// Own messages are in no list for a while, and their webhooks are not sent.
    ListLag,
    TopicDeleted,
    TopicClosed,
    Kicked,
    Migrated,
    WebhookWithheld,
    WebhookShuffled,
    TokenExpired,
    BareArray,
    ReactionsLimited,
    RenamesLimited,
}

/// The calls and webhooks that a fault concerns. A field that is None matches all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scope {
    pub(crate) token: Option<String>,
    pub(crate) chat_id: Option<i64>,
    pub(crate) user_id: Option<i64>,
    pub(crate) chat: Option<String>,
    /// The topic, also that of the message or the file that a call names.
    pub(crate) thread_id: Option<i64>,
    #[serde(default, deserialize_with = "number_or_text")]
    pub(crate) message_id: Option<String>,
    /// A part of any text among the parameters: calls such as `createForumTopic` name nothing else.
    pub(crate) contains: Option<String>,
}

fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        _ => Err(D::Error::custom("message_id is a number or a text")),
    }
}

/// A fault as a test requested it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) target: Target,
    pub(crate) method: Option<String>,
    #[serde(default)]
    pub(crate) scope: Scope,
    pub(crate) kind: Kind,
    pub(crate) status: Option<u16>,
    pub(crate) retry_after: Option<u32>,
    pub(crate) body: Option<Value>,
    pub(crate) latency_ms: Option<u64>,
    /// Of `list_lag`; `latency_ms` does as well.
    pub(crate) seconds: Option<u64>,
    /// Of `trickle`.
    pub(crate) bytes_per_second: Option<u64>,
    /// Of `raw`: these bytes of the answer, and the ones in their place, as text or as base64.
    pub(crate) find: Option<String>,
    pub(crate) replace: Option<String>,
    pub(crate) replace_base64: Option<String>,
    pub(crate) thread_id: Option<i64>,
    pub(crate) migrate_to_chat_id: Option<i64>,
    pub(crate) times: Option<u64>,
    pub(crate) probability: Option<f64>,
    pub(crate) seed: Option<u64>,
}

impl Request {
    /// True if the fault changes the world instead of single answers: it concerns a chat or a token, and has neither
    /// `times` nor `probability` nor `method`.
    pub(crate) fn changes_the_world(&self) -> bool {
        let kinds = [Kind::TopicDeleted, Kind::TopicClosed, Kind::Kicked, Kind::Migrated, Kind::TokenExpired];
        let single = self.times.is_some() || self.probability.is_some() || self.method.is_some();
        kinds.contains(&self.kind) && !single
    }
}

/// Methods that a fault strikes only if it names them: files, and the webhooks that the simulators send.
const TO_BE_NAMED: [&str; 3] = ["media", "file", "webhook"];

/// One call or one webhook, to be matched with the faults.
#[derive(Clone, Default)]
pub(crate) struct Subject {
    pub(crate) target: Target,
    pub(crate) method: String,
    pub(crate) token: Option<String>,
    pub(crate) chat_id: Option<i64>,
    /// The thread that the call itself names.
    pub(crate) thread_id: Option<i64>,
    /// The topic in which the call takes effect.
    pub(crate) topic: Option<i64>,
    pub(crate) message_id: Option<String>,
    pub(crate) user_id: Option<i64>,
    pub(crate) chat: Option<String>,
    pub(crate) params: Value,
}

struct Fault {
    id: u64,
    request: Request,
    left: Option<u64>,
    dice: StdRng,
}

/// The active faults.
#[derive(Default)]
pub(crate) struct Faults {
    all: Vec<Fault>,
    last: u64,
}

impl Faults {
    /// Adds a fault and returns its id.
    pub(crate) fn add(&mut self, request: Request) -> u64 {
        self.last += 1;
        let dice = StdRng::seed_from_u64(request.seed.unwrap_or(self.last));
        self.all.push(Fault { id: self.last, left: request.times, request, dice });
        self.last
    }

    /// Removes one fault, or all. Returns their requests, so that the caller can undo their effects.
    pub(crate) fn remove(&mut self, id: Option<u64>) -> Vec<Request> {
        let (removed, remaining) = self.all.drain(..).partition(|fault| id.is_none_or(|id| fault.id == id));
        self.all = remaining;
        let removed: Vec<Fault> = removed;
        removed.into_iter().map(|fault| fault.request).collect()
    }

    /// The first fault of these kinds that strikes now. That uses up one of its `times`.
    pub(crate) fn strike(&mut self, subject: &Subject, kinds: &[Kind]) -> Option<Request> {
        self.strike_if(subject, kinds, |_| true)
    }

    /// The same, of those faults that meet a condition.
    pub(crate) fn strike_if(
        &mut self,
        subject: &Subject,
        kinds: &[Kind],
        is_met: impl Fn(&Request) -> bool,
    ) -> Option<Request> {
        let mut faults = self.all.iter_mut().filter(|fault| is_met(&fault.request));
        let fault = faults.find_map(|fault| fault.strikes(subject, kinds).then_some(fault))?;
        let request = fault.request.clone();
        if let Some(left) = &mut fault.left {
            *left -= 1;
            if *left == 0 {
                let id = fault.id;
                self.all.retain(|fault| fault.id != id);
            }
        }
        Some(request)
    }

    /// True if a fault of these kinds may strike.
    pub(crate) fn may_strike(&self, subject: &Subject, kinds: &[Kind]) -> bool {
        self.all.iter().any(|fault| fault.concerns(subject, kinds))
    }

    /// The time for which an account's own messages are in no list of a chat.
    pub(crate) fn list_lag(&self, user_id: i64, chat: &str) -> Option<Duration> {
        let lags = |request: &&Request| {
            request.kind == Kind::ListLag
                && request.scope.user_id.is_none_or(|id| id == user_id)
                && request.scope.chat.as_deref().is_none_or(|id| id == chat)
        };
        let request = self.all.iter().map(|fault| &fault.request).find(lags)?;
        let seconds = request.seconds.map(Duration::from_secs);
        Some(seconds.unwrap_or_else(|| Duration::from_millis(request.latency_ms.unwrap_or(1000))))
    }
}

/// Waits for the `latency_ms` of a fault, by default one second. Without a fault it does not wait.
pub(crate) async fn pause(fault: Option<Request>) {
    if let Some(fault) = fault {
        tokio::time::sleep(Duration::from_millis(fault.latency_ms.unwrap_or(1000))).await;
    }
}

impl Fault {
    fn strikes(&mut self, subject: &Subject, kinds: &[Kind]) -> bool {
        let probability = self.request.probability;
        self.concerns(subject, kinds) && probability.is_none_or(|probability| self.dice.random::<f64>() < probability)
    }

    fn concerns(&self, subject: &Subject, kinds: &[Kind]) -> bool {
        let Request { target, method, scope, kind, thread_id, .. } = &self.request;
        let is_method = |method: &str| method.eq_ignore_ascii_case(&subject.method);
        kinds.contains(kind)
            && !self.request.changes_the_world()
            && *target == subject.target
            && method.as_deref().map_or(!TO_BE_NAMED.iter().any(|name| is_method(name)), is_method)
            && thread_id.is_none_or(|thread_id| subject.thread_id == Some(thread_id))
            && scope.covers(subject)
    }
}

impl Scope {
    fn covers(&self, subject: &Subject) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, given: Option<&T>) -> bool {
            wanted.is_none_or(|wanted| given == Some(wanted))
        }
        is(self.token.as_ref(), subject.token.as_ref())
            && is(self.chat_id.as_ref(), subject.chat_id.as_ref())
            && is(self.user_id.as_ref(), subject.user_id.as_ref())
            && is(self.chat.as_ref(), subject.chat.as_ref())
            && is(self.thread_id.as_ref(), subject.topic.as_ref())
            && is(self.message_id.as_ref(), subject.message_id.as_ref())
            && self.contains.as_deref().is_none_or(|part| contains(&subject.params, part))
    }
}

/// True if a text within the value has this part.
fn contains(value: &Value, part: &str) -> bool {
    match value {
        Value::String(text) => text.contains(part),
        Value::Array(values) => values.iter().any(|value| contains(value, part)),
        Value::Object(members) => members.values().any(|value| contains(value, part)),
        _ => false,
    }
}
