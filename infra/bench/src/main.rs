//! `make bench`: what the functions cost. Release binaries are driven through the Lambda Runtime API itself, by a
//! server that plays Lambda, SQS and API Gateway and delays no packet; Postgres, Redis and the simulators of Telegram
//! and Avito are real processes beside it. Times depend on the machine, so they are compared with a bare hello of the
//! same run; round trips, calls and requests are counted and depend on nothing.
//!
//! Arguments: the parts to measure (`startup`, `counts`, `throughput`, `cost`, `polling`; all when none is named),
//! `--write-baseline` to commit to this run's ratios and counts, `--check` to fail when one is worse than the committed
//! ones.

mod baseline;
mod budgets;
mod cost;
mod events;
mod figures;
mod lambda;
mod load;
mod messages;
mod plan;
mod polling;
mod processes;
mod queues;
mod redis;
mod runtime;
mod server;
mod simulators;
mod startup;
mod world;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::json;

use baseline::Baseline;
use figures::{Figures, Table};
use lambda::Lambda;
use plan::Plan;
use world::World;

/// A result, or a sentence for the person who runs the bench.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const PARTS: [&str; 5] = ["startup", "counts", "throughput", "cost", "polling"];

/// The arguments.
struct Wanted {
    parts: Vec<String>,
    write_baseline: bool,
    check: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(worse) if worse.is_empty() => ExitCode::SUCCESS,
        Ok(worse) => {
            say(&format!("Worse than the baseline by more than 15 %:\n  {}", worse.join("\n  ")));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("The bench broke off: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Measures and reports. Returns the figures that are worse than the baseline.
async fn run() -> Outcome<Vec<String>> {
    let wanted = Wanted::read(std::env::args().skip(1))?;
    let lambda = Lambda::start(Plan::read()?).await?;
    let mut world = World::new(&lambda).await?;
    let mut figures = Figures::default();
    startup::measure_hello(&lambda, &mut figures).await?;
    let mut tables = Vec::new();
    for part in &wanted.parts {
        let began = Instant::now();
        let (lambda, world, figures) = (&lambda, &mut world, &mut figures);
        tables.push(match part.as_str() {
            "startup" => startup::measure(lambda, world, figures).await?,
            "counts" => messages::count(lambda, world, figures).await?,
            "throughput" => messages::rush(lambda, world, figures).await?,
            "cost" => messages::price(lambda, world, figures).await?,
            _ => polling::measure(lambda, world, figures).await?,
        });
        say(&format!("{part}: {:.0} s", began.elapsed().as_secs_f64()));
    }
    tables.push(budgets::table(&figures));
    report(&lambda.plan, &tables, &figures)?;
    let now = Baseline { date: today(), machine: lambda.plan.machine.clone(), figures: figures.compared() };
    if wanted.write_baseline {
        now.write(&lambda.plan.baseline)?;
    }
    let whole = wanted.parts.len() == PARTS.len();
    if wanted.check { Ok(Baseline::read(&lambda.plan.baseline)?.worse(&now.figures, whole)) } else { Ok(Vec::new()) }
}

impl Wanted {
    fn read(arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut wanted = Self { parts: Vec::new(), write_baseline: false, check: false };
        for argument in arguments {
            match argument.as_str() {
                "--write-baseline" => wanted.write_baseline = true,
                "--check" => wanted.check = true,
                part if PARTS.contains(&part) => wanted.parts.push(argument),
                _ => return Err(format!("There is no {argument}; the parts are {}.", PARTS.join(", ")).into()),
            }
        }
        if wanted.parts.is_empty() {
            wanted.parts = PARTS.map(str::to_owned).into();
        }
        if wanted.write_baseline && wanted.parts.len() < PARTS.len() {
            return Err("A baseline is written from all parts.".into());
        }
        Ok(wanted)
    }
}

fn today() -> String {
    jiff::Zoned::now().date().to_string()
}

/// Prints the tables and writes everything down as JSON.
fn report(plan: &Plan, tables: &[Table], figures: &Figures) -> Outcome<()> {
    let mut text = format!("Measured on {}, {}.\n", today(), plan.machine);
    for table in tables {
        text.push('\n');
        text.push_str(&table.markdown());
    }
    std::io::stdout().write_all(text.as_bytes())?;
    let all: serde_json::Map<String, serde_json::Value> =
        figures.0.iter().map(|(name, (value, _))| (name.clone(), json!(value))).collect();
    let shown = |table: &Table| json!({ "title": table.title, "head": table.head, "rows": table.rows });
    let results = json!({
        "date": today(), "machine": plan.machine, "figures": all, "held": figures.compared(),
        "tables": tables.iter().map(shown).collect::<Vec<_>>(),
    });
    std::fs::write(&plan.results, format!("{}\n", serde_json::to_string_pretty(&results)?))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(arguments: &[&str]) -> Outcome<Wanted> {
        Wanted::read(arguments.iter().map(|&argument| argument.to_owned()))
    }

    #[test]
    fn without_a_part_all_are_measured() {
        assert_eq!(wanted(&["--check"]).map(|wanted| wanted.parts.len()).ok(), Some(PARTS.len()));
        assert_eq!(wanted(&["counts"]).map(|wanted| wanted.parts).ok(), Some(vec!["counts".to_owned()]));
    }

    #[test]
    fn an_unknown_part_is_refused_and_so_is_a_baseline_of_a_few_parts() {
        assert!(wanted(&["coutns"]).is_err());
        assert!(wanted(&["counts", "--write-baseline"]).is_err());
    }
}
