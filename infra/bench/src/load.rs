//! Messages through the bridge: hands webhooks over at a given pace, sees them arrive on the other side by the
//! simulators' records, and adds up the time and the calls of the functions in between.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tuberry_local::proxy::Proxy;

use crate::Outcome;
use crate::figures::{count, milliseconds};
use crate::lambda::{Fleet, Lambda, idle};
use crate::processes::{children_cpu_ms, cpu_ms};
use crate::world::{ChatPosition, World, Written, chat_positions, numbers};

/// The direction of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From a buyer to the topic.
    Inbound,
    /// From the topic to a buyer.
    Outbound,
}

impl Direction {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }

    /// The functions that a message passes, the webhook's first.
    fn functions(self) -> &'static [&'static str] {
        match self {
            Self::Inbound => &["avito-webhook", "deliver-to-telegram"],
            Self::Outbound => &["telegram-webhook", "deliver-to-avito", "deliver-to-telegram"],
        }
    }

    /// The call by which a message arrives.
    fn arrival(self) -> (&'static str, &'static str) {
        match self {
            Self::Inbound => ("telegram", "sendMessage"),
            Self::Outbound => ("avito", "messages.send"),
        }
    }
}

/// The messages to send, and their pace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) direction: Direction,
    pub(crate) tenants: usize,
    /// Processes of each function.
    pub(crate) processes: usize,
    /// The time that Telegram and Avito take for an answer.
    pub(crate) latency_ms: u64,
    pub(crate) messages: usize,
    pub(crate) pace: Pace,
}

/// The moment at which the next message is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As soon as fewer than this are under way for its organisation, each in a chat of its own. So each organisation
    /// always has something to do, and none waits for a slower one.
    UnderWay(usize),
    /// At this rate a second, independently of the messages under way.
    PerSecond(f64),
    /// After the one before has arrived and everything is done. A proxy counts the round trips to Postgres.
    OneByOne,
}

/// The measurements of a load.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) messages: f64,
    /// From the first webhook to the last arrival.
    pub(crate) seconds: f64,
    /// From the last arrival until all is done: outbound, until the last receipt is set.
    pub(crate) seconds_until_done: f64,
    pub(crate) functions: Vec<Part>,
    pub(crate) postgres_cpu_ms: f64,
    pub(crate) simulators_cpu_ms: f64,
    pub(crate) telegram_calls: f64,
    pub(crate) avito_calls: f64,
    pub(crate) queue_requests: f64,
    /// Counted only when messages go one by one.
    pub(crate) postgres_round_trips: f64,
}

/// The measurements of one function.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) memory_mb: u32,
    pub(crate) is_worker: bool,
    pub(crate) invocations: f64,
    /// Each invocation rounded up to a millisecond, as Lambda bills it.
    pub(crate) billed_ms: f64,
    pub(crate) cpu_ms: f64,
    pub(crate) resident_mb: f64,
}

impl Taken {
    pub(crate) fn per_second(&self) -> f64 {
        self.messages / self.seconds
    }

    pub(crate) fn cpu_ms_per_message(&self) -> f64 {
        self.functions.iter().map(|part| part.cpu_ms).sum::<f64>() / self.messages
    }
}

/// A load under way.
struct Run<'a> {
    lambda: &'a Lambda,
    world: &'a mut World,
    load: Load,
    fleets: Vec<Fleet>,
    free: VecDeque<ChatPosition>,
    under_way: HashMap<u64, ChatPosition>,
    webhooks: JoinSet<Outcome<()>>,
    seen: u64,
    calls: [f64; 2],
}

/// The longest time that a message may be under way.
const LOST_AFTER: Duration = Duration::from_secs(60);
const READ_INTERVAL: Duration = Duration::from_millis(8);

