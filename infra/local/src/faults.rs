//! Faults on request: the kind of failure, the calls or webhooks that it strikes, and how often. Probabilities are
//! drawn from a seed, so that a failing run can be repeated.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
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

/// One call or one webhook, to be matched with the faults.
#[derive(Default)]
pub(crate) struct Subject<'a> {
    pub(crate) target: Target,
    pub(crate) method: &'a str,
    pub(crate) token: Option<&'a str>,
    pub(crate) chat_id: Option<i64>,
    pub(crate) thread_id: Option<i64>,
    pub(crate) user_id: Option<i64>,
    pub(crate) chat: Option<&'a str>,
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
    pub(crate) fn strike(&mut self, subject: &Subject<'_>, kinds: &[Kind]) -> Option<Request> {
        let fault = self.all.iter_mut().find_map(|fault| fault.strikes(subject, kinds).then_some(fault))?;
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
}

/// Waits for the `latency_ms` of a fault, by default one second. Without a fault it does not wait.
pub(crate) async fn pause(fault: Option<Request>) {
    if let Some(fault) = fault {
        tokio::time::sleep(Duration::from_millis(fault.latency_ms.unwrap_or(1000))).await;
    }
}

impl Fault {
    fn strikes(&mut self, subject: &Subject<'_>, kinds: &[Kind]) -> bool {
        let Request { target, method, scope, kind, thread_id, probability, .. } = &self.request;
        let concerned = kinds.contains(kind)
            && !self.request.changes_the_world()
            && *target == subject.target
            && method.as_deref().is_none_or(|method| method.eq_ignore_ascii_case(subject.method))
            && scope.token.as_deref().is_none_or(|token| subject.token == Some(token))
            && scope.chat_id.is_none_or(|chat_id| subject.chat_id == Some(chat_id))
            && scope.user_id.is_none_or(|user_id| subject.user_id == Some(user_id))
            && scope.chat.as_deref().is_none_or(|chat| subject.chat == Some(chat))
            && thread_id.is_none_or(|thread_id| subject.thread_id == Some(thread_id));
        concerned && probability.is_none_or(|probability| self.dice.random::<f64>() < probability)
    }
}
