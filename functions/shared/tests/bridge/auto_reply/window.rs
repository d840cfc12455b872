//! The intervals in which the auto-reply is active: any moment is within one of them, or within none. This is the rule
//! as plain code. The database's `auto_reply_interval` is the same rule for recorded messages; a test compares the two.

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
    tz::{AmbiguousOffset, TimeZone},
};

/// An organisation's settings of the auto-reply.
#[derive(Clone, Debug)]
pub struct Window {
    /// True if there is an auto-reply at all.
    pub enabled: bool,
    /// Active at all times, and once a local day; start and end do not count then.
    pub always: bool,
    /// The time at which it begins on each day.
    pub start: Time,
    /// The time at which it ends: on the same day, or on the next if not after the start. Equal to the start: never
    /// active.
    pub end: Time,
    /// The time zone of both.
    pub zone: TimeZone,
}

impl Window {
    /// The interval that contains this moment: its first moment, and the first after it. None: the auto-reply is not
    /// active.
    pub fn active(&self, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let today = at.to_zoned(self.zone.clone()).date();
        // The day before may cross midnight; the day after counts if the clock was set back over midnight.
        [today.yesterday().ok(), Some(today), today.tomorrow().ok()]
            .into_iter()
            .flatten()
            .filter_map(|day| self.of_day(day))
            .find(|(begins, ends)| *begins <= at && at < *ends)
    }

    /// The interval that begins on a local day; empty if the clock skips all of it. None: the auto-reply is never
    /// active.
    pub fn of_day(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        let (start, end) = if self.always { (Time::midnight(), Time::midnight()) } else { (self.start, self.end) };
        if !self.enabled || (start == end && !self.always) {
            return None;
        }
        let last_day = if end <= start { day.tomorrow().ok()? } else { day };
        Some((moment(&self.zone, day.to_datetime(start))?, moment(&self.zone, last_day.to_datetime(end))?))
    }
}

