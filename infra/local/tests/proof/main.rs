//! The bridge's promise as figures: many messages each way while everything that can break does, and then a count of
//! those that were lost, doubled or mixed up. No other test runs meanwhile (`.config/nextest.toml`), because this one
//! kills the processes that every other test needs. `make faults` runs the large size, or as many messages as
//! `FAULTS_MESSAGES` says; a small one is among the tests. A seed repeats the faults and their times.

#![cfg(target_os = "linux")]
#![expect(clippy::print_stdout, reason = "the figures are the result")]

mod figures;
mod people;
#[path = "../e2e/processes.rs"]
mod processes;
#[path = "../e2e/support/mod.rs"]
mod support;
mod troubles;
mod verdict;
mod webhooks;

use std::time::{Duration, Instant};

use rand::RngExt;

use figures::Figures;
use people::Market;
use verdict::Verdict;
use webhooks::Webhooks;

/// The number of messages, and the time for which things break.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    tenants: usize,
    chats: usize,
    /// The number each way, over all chats.
    messages: usize,
    kills: usize,
    /// The number of times that each event happens.
    rounds: usize,
    lasts: Duration,
}

/// The time after the last fault within which everything has arrived.
const QUIET_WITHIN: Duration = Duration::from_mins(3);
/// The time that people get in the end for what they could not write meanwhile.
const OVERTIME: Duration = Duration::from_mins(4);

impl Size {
    /// The size for so many messages each way. Up to 2,000 they come at 250 a minute; more of them take longer than
    /// those 8 minutes only from 1,400 a minute on: so that 100,000 end within 90 minutes. A group takes 50 a minute.
    fn of(messages: usize) -> Self {
        let seconds = |a_minute: usize| Duration::from_secs_f64(60.0 * float(messages) / float(a_minute));
        let most = Duration::from_mins(8);
        let lasts = seconds(250).clamp(Duration::from_secs(50), most).max(seconds(1400));
        let minutes = lasts.as_secs_f64() / 60.0;
        // Each of these is a small number above 0.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
        let whole = |number: f64| number.round().max(1.0) as usize;
        let tenants = whole(float(messages) / minutes / 50.0).max(5);
        let chats = (tenants * 10).min(messages.max(tenants));
        let rounds = whole(minutes / 8.0);
        Self { tenants, chats, messages, kills: whole(minutes * 27.5), rounds, lasts }
    }
}

/// Returns a count as a number to divide with.
pub(crate) fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a number of messages"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_minutes_in_which_everything_breaks_lose_nothing_and_mix_nothing_up() {
    let lasts = Duration::from_secs(50);
    run_and_count(Size { tenants: 2, chats: 8, messages: 160, kills: 20, rounds: 1, lasts }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes a quarter of an hour or, with FAULTS_MESSAGES, up to ninety minutes: `make faults` runs it"]
async fn as_many_messages_as_asked_for_each_way_while_everything_breaks() {
    let messages = std::env::var("FAULTS_MESSAGES").ok().filter(|number| !number.is_empty());
    let messages = messages.map_or(2000, |number| number.parse().expect("FAULTS_MESSAGES is a number"));
    assert!((10..=1_000_000).contains(&messages), "FAULTS_MESSAGES is from 10 to 1000000");
    run_and_count(Size::of(messages)).await;
}

async fn run_and_count(size: Size) {
    let seed = std::env::var("FAULTS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("{size:?}, FAULTS_SEED={seed}");
    let market = Market::open(size).await;
    let webhooks = Webhooks::collect().await;
    let troubles = async {
        let killed = troubles::befall(&market, seed).await;
        (killed, Instant::now())
    };
    let ((), (killed, last_fault)) = tokio::join!(market.talk(seed), troubles);
    let is_quiet = market.quiet_within(2 * QUIET_WITHIN).await;
    let took = last_fault.elapsed();
    let verdict = Verdict::reach(&market, &webhooks.all().await).await;
    println!("{verdict}\n{}", Figures(&verdict));
    println!("{killed} functions killed, quiet {:.0} s after the last fault", took.as_secs_f64());
    let unwritten = market.unwritten();
    assert_eq!(unwritten, 0, "people could not write these within the time and {OVERTIME:?} more");
    assert!(is_quiet && took <= QUIET_WITHIN, "still at work after {took:?}");
    verdict.assert_promises();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_the_messages_asked_for_and_ends_within_its_time() {
        let usual = Size::of(2000);
        assert_eq!((usual.tenants, usual.chats, usual.kills, usual.rounds), (5, 50, 220, 1));
        assert_eq!(usual.lasts, Duration::from_mins(8));
        let large = Size::of(100_000);
        assert!(large.lasts + OVERTIME + 2 * QUIET_WITHIN < Duration::from_mins(85), "{large:?}");
        assert!((25..=30).contains(&large.tenants) && large.rounds == 9, "{large:?}");
        assert!(Size::of(20_000).lasts < Duration::from_mins(20));
        assert_eq!(Size::of(10).chats, 10);
    }
}
