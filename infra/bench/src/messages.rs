//! One message at a time: its cost in round trips, calls and requests, which does not depend on the machine; its cost
//! in money at an easy pace; and the throughput when there are many.

use crate::Outcome;
use crate::cost;
use crate::figures::{Figures, Table, shown};
use crate::lambda::Lambda;
use crate::load::{self, Direction, Load, Pace, Taken};
use crate::world::World;

const DIRECTIONS: [Direction; 2] = [Direction::Inbound, Direction::Outbound];
/// Organisations of a load with many.
const TENANTS: usize = 20;
/// The time that Telegram and Avito take for an answer when they are not near.
const LATENCY_MS: u64 = 50;

/// Counts what each message needs.
pub(crate) async fn count(lambda: &Lambda, world: &mut World, figures: &mut Figures) -> Outcome<Table> {
    world.grow(lambda, 1).await?;
    let head = [
        "a text of a known dialog",
        "Postgres round trips",
        "Telegram calls",
        "Avito calls",
        "SQS requests",
        "invocations",
    ];
    let mut table = Table::new("What one message needs in all", &head);
    for direction in DIRECTIONS {
        let pace = Pace::OneByOne;
        let load = Load { direction, tenants: 1, processes: 1, latency_ms: 0, messages: 40, pace };
        let taken = load::run(lambda, world, load).await?;
        let name = direction.name();
        let invocations = taken.functions.iter().map(|part| part.invocations).sum();
        let counted = [
            ("Postgres round trips", taken.postgres_round_trips),
            ("Telegram calls", taken.telegram_calls),
            ("Avito calls", taken.avito_calls),
            ("SQS requests", taken.queue_requests),
            ("invocations", invocations),
        ]
        .map(|(what, all)| (what, all / taken.messages));
        for (what, each) in counted {
            figures.compare(format!("{name}/{what} a message"), each);
        }
        let [postgres, telegram, avito, queues, invocations] = counted.map(|(_, each)| shown(each));
        table.row([name.to_owned(), postgres, telegram, avito, queues, invocations]);
    }
    Ok(table)
}

/// Sends as many messages as go through.
pub(crate) async fn rush(lambda: &Lambda, world: &mut World, figures: &mut Figures) -> Outcome<Table> {
    world.grow(lambda, TENANTS).await?;
    let head = [
        "way",
        "processes",
        "tenants",
        "outside, ms",
        "messages/s",
        "CPU ms a message: functions",
        "Postgres",
        "simulators",
        "messages/s a core",
        "of what Telegram allows",
        "all done after, s",
    ];
    let mut table = Table::new("Messages a second", &head);
    for direction in DIRECTIONS {
        // The load that was disturbed least: other work of the machine only adds.
        let mut least = f64::INFINITY;
        for (processes, tenants, latency_ms) in [
            (1, 1, 0),
            (1, TENANTS, 0),
            (4, 1, 0),
            (4, TENANTS, 0),
            (1, 1, 50),
            (1, TENANTS, 50),
            (4, 1, 50),
            (4, TENANTS, 50),
            // Lambda starts as many processes as it needs.
            (16, TENANTS, 50),
        ] {
            // Enough that most messages go as in production: with connections and cached plans.
            let messages = match (tenants, latency_ms) {
                (1, 0) => 400,
                (1, _) => 80,
                (_, 0) => 1_600,
                _ => 3_200,
            };
            let pace = Pace::UnderWay(if tenants == 1 { 8 } else { 4 });
            let load = Load { direction, tenants, processes, latency_ms, messages, pace };
            let taken = load::run(lambda, world, load).await?;
            let name = format!("{}/{processes} processes, {tenants} tenants, {latency_ms} ms", direction.name());
            let share = share_of_allowed(&taken, &load);
            crate::say(&format!(
                "{name}: {} messages a second, CPU ms each: functions {}, Postgres {}",
                shown(taken.per_second()),
                shown(taken.cpu_ms_per_message()),
                shown(taken.postgres_cpu_ms / taken.messages)
            ));
            figures.note(format!("{name}/messages a second"), taken.per_second());
            if let Some(share) = share {
                figures.note(format!("{name}/of what Telegram allows"), share);
            }
            if (processes, tenants, latency_ms) == (4, TENANTS, 0) {
                let core = 1000.0 / taken.cpu_ms_per_message();
                figures.note(format!("{}/messages a second and core", direction.name()), core);
            }
            least = least.min(taken.cpu_ms_per_message());
            table.row([
                direction.name().to_owned(),
                processes.to_string(),
                tenants.to_string(),
                latency_ms.to_string(),
                shown(taken.per_second()),
                shown(taken.cpu_ms_per_message()),
                shown(taken.postgres_cpu_ms / taken.messages),
                shown(taken.simulators_cpu_ms / taken.messages),
                shown(1000.0 / taken.cpu_ms_per_message()),
                share.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0)),
                format!("{:.1}", taken.seconds_until_done),
            ]);
        }
        let hello = figures.get("hello/cpu_ms").unwrap_or(1.0);
        figures.compare(format!("{}/CPU, times hello's", direction.name()), least / hello);
    }
    Ok(table)
}

/// The share of the rate that Telegram's latency allows: a bot posts with one call at a time. Outbound messages, with a
/// receipt each, are compared with the same rate. `None`: there is no latency.
#[expect(clippy::cast_precision_loss, reason = "a few milliseconds")]
fn share_of_allowed(taken: &Taken, load: &Load) -> Option<f64> {
    let allowed = crate::figures::count(load.tenants) * 1000.0 / load.latency_ms as f64;
    (load.latency_ms > 0).then(|| taken.per_second() / allowed)
}

/// Sends messages at an easy pace and computes what a million would cost.
pub(crate) async fn price(lambda: &Lambda, world: &mut World, figures: &mut Figures) -> Outcome<Table> {
    world.grow(lambda, TENANTS).await?;
    let head =
        ["way", "tenants", "messages", "$ a million", "billed ms a message", "CPU ms", "invocations", "resident, MB"];
    let title = format!("Cost of a million bridged messages, with {LATENCY_MS} ms for each call to the outside");
    let mut table = Table::new(title, &head);
    for direction in DIRECTIONS {
        for (tenants, messages, rate) in [(1, 40, 5.0), (1, 80, 10.0), (TENANTS, 320, 40.0)] {
            let pace = Pace::PerSecond(rate);
            let load = Load { direction, tenants, processes: 4, latency_ms: LATENCY_MS, messages, pace };
            let taken = load::run(lambda, world, load).await?;
            let dollars = cost::of_a_million(&taken);
            figures.note(format!("{}/{tenants} tenants, {messages} messages/$ a million", direction.name()), dollars);
            let sum = |of: fn(&load::Part) -> f64| taken.functions.iter().map(of).sum::<f64>() / taken.messages;
            let resident = taken.functions.iter().map(|part| format!("{} {}", part.name, shown(part.resident_mb)));
            table.row([
                direction.name().to_owned(),
                tenants.to_string(),
                messages.to_string(),
                format!("{dollars:.2}"),
                shown(sum(|part| part.billed_ms)),
                shown(sum(|part| part.cpu_ms)),
                shown(sum(|part| part.invocations)),
                resident.collect::<Vec<_>>().join(", "),
            ]);
        }
    }
    Ok(table)
}