/// The first moment at which the zone's clock shows this time or a later one. If the clock skips the time, that is the
/// moment at which it goes on; if it shows the time twice, the first of the two.
fn moment(zone: &TimeZone, wall: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok(),
        AmbiguousOffset::Gap { before, .. } => {
            let behind = before.to_timestamp(wall).ok()?;
            zone.preceding(behind.checked_add(jiff::SignedDuration::from_nanos(1)).ok()?)
                .next()
                .map(|change| change.timestamp())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{SignedDuration, ToSpan};
    use proptest::prelude::*;

    use crate::support::must;

    const ZONES: [&str; 4] = ["Europe/Moscow", "Europe/Kaliningrad", "Asia/Vladivostok", "Europe/Berlin"];
    const MINUTE: SignedDuration = SignedDuration::from_secs(60);

    fn window(zone: &str, start: &str, end: &str) -> Window {
        Window {
            enabled: true,
            always: false,
            start: must(start.parse()),
            end: must(end.parse()),
            zone: must(TimeZone::get(zone)),
        }
    }

    fn at(text: &str) -> Timestamp {
        must(text.parse())
    }

    fn active(window: &Window, moment: &str) -> Option<(Timestamp, Timestamp)> {
        window.active(at(moment))
    }

    #[test]
    fn a_window_across_midnight_is_one_interval() {
        let night = window("Europe/Moscow", "22:00", "09:00");
        let interval = Some((at("2026-03-01T19:00:00Z"), at("2026-03-02T06:00:00Z")));
        for moment in ["2026-03-01T19:00:00Z", "2026-03-01T20:59:59Z", "2026-03-01T21:00:00Z", "2026-03-02T05:59:59Z"] {
            assert_eq!(active(&night, moment), interval, "{moment}");
        }
        assert_eq!(active(&night, "2026-03-01T18:59:59Z"), None);
        assert_eq!(active(&night, "2026-03-02T06:00:00Z"), None);
    }

    #[test]
    fn equal_times_are_never_active_and_always_is_one_interval_a_local_day() {
        let mut window = window("Asia/Vladivostok", "10:00", "10:00");
        assert_eq!(active(&window, "2026-03-01T00:00:00Z"), None);
        window.always = true;
        assert_eq!(
            active(&window, "2026-03-01T13:59:59Z"),
            Some((at("2026-02-28T14:00:00Z"), at("2026-03-01T14:00:00Z")))
        );
        window.enabled = false;
        assert_eq!(active(&window, "2026-03-01T13:59:59Z"), None);
    }

    #[test]
    fn a_start_that_the_clock_skips_is_the_moment_at_which_the_clock_goes_on() {
        let window = window("Europe/Berlin", "02:30", "05:00");
        let interval = Some((at("2026-03-29T01:00:00Z"), at("2026-03-29T03:00:00Z")));
        assert_eq!(active(&window, "2026-03-29T01:00:00Z"), interval);
        assert_eq!(active(&window, "2026-03-29T00:59:59Z"), None);
    }

    #[test]
    fn a_start_that_the_clock_shows_twice_is_the_first_of_the_two() {
        let window = window("Europe/Berlin", "02:30", "05:00");
        let interval = Some((at("2026-10-25T00:30:00Z"), at("2026-10-25T04:00:00Z")));
        for moment in ["2026-10-25T00:30:00Z", "2026-10-25T01:10:00Z", "2026-10-25T01:30:00Z"] {
            assert_eq!(active(&window, moment), interval, "{moment}");
        }
    }

    #[test]
    fn a_short_window_in_a_doubled_hour_is_active_once() {
        let window = window("Europe/Berlin", "02:10", "02:20");
        assert!(active(&window, "2026-10-25T00:15:00Z").is_some());
        assert_eq!(active(&window, "2026-10-25T01:15:00Z"), None);
    }

    /// Days around which clocks were set, and any others.
    fn days() -> impl Strategy<Value = Date> {
        prop_oneof![
            Just(must("2011-03-27".parse::<Date>())),
            Just(must("2014-10-26".parse::<Date>())),
            Just(must("2026-03-29".parse::<Date>())),
            Just(must("2026-10-25".parse::<Date>())),
            (0_i32..9000).prop_map(|days| must(must("2010-01-01".parse::<Date>()).checked_add(days.days()))),
        ]
    }

    fn windows() -> impl Strategy<Value = Window> {
        let time = || (0_i8..24, 0_i8..60).prop_map(|(hour, minute)| Time::constant(hour, minute, 0, 0));
        let near = || (1_i8..4, 0_i8..60).prop_map(|(hour, minute)| Time::constant(hour, minute, 0, 0));
        let times = prop_oneof![(time(), time()), (near(), near())];
        (prop::sample::select(&ZONES), prop::bool::weighted(0.2), times).prop_map(|(zone, always, (start, end))| {
            Window { enabled: true, always, start, end, zone: must(TimeZone::get(zone)) }
        })
    }

    proptest! {
        #[test]
        fn each_day_has_one_interval_and_none_overlaps_the_next(window in windows(), day in days()) {
            let mut behind = Timestamp::MIN;
            for shift in -2..=2 {
                let day = must(day.checked_add(shift.days()));
                let Some((begins, ends)) = window.of_day(day) else {
                    prop_assert!(!window.always && window.start == window.end);
                    continue;
                };
                prop_assert!(behind <= begins && begins <= ends);
                behind = ends;
            }
        }

        #[test]
        fn the_active_interval_is_what_a_wall_clock_shows(window in windows(), day in days(), minutes in 0_i64..2880) {
            let midnight = must(day.yesterday().and_then(|day| day.to_zoned(window.zone.clone()))).timestamp();
            let now = must(midnight.checked_add(MINUTE * i32::try_from(minutes).unwrap_or_default()));
            // The clock is read each minute, beginning three days before.
            let mut minute = must(now.checked_sub(SignedDuration::from_hours(72)));
            let mut inside: Option<Timestamp> = None;
            let mut latest = minute.to_zoned(window.zone.clone()).datetime();
            while minute < now {
                let next = must(minute.checked_add(MINUTE));
                let shows = next.to_zoned(window.zone.clone()).datetime();
                // Only times that the clock shows for the first time count: a doubled hour counts once.
                if shows > latest {
                    for date in [latest.date(), shows.date()] {
                        let passed = |time: Time| latest < date.to_datetime(time) && date.to_datetime(time) <= shows;
                        let (start, end) = if window.always { (Time::midnight(), Time::midnight()) } else { (window.start, window.end) };
                        let reached = [(passed(end), end, false), (passed(start), start, true)];
                        let mut reached: Vec<_> = reached.into_iter().filter(|(passed, ..)| *passed).collect();
                        reached.sort_by_key(|(_, time, _)| *time);
                        for (_, _, begins) in reached {
                            inside = begins.then_some(next);
                        }
                        if latest.date() == shows.date() {
                            break;
                        }
                    }
                    latest = shows;
                }
                minute = next;
            }
            if !window.always && window.start == window.end {
                inside = None;
            }
            prop_assert_eq!(window.active(now).map(|(begins, _)| begins), inside);
        }
    }
}