/// Sends a load through the bridge.
pub(crate) async fn run(lambda: &Lambda, world: &mut World, load: Load) -> Outcome<Taken> {
    world.forget_and_analyze(lambda).await?;
    world.simulators.set_latency(load.latency_ms).await?;
    let proxy = Proxy::start(&lambda.plan.database, 0).await?;
    let counted = matches!(load.pace, Pace::OneByOne);
    let through_proxy = [("DATABASE_URL", proxy.address.as_str())];
    let mut fleets = Vec::new();
    for name in load.direction.functions() {
        let fleet = lambda.fleet(name, load.processes, if counted { &through_proxy } else { &[] }).await?;
        lambda.queues.attach(&fleet.function);
        fleets.push(fleet);
    }
    let free = chat_positions(load.tenants).collect();
    let seen = world.simulators.calls_so_far().await?;
    let (under_way, webhooks) = (HashMap::new(), JoinSet::new());
    let mut run = Run { lambda, world, load, fleets, free, under_way, webhooks, seen, calls: [0.0; 2] };
    // Each process opens its connections before anything is measured.
    run.send(load.processes.max(2) * 4, Pace::UnderWay(load.processes.max(2) * 4)).await?;
    let taken = run.measured(&proxy).await;
    lambda.queues.detach_all();
    for fleet in run.fleets {
        fleet.stop().await;
    }
    world.simulators.set_latency(0).await?;
    taken
}

