//! The record of every webhook that the simulators sent; `calls` records the other direction. It has the time that our
//! side took to answer, since Avito waits no more than two seconds.

use std::collections::VecDeque;

use serde::Serialize;

use crate::calls::Target;

const MAX_RECORDED: usize = 100_000;

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
    pub(crate) at: String,
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

    /// The attempts after `since`.
    pub(crate) fn since(&self, since: u64) -> impl Iterator<Item = &Attempt> {
        self.all.iter().filter(move |attempt| attempt.seq > since)
    }

    /// The number of the newest attempt: `since` of the next request.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }
}

impl Attempt {
    /// True if the receiver answered with a 2xx status.
    pub(crate) fn delivered(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}
