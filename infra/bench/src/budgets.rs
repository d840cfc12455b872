//! The budgets that the architecture sets, compared with this run.

use crate::figures::{Figures, Table, shown};

/// The bound of a figure.
#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

const BUDGETS: &[(&str, &str, Bound)] = &[
    ("slowest endpoint: ready, × hello", "worst endpoint/ready, times hello", Bound::AtMost(2.2)),
    ("slowest worker: ready, × hello", "worst worker/ready, times hello", Bound::AtMost(4.0)),
    ("largest endpoint after its events, MB", "worst endpoint/memory, MB", Bound::AtMost(12.0)),
    ("largest worker after its events, MB", "worst worker/memory, MB", Bound::AtMost(24.0)),
    ("largest endpoint, zipped, MB", "worst endpoint/size, MB", Bound::AtMost(6.0)),
    ("largest worker, zipped, MB", "worst worker/size, MB", Bound::AtMost(6.0)),
    ("text in: Telegram calls", "inbound/Telegram calls a message", Bound::AtMost(1.0)),
    ("text in: Avito calls", "inbound/Avito calls a message", Bound::AtMost(0.0)),
    ("text in: Postgres round trips", "inbound/Postgres round trips a message", Bound::AtMost(4.0)),
    ("text out: Avito calls", "outbound/Avito calls a message", Bound::AtMost(1.0)),
    ("text out: Telegram calls", "outbound/Telegram calls a message", Bound::AtMost(1.0)),
    ("text out: Postgres round trips", "outbound/Postgres round trips a message", Bound::AtMost(5.0)),
    ("idle account: Avito calls", "poll/100 accounts/Avito calls an account", Bound::AtMost(1.0)),
    ("fifty idle accounts: Postgres round trips", "poll/100 accounts/Postgres round trips a fifty", Bound::AtMost(1.0)),
    ("idle account: Redis round trips", "poll/100 accounts/Redis round trips an account", Bound::AtMost(2.0)),
    ("messages in, a second and core", "inbound/messages a second and core", Bound::AtLeast(150.0)),
    ("messages out, a second and core", "outbound/messages a second and core", Bound::AtLeast(150.0)),
    (
        "messages in, of what 20 tenants allow at 50 ms",
        "inbound/4 processes, 20 tenants, 50 ms/of what Telegram allows",
        Bound::AtLeast(0.8),
    ),
    (
        "messages out, of what 20 tenants allow at 50 ms",
        "outbound/4 processes, 20 tenants, 50 ms/of what Telegram allows",
        Bound::AtLeast(0.8),
    ),
    ("10,000 idle accounts, s", "poll/10000 accounts, news none/seconds", Bound::AtMost(60.0)),
    ("10,000 idle accounts at 50 ms, s", "poll/10000 accounts, news none, 50 ms/seconds", Bound::AtMost(60.0)),
];

/// The budgets whose figures were measured.
pub(crate) fn table(figures: &Figures) -> Table {
    let mut table = Table::new("Budgets", &["what", "budget", "measured", ""]);
    for (what, figure, bound) in BUDGETS {
        let Some(value) = figures.get(figure) else { continue };
        let (text, is_met) = match *bound {
            Bound::AtMost(most) => (format!("≤ {}", shown(most)), value <= most),
            Bound::AtLeast(least) => (format!("≥ {}", shown(least)), value >= least),
        };
        table.row([(*what).to_owned(), text, shown(value), if is_met { "kept" } else { "**missed**" }.to_owned()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_kept_at_its_bound_and_missed_beyond_and_what_was_not_measured_is_left_out() {
        let mut figures = Figures::default();
        figures.note("inbound/Telegram calls a message", 1.0);
        figures.note("inbound/messages a second and core", 149.0);
        let verdicts: Vec<String> = table(&figures).rows.into_iter().map(|row| row[3].clone()).collect();
        assert_eq!(verdicts, ["kept", "**missed**"]);
    }
}
