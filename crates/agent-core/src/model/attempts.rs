//! How often a model may be asked for one answer, counted in one place whoever repeats, and what came of it.

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::provenance::Attempted;

/// The attempts left for one turn of an agent. Shared by all clones: repairs, retries and fallbacks draw on the same number.
#[derive(Debug, Clone)]
pub struct Attempts {
    /// `None` where nobody counts.
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    left: AtomicU32,
    /// What was tried, until whoever is in charge takes it.
    made: Mutex<Vec<Attempted>>,
}

/// How many attempts are remembered until somebody takes them: more than any turn has.
const MOST_MADE: usize = 1_000;

impl Attempts {
    /// This many attempts, the first one included.
    #[must_use]
    pub fn new(attempts: u32) -> Self {
        Self { shared: Some(Arc::new(Shared { left: AtomicU32::new(attempts), made: Mutex::default() })) }
    }

    /// As many as a caller likes, of which the last 1,000 are remembered: what holds outside of a Main Agent's turns.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::new(u32::MAX)
    }

    /// As many as a caller likes, which nobody asks about: what holds in the calls of tools, of which there are many.
    pub(crate) const fn uncounted() -> Self {
        Self { shared: None }
    }

    pub(crate) const fn are_counted(&self) -> bool {
        self.shared.is_some()
    }

    /// Takes one attempt. `false` when none is left.
    #[must_use]
    pub fn take(&self) -> bool {
        let Some(shared) = &self.shared else { return true };
        let take = |left| match left {
            u32::MAX => Some(left),
            left => left.checked_sub(1),
        };
        shared.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Sets how many are left.
    pub(crate) fn refill(&self, attempts: u32) {
        if let Some(shared) = &self.shared {
            shared.left.store(attempts, Ordering::Relaxed);
        }
    }

    /// How many are left.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.shared.as_ref().map_or(u32::MAX, |shared| shared.left.load(Ordering::Relaxed))
    }

    /// Notes an attempt that was made.
    pub(crate) fn note(&self, attempt: Attempted) {
        let Some(shared) = &self.shared else { return };
        let mut made = shared.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= MOST_MADE {
            made.remove(0);
        }
        attempt.append_to(&mut made);
    }

    /// Takes what was noted since this was called last.
    #[must_use]
    pub fn take_made(&self) -> Vec<Attempted> {
        let Some(shared) = &self.shared else { return Vec::new() };
        mem::take(&mut *shared.made.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
