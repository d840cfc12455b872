//! A call of a bot or of an account that is out: three different dialogs failed in it one after the other, and none went through
//! between. Then one at a time is tried, and the others wait, so that an outage costs few calls however much waits.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::telegram_budget::{later, time_since};
use crate::platform::endings::{Duty, History, Outcome, Verdict, spread};

/// The number of objects that have to fail in a call, one after the other.
const OBJECTS: usize = 3;

/// The calls of a bot or of an account that fail, as its row stores them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(in crate::bridge) struct Outage {
    /// By the call's method: the ids of the dialogs, or of the posts outside of dialogs, that failed in it, up to three.
    calls: BTreeMap<String, Vec<i64>>,
    /// The time since which a call is out. None: none is.
    since: Option<Timestamp>,
    /// The time of the next trial, of all calls that are out.
    trial_at: Option<Timestamp>,
    /// The trials that failed.
    attempts: u32,
}

/// The rest of an outage after a call went through.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::bridge) struct Recovery {
    /// The calls that still fail.
    pub(in crate::bridge) outage: Outage,
    /// True if the call was out: what waited for it is due at once. What failed alone keeps its own waits.
    pub(in crate::bridge) was_out: bool,
}

impl Outage {
    /// True if one object at a time is tried in this call.
    pub(in crate::bridge) fn is_out(&self, method: &str) -> bool {
        self.calls.get(method).is_some_and(|objects| objects.len() >= OBJECTS)
    }

    /// Returns the time before which this call is not made. None: it may be made now.
    pub(in crate::bridge) fn held_until(&self, method: &str, now: Timestamp) -> Option<Timestamp> {
        self.trial_at.filter(|at| self.is_out(method) && *at > now)
    }

    /// The columns of the row: the calls, null if none fails; the time since which one is out, the time of the next trial, and the
    /// failed trials.
    pub(in crate::bridge) fn columns(self) -> (Option<Value>, Option<Timestamp>, Option<Timestamp>, i32) {
        let Self { calls, since, trial_at, attempts } = self;
        let calls = (!calls.is_empty()).then(|| json!(calls));
        (calls, since, trial_at, i32::try_from(attempts).unwrap_or(i32::MAX))
    }

    /// Notes that an object failed in a call.
    pub(in crate::bridge) fn with_failure(mut self, method: &str, object: i64, now: Timestamp) -> Self {
        let was_out = self.is_out(method);
        let objects = self.calls.entry(method.to_owned()).or_default();
        if !objects.contains(&object) && objects.len() < OBJECTS {
            objects.push(object);
        }
        if self.is_out(method) {
            let since = *self.since.get_or_insert(now);
            self.attempts += u32::from(was_out);
            let history =
                History { attempts: self.attempts, failing_for: time_since(Some(since), now), ..History::default() };
            let wait = match Duty::Trial.after(Outcome::Unknown, history) {
                Verdict::Wait { wait, .. } => spread(wait),
                Verdict::Plainer | Verdict::End => Duration::ZERO,
            };
            self.trial_at = Some(later(now, wait));
        }
        self
    }

    /// Notes that a call went through. None: this one did not fail.
    pub(in crate::bridge) fn with_success(mut self, method: &str) -> Option<Recovery> {
        let was_out = self.is_out(method);
        self.calls.remove(method)?;
        if !self.calls.keys().any(|method| self.is_out(method)) {
            (self.since, self.trial_at, self.attempts) = (None, None, 0);
        }
        Some(Recovery { outage: self, was_out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn a_call_is_out_when_three_objects_failed_in_it_and_none_went_through_between() {
        let two = Outage::default().with_failure("sendMessage", 1, NOW).with_failure("sendMessage", 2, NOW);
        assert_eq!(two.clone().with_failure("sendMessage", 2, NOW).held_until("sendMessage", NOW), None);
        let out = two.clone().with_failure("sendMessage", 3, NOW);
        assert!(out.held_until("sendMessage", NOW).is_some());
        assert_eq!(out.held_until("sendPhoto", NOW), None, "another call");
        assert_eq!(out.with_success("sendMessage"), Some(Recovery { outage: Outage::default(), was_out: true }));
        let between = two.with_success("sendMessage").map(|recovery| (recovery.outage, recovery.was_out));
        assert_eq!(between, Some((Outage::default(), false)), "two that failed alone keep their waits");
        let between = Outage::default();
        assert_eq!(between.with_failure("sendMessage", 3, NOW).held_until("sendMessage", NOW), None);
        assert_eq!(Outage::default().with_success("sendMessage"), None);
    }

    #[test]
    fn trials_become_rarer() {
        let mut outage = (1..=3).fold(Outage::default(), |outage, id| outage.with_failure("sendMessage", id, NOW));
        let mut now = NOW;
        let mut trials = 0;
        while now < later(NOW, Duration::from_secs(3600)) {
            now = outage.held_until("sendMessage", now).unwrap_or(now);
            outage = outage.with_failure("sendMessage", 1, now);
            trials += 1;
        }
        assert!((15..=30).contains(&trials), "{trials}");
    }
}
