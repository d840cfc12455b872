//! The times at which Avito's webhooks were delivered, read while the run lasts: the simulators keep only the newest
//! ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::people::list;
use super::support::Stack;

const PAUSE: Duration = Duration::from_secs(5);
/// Their number in one answer.
const PAGE: usize = 20_000;

/// The time during which a webhook was delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeliveryTime {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

/// The first accepted delivery of each message, by Avito's id of it.
pub(crate) type DeliveryTimes = HashMap<String, DeliveryTime>;

/// A reader of the record.
pub(crate) struct Webhooks {
    record: Arc<Mutex<Record>>,
    reader: JoinHandle<()>,
}

#[derive(Default)]
struct Record {
    times: DeliveryTimes,
    since: u64,
}

impl Webhooks {
    /// Begins to read, from now on.
    pub(crate) async fn collect() -> Self {
        let since = Stack::new().ask(&format!("webhooks?since={}", u64::MAX)).await["next"].as_u64();
        let record = Record { since: since.expect("a number"), ..Record::default() };
        let record = Arc::new(Mutex::new(record));
        let shared = Arc::clone(&record);
        let reader = tokio::spawn(async move {
            loop {
                read(&shared).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { record, reader }
    }

    /// Reads the rest, and returns all.
    pub(crate) async fn all(self) -> DeliveryTimes {
        self.reader.abort();
        let _ = self.reader.await;
        read(&self.record).await;
        std::mem::take(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner).times)
    }
}

/// Reads all that is new, page by page.
async fn read(record: &Mutex<Record>) {
    let stack = Stack::new();
    loop {
        let since = record.lock().unwrap_or_else(PoisonError::into_inner).since;
        let answer = stack.ask(&format!("webhooks?target=avito&since={since}&limit={PAGE}")).await;
        let attempts = list(&answer, "attempts");
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.since = answer["next"].as_u64().expect("a number");
        for attempt in attempts.iter().filter(|attempt| attempt["status"] == 200) {
            let (id, time) = delivery(attempt).expect("an attempt");
            record.times.entry(id).or_insert(time);
        }
        if attempts.len() < PAGE {
            return;
        }
    }
}

fn delivery(attempt: &Value) -> Option<(String, DeliveryTime)> {
    let until: Timestamp = attempt["at"].as_str()?.parse().ok()?;
    let lasted = Duration::from_millis(attempt["duration_ms"].as_u64()?);
    Some((attempt["id"].as_str()?.to_owned(), DeliveryTime { from: until - lasted, until }))
}
