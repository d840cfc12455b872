//! Times from Avito, in seconds since 1970: those that cannot be are not believed.

/// The beginning of 2015. Avito's messenger is younger, so an earlier time is no time.
const EARLIEST: i64 = 1_420_070_400;
/// Avito's clock may be this much ahead of ours.
const MAX_AHEAD: i64 = 5 * 60;

/// True if a chat may have changed at this time.
pub(super) fn is_possible(time: i64, now: i64) -> bool {
    (EARLIEST..=now.saturating_add(MAX_AHEAD)).contains(&time)
}

/// Returns the time, or now if it is later. None: it is earlier than can be.
pub(super) fn clamped(time: i64, now: i64) -> Option<i64> {
    (time >= EARLIEST).then(|| time.min(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_beyond_now_counts_as_now_and_one_before_avito_as_none() {
        let now = 1_800_000_000;
        let clamp = |time| clamped(time, now);
        assert_eq!([clamp(now - 60), clamp(now + 60), clamp(now * 1000)], [Some(now - 60), Some(now), Some(now)]);
        assert_eq!([clamp(0), clamp(-1), clamp(i64::MIN), clamp(1_400_000_000)], [None; 4]);
        assert!(is_possible(now + 60, now) && !is_possible(now + 600, now) && !is_possible(i64::MAX, now));
    }
}