impl Run<'_> {
    async fn measured(&mut self, proxy: &Proxy) -> Outcome<Taken> {
        let before: Vec<f64> = self.fleets.iter().map(Fleet::cpu_ms).collect();
        self.fleets.iter().for_each(|fleet| drop(fleet.function.take_times()));
        let plan = &self.lambda.plan;
        let (postgres, simulators) = (children_cpu_ms(plan.postgres_pid), cpu_ms(plan.simulators_pid));
        let (requests, round_trips) = (self.lambda.queues.counted().0, proxy.round_trips());
        self.calls = [0.0; 2];
        let (seconds, seconds_until_done) = self.send(self.load.messages, self.load.pace).await?;
        let parts = self.fleets.iter().zip(before);
        Ok(Taken {
            messages: count(self.load.messages),
            seconds,
            seconds_until_done,
            postgres_cpu_ms: children_cpu_ms(plan.postgres_pid) - postgres,
            simulators_cpu_ms: cpu_ms(plan.simulators_pid) - simulators,
            functions: parts.map(|(fleet, before)| Part::of(fleet, before)).collect(),
            telegram_calls: self.calls[0],
            avito_calls: self.calls[1],
            queue_requests: count(usize::try_from(self.lambda.queues.counted().0 - requests)?),
            postgres_round_trips: count(proxy.round_trips() - round_trips),
        })
    }

    /// Has so many messages written, waits for their arrival and until everything is done. Returns the seconds from the
    /// first webhook to the last arrival, and from there to the end.
    async fn send(&mut self, messages: usize, pace: Pace) -> Outcome<(f64, f64)> {
        let written = self.prepare(messages).await?;
        let (began, mut sent) = (Instant::now(), 0_usize);
        let (mut last_arrival, mut waiting) = (began, VecDeque::from(written));
        loop {
            let next = match pace {
                Pace::UnderWay(most) => self.next_of_each(&mut waiting, most),
                Pace::PerSecond(rate) => {
                    let due = due(rate, began.elapsed()).saturating_sub(sent).min(waiting.len());
                    waiting.drain(..due).collect()
                }
                Pace::OneByOne if self.under_way.is_empty() && self.is_idle() => {
                    waiting.pop_front().into_iter().collect()
                }
                Pace::OneByOne => Vec::new(),
            };
            sent += next.len();
            for (position, written) in next {
                self.hand_over(position, written);
            }
            while let Some(answered) = self.webhooks.try_join_next() {
                answered??;
            }
            tokio::time::sleep(READ_INTERVAL).await;
            if self.read_calls().await? > 0 {
                last_arrival = Instant::now();
            }
            if sent == messages && self.under_way.is_empty() {
                break;
            }
            if last_arrival.elapsed() > LOST_AFTER {
                return Err(format!("{} messages did not arrive", self.under_way.len()).into());
            }
        }
        let functions: Vec<_> = self.fleets.iter().map(|fleet| &fleet.function).collect();
        idle(&functions, LOST_AFTER).await?;
        let until_done = last_arrival.elapsed();
        if let Some(function) = functions.iter().find(|function| function.returned() > 0) {
            return Err(format!("{} gave a task back; see its log", function.name()).into());
        }
        self.read_calls().await?;
        Ok(((last_arrival - began).as_secs_f64(), until_done.as_secs_f64()))
    }

    /// Takes what may be sent now for each organisation to have `most` under way.
    fn next_of_each(
        &self,
        waiting: &mut VecDeque<(ChatPosition, Written)>,
        most: usize,
    ) -> Vec<(ChatPosition, Written)> {
        let mut under_way: HashMap<usize, usize> = HashMap::new();
        for position in self.under_way.values() {
            *under_way.entry(position.tenant).or_default() += 1;
        }
        let (next, rest): (VecDeque<_>, _) = waiting.drain(..).partition(|(position, _)| {
            let count = under_way.entry(position.tenant).or_default();
            *count += 1;
            *count <= most
        });
        *waiting = rest;
        next.into()
    }

    /// Prepares the messages that people will write, each chat in turn. Outbound, the notes are put into the topics
    /// now.
    async fn prepare(&mut self, messages: usize) -> Outcome<Vec<(ChatPosition, Written)>> {
        let mut written = Vec::with_capacity(messages);
        for _ in 0..messages {
            let position = self.free.pop_front().ok_or("no chat is left")?;
            self.free.push_back(position);
            written.push(match self.load.direction {
                Direction::Inbound => (position, self.world.buyer_writes(position)),
                Direction::Outbound => (position, self.world.operator_writes(position).await?),
            });
        }
        self.read_calls().await?;
        Ok(written)
    }

    fn hand_over(&mut self, position: ChatPosition, written: Written) {
        self.under_way.insert(written.number, position);
        let webhook = std::sync::Arc::clone(&self.fleets[0].function);
        self.webhooks.spawn(async move {
            let answer = webhook.invoke(&written.event).await?.body?;
            if answer["statusCode"] == 200 {
                Ok(())
            } else {
                Err(format!("a webhook was answered with {answer}").into())
            }
        });
    }

    /// Reads the calls since the last time. Returns the number of messages that have arrived.
    async fn read_calls(&mut self) -> Outcome<usize> {
        let (calls, next) = self.world.simulators.calls(self.seen).await?;
        self.seen = next;
        let before = self.under_way.len();
        for call in calls {
            if call.status != 200 {
                return Err(format!("{} was answered with {}", call.method, call.status).into());
            }
            self.calls[usize::from(call.target != "telegram")] += 1.0;
            if (call.target.as_str(), call.method.as_str()) == self.load.direction.arrival() {
                let text = call.params["text"].as_str().or_else(|| call.params["message"]["text"].as_str());
                for number in numbers(text.unwrap_or_default()) {
                    self.under_way.remove(&number);
                }
            }
        }
        Ok(before - self.under_way.len())
    }

    fn is_idle(&self) -> bool {
        self.fleets.iter().all(|fleet| fleet.function.is_idle())
    }
}

impl Part {
    pub(crate) fn of(fleet: &Fleet, cpu_before: f64) -> Self {
        let times = fleet.function.take_times();
        Self {
            name: fleet.function.name().to_owned(),
            memory_mb: fleet.function.described.memory_mb,
            is_worker: !fleet.function.described.starts.is_endpoint(),
            invocations: count(times.len()),
            billed_ms: times.iter().map(|took| milliseconds(*took).ceil()).sum(),
            cpu_ms: fleet.cpu_ms() - cpu_before,
            resident_mb: fleet.memory_mb(),
        }
    }
}

/// The number of messages that are due after a while.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand at the most")]
fn due(rate: f64, elapsed: Duration) -> usize {
    (rate * elapsed.as_secs_f64()).floor() as usize + 1
}
