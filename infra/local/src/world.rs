//! Everything the simulators remember, behind one lock: they are small, and a single order of events is easy to reason
//! about. Nothing waits for the network while it holds the lock.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::attempts::Attempts;
use crate::avito::state::AvitoState;
use crate::calls::Calls;
use crate::faults::Faults;
use crate::telegram::limits::Limits;
use crate::telegram::state::TelegramState;

/// What both services remember. Faults, limits and records belong to one run, so they are not saved.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) telegram: TelegramState,
    pub(crate) avito: AvitoState,
    #[serde(skip)]
    pub(crate) faults: Faults,
    #[serde(skip)]
    pub(crate) limits: Limits,
    #[serde(skip)]
    pub(crate) calls: Calls,
    #[serde(skip)]
    pub(crate) attempts: Attempts,
}

/// A queue of webhook deliveries that has its own order: one chat of one receiver.
pub(crate) type QueueKey = (String, String);

/// The state, and what sends webhooks from it.
pub(crate) struct World {
    state: Mutex<State>,
    busy_queues: Mutex<HashSet<QueueKey>>,
    connections: Mutex<BTreeMap<i64, Arc<Semaphore>>>,
    stopped: AtomicBool,
    /// Where pictures of the Avito simulator are served.
    pub(crate) avito_base: Option<String>,
    /// Whether the Telegram simulator listens.
    pub(crate) serves_telegram: bool,
    /// Sends webhooks and fetches pictures. Never through a proxy: everything is on this machine.
    pub(crate) client: reqwest::Client,
}

impl World {
    pub(crate) fn new(state: State, avito_base: Option<String>, serves_telegram: bool) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .build()?;
        Ok(Self {
            state: Mutex::new(state),
            busy_queues: Mutex::default(),
            connections: Mutex::default(),
            stopped: AtomicBool::new(false),
            avito_base,
            serves_telegram,
            client,
        })
    }

    /// The state. A panic while it was held has already failed the call that held it, so the rest goes on.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No webhook begins from now on.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it is over.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Claims a queue for one sender. `false`: somebody sends from it already.
    pub(crate) fn claim(&self, queue: &QueueKey) -> bool {
        self.busy_queues.lock().unwrap_or_else(PoisonError::into_inner).insert(queue.clone())
    }

    /// Gives a queue back.
    pub(crate) fn release(&self, queue: &QueueKey) {
        self.busy_queues.lock().unwrap_or_else(PoisonError::into_inner).remove(queue);
    }

    /// How many updates a bot may receive at once (`max_connections`, 40 by default).
    pub(crate) fn connections(&self, bot: i64, max: usize, renew: bool) -> Arc<Semaphore> {
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if renew {
            all.remove(&bot);
        }
        Arc::clone(all.entry(bot).or_insert_with(|| Arc::new(Semaphore::new(max.max(1)))))
    }

    /// Forgets all but the counters, so that an id is never given twice to somebody who remembers the first.
    pub(crate) fn reset(&self) {
        let mut state = self.state();
        let telegram = state.telegram.emptied();
        *state = State { telegram, ..State::default() };
    }
}

/// Unix time in seconds, as both services write it.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The length as a number that JSON and the counters share.
pub(crate) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
