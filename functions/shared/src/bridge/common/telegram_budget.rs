//! The budget of a bot for Telegram: all topics of a group share twenty messages a minute. It is a sliding window: no sixty seconds
//! hold more. The times of the last messages are stored in the bot's outbox, so a flushed Redis loses nothing.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

/// Messages a minute into one group (core.telegram.org/bots/faq, "My bot is hitting limits").
pub const PER_MINUTE: usize = 20;
/// The window, milliseconds: a minute, and a second more for calls that take longer than others.
const WINDOW: i64 = 61_000;

/// The times of the messages that were sent lately, in milliseconds since 1970, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct TelegramBudget(Vec<i64>);

impl TelegramBudget {
    /// The times of the messages that count at `now`.
    fn counted(&self, now: Timestamp) -> &[i64] {
        let start = now.as_millisecond() - WINDOW;
        let expired = self.0.iter().take_while(|sent| **sent <= start).count();
        &self.0[expired..]
    }

    /// True if at least half of the minute is left: posts that only decorate may go then.
    pub fn is_half_free(&self, now: Timestamp) -> bool {
        self.counted(now).len() <= PER_MINUTE / 2
    }

    /// Takes `cost` messages. Error: the wait until they may be sent. A cost above a minute's messages needs a whole free minute.
    pub fn take(&self, cost: u32, now: Timestamp) -> Result<Self, Duration> {
        let counted = self.counted(now);
        let cost = usize::try_from(cost).unwrap_or(usize::MAX).min(PER_MINUTE);
        let missing = (counted.len() + cost).saturating_sub(PER_MINUTE);
        if missing == 0 {
            let mut times = counted.to_vec();
            times.extend(std::iter::repeat_n(now.as_millisecond(), cost));
            return Ok(Self(times));
        }
        let free_at = counted[missing - 1] + WINDOW;
        Err(Duration::from_millis(free_at.saturating_sub(now.as_millisecond()).max(1).unsigned_abs()))
    }

    /// Returns the budget after Telegram's order to wait: one message at `until`, and another every three seconds.
    pub fn emptied(until: Timestamp) -> Self {
        let end = until.as_millisecond();
        Self((1..20).map(|index| end - WINDOW + index * WINDOW / 20).collect())
    }

    /// The times, as the outbox stores them.
    pub fn into_times(self) -> Vec<i64> {
        self.0
    }
}

/// Returns `now` plus `wait`, or the latest possible time.
pub fn later(now: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok()).unwrap_or(Timestamp::MAX)
}

/// Returns the time since a moment; nothing, if there is none.
pub fn time_since(since: Option<Timestamp>, now: Timestamp) -> Duration {
    since.and_then(|since| Duration::try_from(now.duration_since(since)).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: f64) -> Timestamp {
        later(Timestamp::UNIX_EPOCH, Duration::from_secs_f64(seconds))
    }

    proptest! {
        #[test]
        fn no_sixty_seconds_hold_more_than_twenty_messages(
            sends in prop::collection::vec((0.0f64..5.0, 1u32..11), 1..200)
        ) {
            let mut budget = TelegramBudget::default();
            let (mut clock, mut sent) = (0.0, Vec::new());
            for (gap, cost) in sends {
                clock += gap;
                if let Ok(remaining) = budget.take(cost, at(clock)) {
                    budget = remaining;
                    sent.extend(std::iter::repeat_n(clock, cost as usize));
                }
            }
            for start in &sent {
                let within = sent.iter().filter(|time| (*start..*start + 60.0).contains(*time)).count();
                prop_assert!(within <= 20);
            }
        }

        #[test]
        fn after_the_returned_wait_the_budget_is_enough(gaps in prop::collection::vec(0.0f64..5.0, 1..60), cost in 1u32..30) {
            let mut budget = TelegramBudget::default();
            let mut clock = 100.0;
            for gap in gaps {
                clock += gap;
                budget = budget.take(1, at(clock)).unwrap_or(budget);
            }
            if let Err(wait) = budget.take(cost, at(clock)) {
                prop_assert!(budget.take(cost, at(clock + wait.as_secs_f64() + 0.001)).is_ok());
            }
        }
    }

    #[test]
    fn twenty_go_at_once_and_the_next_a_minute_later() {
        let mut budget = TelegramBudget::default();
        for _ in 0..20 {
            budget = budget.take(1, at(0.0)).unwrap_or_else(|wait| panic!("{wait:?}"));
        }
        assert_eq!(budget.take(1, at(0.0)), Err(Duration::from_secs(61)));
    }

    #[test]
    fn after_an_ordered_wait_one_message_goes_and_another_every_three_seconds() {
        let budget = TelegramBudget::emptied(at(100.0));
        let one = budget.take(1, at(100.0)).unwrap_or_else(|wait| panic!("{wait:?}"));
        let wait = one.take(1, at(100.0)).err().unwrap_or_default();
        assert!(wait > Duration::from_secs(2) && wait < Duration::from_secs(4), "{wait:?}");
    }
}
