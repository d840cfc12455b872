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
use crate::proxy::Proxy;
use crate::telegram::limits::Limits;
use crate::telegram::state::TelegramState;

/// The state of both services. Faults, limits and records belong to one run, so they are not saved.
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

/// The key of a delivery queue. The webhooks of one chat to one receiver keep their order.
pub(crate) type QueueKey = (String, String);

/// The state, and the means to send webhooks from it.
pub(crate) struct World {
    state: Mutex<State>,
    busy_queues: Mutex<HashSet<QueueKey>>,
    connections: Mutex<BTreeMap<i64, Arc<Semaphore>>>,
    stopped: AtomicBool,
    /// The address of the Avito simulator, which serves its pictures.
    pub(crate) avito_base: Option<String>,
    /// True if the Telegram simulator listens.
    pub(crate) serves_telegram: bool,
    /// The proxy in front of the queues. None: functions reach them directly.
    pub(crate) queues: Option<Proxy>,
    /// Sends webhooks and fetches pictures. Never through a proxy: everything is on this machine.
    pub(crate) client: reqwest::Client,
}

impl World {
    pub(crate) fn new(
        state: State,
        avito_base: Option<String>,
        serves_telegram: bool,
        queues: Option<Proxy>,
    ) -> reqwest::Result<Self> {
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
            queues,
            client,
        })
    }

    /// The state. A panic under its lock has already failed the call that panicked, so the other calls go on.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts no webhook any more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// True after `stop`.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Claims a queue for one sender. `false`: another sender has it.
    pub(crate) fn claim(&self, queue: &QueueKey) -> bool {
        self.busy_queues.lock().unwrap_or_else(PoisonError::into_inner).insert(queue.clone())
    }

    /// Releases a queue.
    pub(crate) fn release(&self, queue: &QueueKey) {
        self.busy_queues.lock().unwrap_or_else(PoisonError::into_inner).remove(queue);
    }

    /// The slots for updates that a bot receives at once (`max_connections`, 40 by default).
    pub(crate) fn connections(&self, bot: i64, max: usize, renew: bool) -> Arc<Semaphore> {
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if renew {
            all.remove(&bot);
        }
        Arc::clone(all.entry(bot).or_insert_with(|| Arc::new(Semaphore::new(max.max(1)))))
    }

    /// Forgets all but the counters: a database that outlives the reset must never meet an id again.
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

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The length as a number that JSON and the counters share.
pub(crate) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
