//! The record of every call that the simulators answered: tests assert on it. Only the newest hundred thousand stay in
//! memory.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::Value;

const MAX_RECORDED: usize = 100_000;

/// The service that a call was addressed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Target {
    /// The Bot API.
    #[default]
    Telegram,
    /// Avito.
    Avito,
}

/// One answered call. `status` 0: the connection was closed instead of an answer.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Call {
    pub(crate) seq: u64,
    pub(crate) target: Target,
    pub(crate) method: String,
    pub(crate) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chat_id: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chat: Option<String>,
    pub(crate) params: Value,
    pub(crate) status: u16,
    /// Seconds to wait, by the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<u32>,
    pub(crate) at: String,
}

/// All calls of this run, oldest first.
#[derive(Default)]
pub(crate) struct Calls {
    all: VecDeque<Call>,
    last: u64,
}

impl Calls {
    /// Records a call once it is answered, so that a reader that pages by `since` never sees an unfinished one.
    pub(crate) fn push(&mut self, mut call: Call) {
        self.last += 1;
        call.seq = self.last;
        call.at = jiff::Timestamp::now().to_string();
        if self.all.len() == MAX_RECORDED {
            self.all.pop_front();
        }
        self.all.push_back(call);
    }

    /// The calls after `since`, and `since` of the next request.
    pub(crate) fn since(&self, since: u64, target: Option<Target>, method: Option<&str>) -> (Vec<&Call>, u64) {
        let calls = self.all.iter().filter(|call| {
            call.seq > since
                && target.is_none_or(|target| call.target == target)
                && method.is_none_or(|method| call.method == method)
        });
        (calls.collect(), self.last)
    }
}
