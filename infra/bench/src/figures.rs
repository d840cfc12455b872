//! Numbers: what was measured by name, percentiles, and tables for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// The comparison of a figure with the committed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It may not become worse: a ratio to the hello of the same run, or a count. Less is better.
    Compared,
    /// No comparison: the figure depends on the machine and its other work.
    Free,
}

/// All figures of a run, by name.
#[derive(Debug, Default)]
pub(crate) struct Figures(pub(crate) BTreeMap<String, (f64, Gate)>);

impl Figures {
    /// Notes a ratio or a count, to be compared with the committed one.
    pub(crate) fn compare(&mut self, name: impl Into<String>, value: f64) {
        self.0.insert(name.into(), (value, Gate::Compared));
    }

    /// Notes a figure that is only shown.
    pub(crate) fn note(&mut self, name: impl Into<String>, value: f64) {
        self.0.insert(name.into(), (value, Gate::Free));
    }

    /// A figure that was measured.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).map(|(value, _)| *value)
    }

    /// The figures that are compared with the committed ones, by name.
    pub(crate) fn compared(&self) -> BTreeMap<String, f64> {
        let compared = self.0.iter().filter(|(_, (_, gate))| *gate == Gate::Compared);
        compared.map(|(name, (value, _))| (name.clone(), *value)).collect()
    }
}

/// A table as people read it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) head: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, head: &[&'static str]) -> Self {
        Self { title: title.into(), head: head.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    /// The table as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let head: Vec<String> = self.head.iter().map(|&cell| cell.to_owned()).collect();
        let mut text = format!("{}\n\n{}", self.title, line(&head));
        let _ = writeln!(text, "|{}", " --- |".repeat(self.head.len()));
        self.rows.iter().for_each(|row| text.push_str(&line(row)));
        text
    }
}

/// The value below which this share of the samples lies (nearest rank); 0 without samples.
pub(crate) fn percentile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (count(sorted.len()) * share).ceil();
    let is_rank = |index: usize| count(index + 1) >= rank;
    (0..sorted.len()).find(|index| is_rank(*index)).map_or(0.0, |index| sorted[index])
}

/// A count as a number to compute with.
#[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
pub(crate) fn count(count: usize) -> f64 {
    count as f64
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A number with its meaningful digits.
pub(crate) fn shown(value: f64) -> String {
    let digits = match value.abs() {
        0.0..0.1 => 3,
        0.1..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_sample_at_its_rank_in_any_order() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| percentile(&samples, share).to_string()), ["50", "99", "100"]);
    }

    #[test]
    fn every_percentile_of_one_sample_is_that_sample_and_without_samples_it_is_zero() {
        assert!((percentile(&[7.0], 0.01) - 7.0).abs() < f64::EPSILON);
        assert!(percentile(&[], 0.5).abs() < f64::EPSILON);
    }

    #[test]
    fn numbers_are_shown_with_their_meaningful_digits() {
        assert_eq!([0.0123, 1.234, 12.34, 1234.5].map(shown), ["0.012", "1.23", "12.3", "1234"]);
    }

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new("Times", &["what", "ms"]);
        table.row(["a".to_owned(), "1".to_owned()]);
        assert_eq!(table.markdown(), "Times\n\n| what | ms |\n| --- | --- |\n| a | 1 |\n");
    }
}
