//! How often a model may be asked for one answer, counted in one place whoever repeats, and what came of it.

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::provenance::Attempted;

/// The attempts left for one turn of an agent. Shared by all clones: repairs, retries and fallbacks draw on the same number.
#[derive(Debug, Clone)]
pub struct Attempts {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    left: AtomicU32,
    /// What was tried, until whoever is in charge takes it.
    made: Mutex<Vec<Attempted>>,
}

impl Attempts {
    /// This many attempts, the first one included.
    #[must_use]
    pub fn new(attempts: u32) -> Self {
        Self { shared: Arc::new(Shared { left: AtomicU32::new(attempts), made: Mutex::default() }) }
    }

    /// As many as a caller likes: what holds outside of a Main Agent's turns.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::new(u32::MAX)
    }

    /// Takes one attempt. `false` when none is left.
    #[must_use]
    pub fn take(&self) -> bool {
        let left = &self.shared.left;
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
            u32::MAX => Some(left),
            left => left.checked_sub(1),
        })
        .is_ok()
    }

    /// Sets how many are left.
    pub(crate) fn refill(&self, attempts: u32) {
        self.shared.left.store(attempts, Ordering::Relaxed);
    }

    /// How many are left.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.shared.left.load(Ordering::Relaxed)
    }

    /// Notes an attempt that was made.
    pub(crate) fn note(&self, attempt: Attempted) {
        attempt.append_to(&mut self.shared.made.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes what was noted since this was called last.
    #[must_use]
    pub fn take_made(&self) -> Vec<Attempted> {
        mem::take(&mut *self.shared.made.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
