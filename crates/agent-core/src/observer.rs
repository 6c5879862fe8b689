//! The port to observers: audit, metrics, recordings.

use std::sync::Arc;

use crate::event::Event;

/// Sees every event of a run, in the order of each path, parents before children.
///
/// # Contract
///
/// `observe` is called within the run, while the events of the path wait: it returns quickly, hands long work on, and emits no
/// events itself. A panic in it is caught and changes nothing.
///
/// The testkit's `conformance::observer` checks an implementation.
pub trait Observer: Send + Sync {
    /// Sees one event.
    fn observe(&self, event: &Event);
}

#[deny(clippy::missing_trait_methods)]
impl<T: Observer + ?Sized> Observer for Arc<T> {
    fn observe(&self, event: &Event) {
        (**self).observe(event);
    }
}
