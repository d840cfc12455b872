//! The ranges of values that are taken from outside. What lies outside a range is cut, and counted in one metric by the field's name.

use std::{ops::RangeInclusive, time::Duration};

use jiff::Timestamp;

/// The first second of 2015: no message that we read is older.
const EARLIEST: i64 = 1_420_070_400;
/// A clock outside may be ahead of ours by this much, seconds.
const MAX_AHEAD: i64 = 300;

/// The waits that the outside may order.
pub const WAIT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
/// The lives that the outside may give a token.
pub const TOKEN_LIFE: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24);
/// The calls that the outside may say are left in a minute.
pub const CALLS_LEFT: RangeInclusive<u32> = 0..=6000;
/// The calls that the outside may allow a minute. A lower limit would stop an account for good.
pub const CALLS_A_MINUTE: RangeInclusive<u32> = 5..=6000;

/// The most bytes of an answer.
pub const MAX_BODY: usize = 5 << 20;
/// The most bytes of a string in an answer.
pub const MAX_STRING: usize = 64 << 10;

/// Cuts a value to its range.
pub fn cut<T: Ord + Copy>(field: &'static str, value: T, range: &RangeInclusive<T>) -> T {
    let within = value.clamp(*range.start(), *range.end());
    if within != value {
        count(field);
    }
    within
}

/// Cuts a time in Unix seconds: one that is still to come counts as now. None: it is too early to be one, and so unknown.
pub fn time(field: &'static str, seconds: i64) -> Option<i64> {
    let now = Timestamp::now().as_second();
    match seconds {
        ..EARLIEST => {
            count(field);
            None
        }
        late if late > now + MAX_AHEAD => {
            count(field);
            Some(now)
        }
        seconds => Some(seconds),
    }
}

/// Counts a value that was cut.
pub fn count(field: &'static str) {
    metrics::counter!("values_cut", "field" => field).increment(1);
    tracing::warn!(field, "a value from outside was cut");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_to_come_counts_as_now_and_one_before_all_messages_is_unknown() {
        let now = Timestamp::now().as_second();
        for late in [now + 301, 884_541_600_000, now * 1000, i64::MAX] {
            assert!(time("created", late).is_some_and(|cut| (now..now + 5).contains(&cut)), "{late}");
        }
        for early in [i64::MIN, -1, 0, EARLIEST - 1] {
            assert_eq!(time("created", early), None, "{early}");
        }
        assert_eq!((time("created", EARLIEST), time("created", now + 60)), (Some(EARLIEST), Some(now + 60)));
    }

    proptest! {
        #[test]
        fn every_value_is_cut_to_its_range(seconds in any::<u64>(), calls in any::<u32>()) {
            let wait = Duration::from_secs(seconds);
            prop_assert!(WAIT.contains(&cut("retry_after", wait, &WAIT)) && TOKEN_LIFE.contains(&cut("expires_in", wait, &TOKEN_LIFE)));
            prop_assert!(CALLS_LEFT.contains(&cut("left", calls, &CALLS_LEFT)));
            prop_assert!(!WAIT.contains(&wait) || cut("retry_after", wait, &WAIT) == wait);
        }
    }
}
