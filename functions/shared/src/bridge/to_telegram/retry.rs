//! The pause of a bot that may not post, and the end of Telegram's rate limit. `platform/endings.rs` has all other waits.

use std::time::Duration;

use jiff::Timestamp;

use crate::{bridge::common::telegram_budget::later, platform::endings::ORDERED};

/// A bot without a group, or of a suspended client, is claimed again after this time.
pub(super) const SUSPENDED_PAUSE: Duration = Duration::from_secs(3600);

/// The end of the wait that Telegram orders, to the second, and half a second more, so that no call comes too early.
pub(super) fn rate_limited_until(now: Timestamp, retry_after: Duration) -> Timestamp {
    later(now, retry_after.clamp(ORDERED.0, ORDERED.1) + Duration::from_millis(500))
}
