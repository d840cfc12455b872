//! The record of every call that the simulators answered: tests assert on it. Only the newest million stay in memory.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Half a gigabyte, and all calls of a run of a hundred thousand messages each way.
const MAX_RECORDED: usize = 1_000_000;

/// The service that a call was addressed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// A download: left out unless it is asked for.
    #[serde(skip)]
    pub(crate) is_file: bool,
}

/// The calls that a reader asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    target: Option<Target>,
    method: Option<String>,
    #[serde(default)]
    since: u64,
    /// True: downloads too.
    #[serde(default)]
    files: bool,
    /// No more than these, the oldest first.
    limit: Option<usize>,
}

impl Wanted {
    fn has(&self, call: &Kept) -> bool {
        self.target.is_none_or(|target| call.target == target)
            && self.method.as_ref().map_or(!call.is_file || self.files, |method| call.method == *method)
    }
}

/// A recorded call: as text, which takes a third of the memory.
struct Kept {
    seq: u64,
    target: Target,
    method: String,
    is_file: bool,
    shown: Box<RawValue>,
}

/// All calls of this run, oldest first.
#[derive(Default)]
pub(crate) struct Calls {
    all: VecDeque<Kept>,
    last: u64,
}

impl Calls {
    /// Records a call once it is answered, so that a reader that pages by `since` never sees an unfinished one.
    pub(crate) fn push(&mut self, mut call: Call) {
        self.last += 1;
        call.seq = self.last;
        call.at = jiff::Timestamp::now().to_string();
        // A call is nothing but texts, numbers and JSON.
        let shown = serde_json::value::to_raw_value(&call).unwrap_or_else(|_| RawValue::NULL.to_owned());
        if self.all.len() == MAX_RECORDED {
            self.all.pop_front();
        }
        let Call { seq, target, method, is_file, .. } = call;
        self.all.push_back(Kept { seq, target, method, is_file, shown });
    }

    /// The wanted calls, and `since` of the next request.
    pub(crate) fn wanted(&self, wanted: &Wanted) -> (Vec<&RawValue>, u64) {
        // They are numbered without gaps.
        let skipped = self.all.front().map_or(0, |first| wanted.since.saturating_sub(first.seq - 1));
        let calls = self.all.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX));
        let calls: Vec<&Kept> =
            calls.filter(|call| wanted.has(call)).take(wanted.limit.unwrap_or(usize::MAX)).collect();
        let is_page = wanted.limit.is_some_and(|limit| calls.len() == limit);
        let next = calls.last().filter(|_| is_page).map_or(self.last, |call| call.seq);
        (calls.into_iter().map(|call| &*call.shown).collect(), next)
    }
}
