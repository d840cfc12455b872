//! The verdict as rates: messages a second, delays, and failures per million with the bound that so many messages
//! allow.

use std::fmt;

use super::float;
use super::verdict::{Direction, Verdict};

/// The rates of a verdict, as a table.
pub(crate) struct Figures<'a>(pub(crate) &'a Verdict);

impl fmt::Display for Figures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| to | offered a second | arrived a second | written to shown: p50 | p99 | \
             lost per million | doubled | out of order |"
        )?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for (name, direction) in [("Telegram", &self.0.to_telegram), ("Avito", &self.0.to_avito)] {
            let Direction { sent, arrived, written, shown, delays, .. } = direction;
            let first = written.iter().min().copied();
            let offered = rate(*sent, first, written.iter().max().copied());
            let arrived = rate(*arrived, first, shown.iter().max().copied());
            let [lost, doubled, mixed] = [&direction.lost, &direction.doubled, &direction.out_of_order]
                .map(|failed| per_million(failed.len(), *sent));
            let mut delays = delays.clone();
            delays.sort_unstable();
            let (p50, p99) = (percentile(&delays, 50), percentile(&delays, 99));
            writeln!(
                f,
                "| {name} | {offered:.1} | {arrived:.1} | {p50:.1} s | {p99:.1} s | {lost} | {doubled} | {mixed} |"
            )?;
        }
        write!(f, "In brackets: 95 % sure that it is no more.")
    }
}

/// Returns how many came a second, between two times in milliseconds.
fn rate(count: usize, from: Option<i64>, until: Option<i64>) -> f64 {
    let lasted = from.zip(until).map_or(1, |(from, until)| (until - from).max(1));
    float(count) * 1000.0 / float(usize::try_from(lasted).unwrap_or(1))
}

/// Returns a percentile of sorted milliseconds, in seconds. 0: there are none.
fn percentile(sorted: &[i64], percent: usize) -> f64 {
    let nth = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    let milliseconds = sorted.get(nth).copied().unwrap_or(0).max(0);
    float(usize::try_from(milliseconds).unwrap_or(0)) / 1000.0
}

fn per_million(failed: usize, of: usize) -> String {
    let per_million = |count: f64| count * 1_000_000.0 / float(of.max(1));
    format!("{:.0} (≤ {:.0})", per_million(float(failed)), per_million(bound(failed)))
}

/// Returns the upper 95 % bound for the expected number, after so many were counted (Poisson, exact): the mean with
/// which no more than these come in one of twenty runs. After none it is 3.
fn bound(counted: usize) -> f64 {
    let chance_of_no_more = |mean: f64| {
        let mut term = -mean;
        let mut sum = term.exp();
        for number in 1..=counted {
            term += (mean / float(number)).ln();
            sum += term.exp();
        }
        sum
    };
    let (mut least, mut most) = (0.0, 10.0 + 3.0 * float(counted));
    for _ in 0..60 {
        let middle = f64::midpoint(least, most);
        if chance_of_no_more(middle) > 0.05 { least = middle } else { most = middle }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_none_is_three_and_grows_with_the_count_as_tables_have_it() {
        for (counted, expected) in [(0, 2.996), (1, 4.744), (5, 10.513), (100, 118.08)] {
            assert!((bound(counted) - expected).abs() < 0.01, "{counted}: {}", bound(counted));
        }
        assert_eq!(per_million(0, 100_000), "0 (≤ 30)");
        assert_eq!(per_million(1, 20_000), "50 (≤ 237)");
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<i64> = (1..=200).map(|number| number * 1000).collect();
        assert!((percentile(&sorted, 50) - 100.0).abs() < 1e-9);
        assert!((percentile(&sorted, 99) - 198.0).abs() < 1e-9);
        assert!(percentile(&[], 99).abs() < 1e-9);
    }
}
