//! One message at a time: what it costs in round trips, calls and requests, whatever the machine; what it costs in money at
//! an easy pace; and how many go through when they are many.

use crate::Outcome;
use crate::cost;
use crate::figures::{Figures, Table, shown};
use crate::lambda::Lambda;
use crate::load::{self, Direction, Load, Pace, Taken};
use crate::world::World;

const WAYS: [Direction; 2] = [Direction::Inbound, Direction::Outbound];
/// Organisations where there are many.
const TENANTS: usize = 20;
/// What Telegram and Avito take where they are not near.
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
    let mut table = Table::new("What one message needs, all told", &head);
    for direction in WAYS {
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
            figures.hold(format!("{name}/{what} a message"), each);
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
    for direction in WAYS {
        // Of all loads, that which was disturbed least: what else the machine does only adds.
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
            // Lambda starts as many as are wanted.
            (16, TENANTS, 50),
        ] {
            // Enough for many to run as most do in production: with plans and connections that are there already.
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
                format!("{:.1}", taken.settled_seconds),
            ]);
        }
        let hello = figures.get("hello/cpu_ms").unwrap_or(1.0);
        figures.hold(format!("{}/CPU, times hello's", direction.name()), least / hello);
    }
    Ok(table)
}

/// A bot posts with one call at a time, so this is what Telegram's latency allows to come in; what goes out, with a receipt each, is
/// held against the same.
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
    for direction in WAYS {
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
