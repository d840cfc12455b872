//! The committed figures, compared with a run: a ratio to the hello or a count may grow by at most 15 %.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::figures::shown;

/// The share by which a figure may be worse than the baseline.
const TOLERANCE: f64 = 0.15;

/// The figures of a former run; less is better in each.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// The day on which they were measured.
    pub(crate) date: String,
    /// The machine that measured them.
    pub(crate) machine: String,
    /// Ratios to the hello of that run, and counts.
    pub(crate) figures: BTreeMap<String, f64>,
}

impl Baseline {
    pub(crate) fn read(path: &Path) -> Outcome<Self> {
        let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }

    pub(crate) fn write(&self, path: &Path) -> Outcome<()> {
        Ok(std::fs::write(path, format!("{}\n", serde_json::to_string_pretty(self)?))?)
    }

    /// A sentence for each figure that is worse in `measured`. With `whole`, a figure that was not measured is worse
    /// too.
    pub(crate) fn worse(&self, measured: &BTreeMap<String, f64>, whole: bool) -> Vec<String> {
        let worse = |name: &String, before: f64| match measured.get(name) {
            Some(&now) if now > before * (1.0 + TOLERANCE) => {
                Some(format!("{name} was {} and is {}", shown(before), shown(now)))
            }
            None if whole => Some(format!("{name} was {} and was not measured", shown(before))),
            _ => None,
        };
        self.figures.iter().filter_map(|(name, before)| worse(name, *before)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(values: &[(&str, f64)]) -> BTreeMap<String, f64> {
        values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    fn baseline(values: &[(&str, f64)]) -> Baseline {
        Baseline { date: String::new(), machine: String::new(), figures: figures(values) }
    }

    #[test]
    fn a_figure_that_is_worse_by_more_than_fifteen_percent_is_named() {
        let before = baseline(&[("calls", 1.0), ("ready", 2.0)]);
        let worse = before.worse(&figures(&[("calls", 2.0), ("ready", 2.29)]), true);
        assert_eq!(worse, ["calls was 1.00 and is 2.00"]);
    }

    #[test]
    fn a_better_figure_passes_and_so_does_a_new_one() {
        let before = baseline(&[("calls", 4.0)]);
        assert_eq!(before.worse(&figures(&[("calls", 1.0), ("ready", 9.0)]), true), [""; 0]);
    }

    #[test]
    fn one_call_where_there_was_none_is_worse() {
        let before = baseline(&[("calls", 0.0)]);
        assert_eq!(before.worse(&figures(&[("calls", 1.0)]), true).len(), 1);
    }

    #[test]
    fn a_missing_figure_is_worse_unless_only_a_part_was_measured() {
        let before = baseline(&[("calls", 1.0)]);
        assert_eq!(before.worse(&figures(&[]), true), ["calls was 1.00 and was not measured"]);
        assert_eq!(before.worse(&figures(&[]), false), [""; 0]);
    }
}
