//! The waits after a failure: the backoff of a post, the pauses of a bot, and the end of Telegram's rate limit.

use std::time::Duration;

use jiff::Timestamp;

use crate::bridge::common::telegram_budget::later;

/// The pause of a bot that cannot post, unless its outbox is made due earlier.
pub(super) const BROKEN_PAUSE: Duration = Duration::from_secs(300);
/// A bot without a group, or of a suspended client, is claimed again after this time.
pub(super) const SUSPENDED_PAUSE: Duration = Duration::from_secs(3600);
/// The delay of a post whose call did not leave, seconds.
pub(super) const NOT_SENT_PAUSE: f64 = 2.0;

/// The seconds until the next attempt: 1, 2, 4 … 60.
pub(super) fn backoff(attempts: i32) -> f64 {
    f64::from(1 << attempts.clamp(0, 6)).min(60.0)
}

/// The end of the wait that Telegram orders, to the second, and half a second more, so that no call comes too early.
pub(super) fn rate_limited_until(now: Timestamp, retry_after: Duration) -> Timestamp {
    later(now, retry_after + Duration::from_millis(500))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        assert_eq!((0..9).map(backoff).collect::<Vec<_>>(), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]);
    }
}
