//! When something last happened to this process: what it has learned so, it goes by for a while.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The moment at which something last happened, if it did.
#[derive(Debug, Default)]
pub struct LastEvent(Mutex<Option<Instant>>);

impl LastEvent {
    /// Nothing has happened yet.
    pub const fn never() -> Self {
        Self(Mutex::new(None))
    }

    /// It happens now.
    pub fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether it happened within the last `period`.
    pub fn is_within(&self, period: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() < period)
    }
}
