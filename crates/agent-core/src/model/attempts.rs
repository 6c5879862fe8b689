//! How often a model may be asked for one answer, counted in one place whoever repeats.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The attempts left for one turn of an agent. Shared by all clones: repairs, retries and fallbacks draw on the same number.
#[derive(Debug, Clone)]
pub struct Attempts {
    left: Arc<AtomicU32>,
}

impl Attempts {
    /// This many attempts, the first one included.
    #[must_use]
    pub fn new(attempts: u32) -> Self {
        Self { left: Arc::new(AtomicU32::new(attempts)) }
    }

    /// As many as a caller likes: what holds outside of a Main Agent's turns.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::new(u32::MAX)
    }

    /// Takes one attempt. `false` when none is left.
    #[must_use]
    pub fn take(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Sets how many are left.
    pub(crate) fn refill(&self, attempts: u32) {
        self.left.store(attempts, Ordering::Relaxed);
    }

    /// How many are left.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left.load(Ordering::Relaxed)
    }
}
