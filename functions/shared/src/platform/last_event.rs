//! The last time of an event in this process, which acts on it for a while.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The moment of the last event. None: it has not happened yet.
#[derive(Debug, Default)]
pub struct LastEvent(Mutex<Option<Instant>>);

impl LastEvent {
    /// Starts without an event.
    pub const fn never() -> Self {
        Self(Mutex::new(None))
    }

    /// Records that the event happens now.
    pub fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// True if the event happened within the last `period`.
    pub fn is_within(&self, period: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() < period)
    }
}
