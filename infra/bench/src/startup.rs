//! Each function beside the bare hello: the time until it is ready, the times of its first and its later invocations,
//! its memory after a thousand events, its size. Starts of all functions alternate, so that other work of the machine
//! affects them alike.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Outcome;
use crate::events;
use crate::figures::{Figures, Table, count, milliseconds, percentile, shown};
use crate::lambda::{Fleet, Lambda, idle};
use crate::plan::{Described, Starts};
use crate::processes::Process;
use crate::runtime::Function;
use crate::world::{ChatPosition, World};

/// The function that all others are compared with.
pub(crate) const HELLO: &str = "hello";
/// Starts of each function.
const STARTS: usize = 20;
/// Events of each function, unless they take longer than [`MAX_DURATION`].
const EVENTS: usize = 1000;
const MAX_DURATION: Duration = Duration::from_secs(6);
/// An id that nothing has.
const UNKNOWN_ID: &str = "9000000000000000";

/// The measurements of a function; times in milliseconds.
#[derive(Default)]
struct Seen {
    ready: Vec<f64>,
    first: Vec<f64>,
    warm: Vec<f64>,
    cpu_ms: f64,
    memory_mb: f64,
}

/// Measures the hello alone: its computing time for an event is the unit for that of the others.
pub(crate) async fn measure_hello(lambda: &Lambda, figures: &mut Figures) -> Outcome<()> {
    let fleet = lambda.fleet(HELLO, 1, &[]).await?;
    let event = events::of_request("GET", "/hello", &[], None);
    fleet.function.invoke(&event).await?.body?;
    let mut rounds = Vec::new();
    for _ in 0..5 {
        let before = fleet.cpu_ms();
        for _ in 0..EVENTS {
            fleet.function.invoke(&event).await?.body?;
        }
        rounds.push((fleet.cpu_ms() - before) / count(EVENTS));
    }
    // The round that was disturbed least, as with the figures that are compared with it.
    figures.note("hello/cpu_ms", percentile(&rounds, 0.0));
    fleet.stop().await;
    Ok(())
}

/// Measures all functions.
pub(crate) async fn measure(lambda: &Lambda, world: &mut World, figures: &mut Figures) -> Outcome<Table> {
    world.grow(lambda, 1).await?;
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let feeder = Feeder::start(lambda).await?;
    for _ in 0..STARTS {
        for described in &lambda.plan.functions {
            // The function before woke workers that were not running.
            world.forget().await?;
            let subject = Subject::start(lambda, described).await?;
            let seen = seen.entry(described.name.clone()).or_default();
            seen.ready.push(milliseconds(subject.process.ready));
            seen.first.push(subject.work(world, &feeder).await?);
            subject.stop(lambda).await;
        }
    }
    for described in &lambda.plan.functions {
        world.forget().await?;
        let subject = Subject::start(lambda, described).await?;
        let seen = seen.entry(described.name.clone()).or_default();
        subject.work(world, &feeder).await?;
        let (before, began) = (subject.process.cpu_ms(), Instant::now());
        while seen.warm.len() < EVENTS && began.elapsed() < MAX_DURATION {
            seen.warm.push(subject.work(world, &feeder).await?);
        }
        seen.cpu_ms = (subject.process.cpu_ms() - before) / count(seen.warm.len());
        seen.memory_mb = subject.process.memory_mb();
        subject.stop(lambda).await;
    }
    feeder.stop().await;
    world.forget_and_analyze(lambda).await?;
    Ok(report(&lambda.plan.functions, &seen, figures))
}

/// A function with one process.
struct Subject {
    function: Arc<Function>,
    process: Process,
}

/// The webhooks that give workers something to do.
struct Feeder {
    avito: Fleet,
    telegram: Fleet,
}

impl Feeder {
    async fn start(lambda: &Lambda) -> Outcome<Self> {
        let avito = lambda.fleet("avito-webhook", 1, &[]).await?;
        Ok(Self { avito, telegram: lambda.fleet("telegram-webhook", 1, &[]).await? })
    }

    async fn stop(self) {
        self.avito.stop().await;
        self.telegram.stop().await;
    }
}

impl Subject {
    async fn start(lambda: &Lambda, described: &Described) -> Outcome<Self> {
        let function = Function::new(described.clone());
        lambda.queues.attach(&function);
        let process = Process::start(lambda, &function, &[]).await?;
        Ok(Self { function, process })
    }

    async fn stop(self, lambda: &Lambda) {
        lambda.queues.detach_all();
        self.process.stop().await;
    }

