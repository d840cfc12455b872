//! The rate limits of the real service, on request. A group gets 20 messages a minute: edits, renames and new topics
//! count, an album counts its pictures. A bot makes 30 calls a second. A person gets a message a second after a burst.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::error::Refusal;
use super::request::Params;

const GROUP: Window = Window { units: 20, period: Duration::from_mins(1) };
const PERSON: Window = Window { units: 5, period: Duration::from_secs(5) };
const BOT: Window = Window { units: 30, period: Duration::from_secs(1) };

struct Window {
    units: usize,
    period: Duration,
}

/// The calls of the last seconds. The limits are off until a test switches them on.
#[derive(Default)]
pub(crate) struct Limits {
    everywhere: bool,
    only: BTreeSet<i64>,
    chats: BTreeMap<i64, VecDeque<Instant>>,
    bots: BTreeMap<i64, VecDeque<Instant>>,
}

impl Limits {
    /// Switches the limits, everywhere or in one chat. Their counts start anew.
    pub(crate) fn switch(&mut self, on: bool, chat_id: Option<i64>) {
        let Some(chat_id) = chat_id else {
            *self = Self { everywhere: on, ..Self::default() };
            return;
        };
        self.chats.remove(&chat_id);
        if on {
            self.only.insert(chat_id);
        } else {
            self.only.remove(&chat_id);
        }
    }

    /// Makes the calls of a bot and of a chat older.
    pub(crate) fn pass(&mut self, bot: i64, chat: i64, lasts: Duration) {
        for calls in self.bots.get_mut(&bot).into_iter().chain(self.chats.get_mut(&chat)) {
            *calls = calls.iter().filter_map(|at| at.checked_sub(lasts)).collect();
        }
    }

    /// Charges the cost of a call. Refused: 429 with the seconds to wait; such a call costs nothing.
    pub(crate) fn charge(&mut self, bot: i64, method: &str, params: &Params) -> Result<(), Refusal> {
        let cost = cost(method, params);
        let chat = params.values.get("chat_id").and_then(Value::as_i64).unwrap_or_default();
        if cost == 0 || !(self.everywhere || self.only.contains(&chat)) {
            return Ok(());
        }
        let now = Instant::now();
        let of_bot = self.bots.entry(bot).or_default();
        BOT.admit(of_bot, 1, now)?;
        let window = if chat > 0 { &PERSON } else { &GROUP };
        let of_chat = self.chats.entry(chat).or_default();
        window.admit(of_chat, cost, now)?;
        of_bot.push_back(now);
        of_chat.extend(std::iter::repeat_n(now, cost));
        Ok(())
    }
}

impl Window {
    fn admit(&self, spent: &mut VecDeque<Instant>, cost: usize, now: Instant) -> Result<(), Refusal> {
        while spent.front().is_some_and(|at| now - *at >= self.period) {
            spent.pop_front();
        }
        let over = (spent.len() + cost).saturating_sub(self.units);
        if over == 0 {
            return Ok(());
        }
        let freed = spent.get(over - 1).map_or(self.period, |at| self.period.saturating_sub(now - *at));
        let seconds = u32::try_from(freed.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        Err(Refusal::too_many(seconds.max(1)))
    }
}

fn cost(method: &str, params: &Params) -> usize {
    match method {
        "sendMediaGroup" => params.values.get("media").and_then(Value::as_array).map_or(1, Vec::len),
        "sendChatAction" => 0,
        "editMessageText" | "createForumTopic" | "editForumTopic" => 1,
        _ => usize::from(method.starts_with("send")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_twenty_first_message_of_a_minute_to_a_group_has_to_wait() {
        let mut limits = Limits::default();
        limits.switch(true, None);
        let values = json!({ "chat_id": -1_001 });
        let params = Params::of(values.as_object().expect("an object").clone());
        for _ in 0..20 {
            limits.charge(7, "sendMessage", &params).expect("within the limit");
        }
        let refusal = limits.charge(7, "sendMessage", &params).expect_err("over the limit");
        assert_eq!(refusal.code, 429);
        assert!(refusal.retry_after.is_some_and(|seconds| (59..=60).contains(&seconds)));
    }

    #[test]
    fn limits_of_one_chat_leave_others_alone() {
        let mut limits = Limits::default();
        limits.switch(true, Some(-1_001));
        let params = |chat_id: i64| Params::of(json!({ "chat_id": chat_id }).as_object().expect("an object").clone());
        for _ in 0..20 {
            limits.charge(7, "sendMessage", &params(-1_001)).expect("within the limit");
            limits.charge(8, "sendMessage", &params(-1_002)).expect("no limit");
        }
        assert!(limits.charge(7, "sendMessage", &params(-1_001)).is_err());
        limits.charge(8, "sendMessage", &params(-1_002)).expect("no limit");
    }
}
