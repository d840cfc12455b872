//! The budget of a bot for Telegram: all topics of a group share about twenty messages a minute.
//! The bucket is stored in the bot's outbox, so a flushed Redis loses nothing.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

/// Messages a minute into one group (core.telegram.org/bots/faq, "My bot is hitting limits").
pub const PER_MINUTE: f64 = 20.0;
const PER_SECOND: f64 = PER_MINUTE / 60.0;

/// A token bucket: it has [`PER_MINUTE`] messages at the most and refills evenly.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct TelegramBudget {
    /// The messages that were left at `at`.
    pub left: f64,
    /// The time at which `left` was computed.
    pub at: Timestamp,
}

impl TelegramBudget {
    /// The messages that are left at `now`.
    fn refilled(self, now: Timestamp) -> f64 {
        let seconds = now.duration_since(self.at).as_secs_f64().max(0.0);
        (self.left + seconds * PER_SECOND).min(PER_MINUTE)
    }

    /// True if at least half of the bucket is left: posts that only decorate may go then.
    pub fn is_half_free(self, now: Timestamp) -> bool {
        self.refilled(now) >= PER_MINUTE / 2.0
    }

    /// Takes `cost` messages. Error: the wait until they may be sent. A cost above the bucket's size needs a full
    /// bucket.
    pub fn take(self, cost: u32, now: Timestamp) -> Result<Self, Duration> {
        let left = self.refilled(now);
        let needed = f64::from(cost).min(PER_MINUTE);
        if left >= needed {
            Ok(Self { left: left - f64::from(cost), at: now })
        } else {
            Err(Duration::from_secs_f64((needed - left) / PER_SECOND))
        }
    }

    /// Returns the budget after Telegram's order to wait: one message at `until`.
    pub fn emptied(until: Timestamp) -> Self {
        Self { left: 1.0, at: until }
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
        fn no_minute_sees_more_than_a_full_bucket_and_a_minutes_refill(gaps in prop::collection::vec(0.0f64..5.0, 1..200)) {
            let mut budget = TelegramBudget { left: PER_MINUTE, at: at(0.0) };
            let (mut clock, mut sent) = (0.0, Vec::new());
            for gap in gaps {
                clock += gap;
                if let Ok(remaining) = budget.take(1, at(clock)) {
                    budget = remaining;
                    sent.push(clock);
                }
            }
            for start in &sent {
                let within = sent.iter().filter(|time| (*start..*start + 60.0).contains(*time)).count();
                prop_assert!(within <= 40);
            }
        }

        #[test]
        fn after_the_returned_wait_the_budget_is_enough(left in 0.0f64..20.0, cost in 1u32..30) {
            let budget = TelegramBudget { left, at: at(0.0) };
            if let Err(wait) = budget.take(cost, at(0.0)) {
                prop_assert!(budget.take(cost, at(wait.as_secs_f64() + 0.001)).is_ok());
            }
        }
    }

    #[test]
    fn a_full_bucket_lets_twenty_through_at_once_and_no_more() {
        let mut budget = TelegramBudget { left: PER_MINUTE, at: at(0.0) };
        for _ in 0..20 {
            budget = budget.take(1, at(0.0)).unwrap_or_else(|wait| panic!("{wait:?}"));
        }
        assert_eq!(budget.take(1, at(0.0)), Err(Duration::from_secs(3)));
    }
}