    /// Gives the function one thing to do. Returns the milliseconds that it took.
    async fn work(&self, world: &mut World, feeder: &Feeder) -> Outcome<f64> {
        let position = ChatPosition { tenant: 0, chat: 0 };
        let took = match self.function.name() {
            "deliver-to-telegram" => self.feed(&feeder.avito, &world.buyer_writes(position).event).await?,
            "deliver-to-avito" => self.feed(&feeder.telegram, &world.operator_writes(position).await?.event).await?,
            name => {
                let event = match name {
                    "avito-webhook" => world.buyer_writes(position).event,
                    "telegram-webhook" => world.operator_writes(position).await?.event,
                    _ => event(&self.function.described, world),
                };
                self.function.invoke(&event).await?.took
            }
        };
        Ok(milliseconds(took))
    }

    /// Has a webhook bring something and the queue wake this worker. Returns the time that the worker took.
    async fn feed(&self, webhook: &Fleet, event: &Value) -> Outcome<Duration> {
        webhook.function.invoke(event).await?.body?;
        idle(&[&self.function], Duration::from_secs(20)).await?;
        let took = self.function.take_times().into_iter().max();
        took.ok_or_else(|| format!("{} was not woken", self.function.name()).into())
    }
}

/// An event that a function can deal with, and that changes nothing.
fn event(function: &Described, world: &World) -> Value {
    let tenant = &world.tenants[0];
    match &function.starts {
        Starts::Http { method, path } => {
            let segment = |part: &str| if part.starts_with('{') { UNKNOWN_ID.to_owned() } else { part.to_owned() };
            let path = path.split('/').map(segment).collect::<Vec<_>>().join("/");
            let bearer = format!("Bearer {}", tenant.token);
            let body = (method != "GET").then(|| json!({}));
            events::of_request(method, &path, &[("authorization", &bearer)], body.as_ref())
        }
        Starts::Queue { queue, .. } => {
            let task = match queue.as_str() {
                "PollQueue" => {
                    json!({ "v": "1", "account_ids": [tenant.account_id], "due": Timestamp::now().to_string() })
                }
                "IntakeQueue" => json!({ "v": "1", "account_id": tenant.account_id, "payload": "{}" }),
                "AutoReplyQueue" => json!({ "v": "1", "dialog_id": 1, "scheduled_at": Timestamp::now().to_string() }),
                _ => json!({ "v": "1", "bot_id": tenant.bot_id, "id": 1 }),
            };
            events::of_queue(&[task.to_string()])
        }
        Starts::Event {} => json!({}),
    }
}

fn report(functions: &[Described], seen: &BTreeMap<String, Seen>, figures: &mut Figures) -> Table {
    let head = [
        "function",
        "ready, ms",
        "× hello",
        "first event, ms",
        "warm p50, ms",
        "p99",
        "CPU, ms",
        "memory, MB",
        "zipped, MB",
    ];
    let mut table = Table::new("Functions, each beside a bare `lambda_http` hello", &head);
    let middle = |samples: &[f64]| percentile(samples, 0.5);
    let hello = &seen[HELLO];
    let hello_zipped = functions.iter().find(|function| function.name == HELLO).map_or(1, |hello| hello.zipped_bytes);
    for function in functions {
        let (name, seen) = (&function.name, &seen[&function.name]);
        // The start that was disturbed least by other work of the machine.
        let ratio = percentile(&seen.ready, 0.0) / percentile(&hello.ready, 0.0);
        let kind = if function.starts.is_endpoint() { "endpoint" } else { "worker" };
        #[expect(clippy::cast_precision_loss, reason = "sizes of files")]
        let (zipped, hello_zipped) = (function.zipped_bytes as f64 / 1e6, hello_zipped as f64 / 1e6);
        if name != HELLO {
            figures.compare(format!("startup/{name}/ready, times hello"), ratio);
            figures.compare(format!("startup/{name}/memory, times hello"), seen.memory_mb / hello.memory_mb);
            figures.compare(format!("startup/{name}/size, times hello"), zipped / hello_zipped);
            for (what, value) in [("ready, times hello", ratio), ("memory, MB", seen.memory_mb), ("size, MB", zipped)] {
                let worst = format!("worst {kind}/{what}");
                figures.note(worst.clone(), value.max(figures.get(&worst).unwrap_or_default()));
            }
        }
        table.row([
            name.clone(),
            shown(middle(&seen.ready)),
            shown(ratio),
            shown(middle(&seen.first)),
            shown(middle(&seen.warm)),
            shown(percentile(&seen.warm, 0.99)),
            shown(seen.cpu_ms),
            shown(seen.memory_mb),
            shown(zipped),
        ]);
    }
    table
}
