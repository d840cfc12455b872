//! The bridge's promise as figures: many messages each way while everything that can break does, and then a count of
//! those that were lost, doubled or mixed up. No other test runs meanwhile (`.config/nextest.toml`), because this one
//! kills the processes that every other test needs. `make faults` runs the large size; a small one is among the tests.
//! A seed repeats the faults and their times.

#![cfg(target_os = "linux")]
#![expect(clippy::print_stdout, reason = "the figures are the result")]

mod people;
#[path = "../e2e/processes.rs"]
mod processes;
#[path = "../e2e/support/mod.rs"]
mod support;
mod troubles;
mod verdict;

use std::time::{Duration, Instant};

use rand::RngExt;

use people::Market;
use verdict::Verdict;

/// The number of messages, and the time for which things break.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    tenants: usize,
    chats: usize,
    /// The number each way, over all chats.
    messages: usize,
    kills: usize,
    lasts: Duration,
}

/// The time after the last fault within which everything has arrived.
const QUIET_WITHIN: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_minutes_in_which_everything_breaks_lose_nothing_and_mix_nothing_up() {
    let size = Size { tenants: 2, chats: 8, messages: 160, kills: 20, lasts: Duration::from_secs(50) };
    run_and_count(size).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes a quarter of an hour: `make faults` runs it"]
async fn two_thousand_messages_each_way_while_everything_breaks() {
    let size = Size { tenants: 5, chats: 50, messages: 2000, kills: 220, lasts: Duration::from_mins(8) };
    run_and_count(size).await;
}

async fn run_and_count(size: Size) {
    let seed = std::env::var("FAULTS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("{size:?}, FAULTS_SEED={seed}");
    let market = Market::open(size).await;
    let troubles = async {
        troubles::befall(&market, seed).await;
        Instant::now()
    };
    let ((), last_fault) = tokio::join!(market.talk(seed), troubles);
    let quiet = market.quiet_within(2 * QUIET_WITHIN).await;
    let took = last_fault.elapsed();
    let verdict = Verdict::reach(&market).await;
    println!("{verdict}");
    println!("quiet {:.0} s after the last fault", took.as_secs_f64());
    assert!(quiet && took <= QUIET_WITHIN, "still at work after {took:?}");
    verdict.assert_promises();
}
