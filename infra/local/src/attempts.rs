//! The record of every webhook that the simulators sent; `calls` records the other direction. It has the time that our
//! side took to answer, since Avito waits no more than two seconds.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::calls::Target;

/// A quarter of a gigabyte, and all webhooks of a run of a hundred thousand messages each way.
const MAX_RECORDED: usize = 1_000_000;

/// One attempt to deliver a webhook. `status` is None if no answer came.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Attempt {
    pub(crate) seq: u64,
    pub(crate) target: Target,
    /// The bot's or the account's id.
    pub(crate) receiver: i64,
    pub(crate) chat: String,
    /// The `update_id`, or Avito's message id.
    pub(crate) id: String,
    pub(crate) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<&'static str>,
    pub(crate) duration_ms: u64,
    pub(crate) at: Timestamp,
}

/// The attempts that a reader asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    #[serde(default)]
    since: u64,
    target: Option<Target>,
    receiver: Option<i64>,
    /// No more than these, the oldest first.
    limit: Option<usize>,
}

/// All attempts of this run, oldest first.
#[derive(Default)]
pub(crate) struct Attempts {
    all: VecDeque<Attempt>,
    last: u64,
    /// Avito's webhooks that are being sent. Telegram's are counted in its own state.
    pub(crate) avito_pending: u64,
}

impl Attempts {
    /// Records an attempt when it ends.
    pub(crate) fn push(&mut self, mut attempt: Attempt) {
        self.last += 1;
        attempt.seq = self.last;
        if self.all.len() == MAX_RECORDED {
            self.all.pop_front();
        }
        self.all.push_back(attempt);
    }

    /// The wanted attempts, and `since` of the next request.
    pub(crate) fn wanted(&self, wanted: &Wanted) -> (Vec<&Attempt>, u64) {
        let has = |attempt: &&Attempt| {
            wanted.target.is_none_or(|target| attempt.target == target)
                && wanted.receiver.is_none_or(|receiver| attempt.receiver == receiver)
        };
        // They are numbered without gaps.
        let skipped = self.all.front().map_or(0, |first| wanted.since.saturating_sub(first.seq - 1));
        let attempts = self.all.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX)).filter(has);
        let attempts: Vec<&Attempt> = attempts.take(wanted.limit.unwrap_or(usize::MAX)).collect();
        let is_page = wanted.limit.is_some_and(|limit| attempts.len() == limit);
        let next = attempts.last().filter(|_| is_page).map_or(self.last, |attempt| attempt.seq);
        (attempts, next)
    }

    /// The newest attempt.
    pub(crate) fn newest(&self) -> Option<&Attempt> {
        self.all.back()
    }
}

impl Attempt {
    /// True if the receiver answered with a 2xx status.
    pub(crate) fn delivered(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}
