//! Numbering and handing out events.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use super::{DeltaPart, Event, EventKind, Origin, Queue};
use crate::observer::Observer;

/// Where a run's events go.
#[derive(Clone, Default)]
pub(crate) struct Sinks {
    pub(crate) observers: Vec<Arc<dyn Observer>>,
    pub(crate) queue: Option<Arc<Queue>>,
}

impl Sinks {
    fn has_reader(&self) -> bool {
        !self.observers.is_empty() || self.open_queue().is_some()
    }

    /// The queue, unless its reader is gone.
    fn open_queue(&self) -> Option<&Queue> {
        self.queue.as_deref().filter(|queue| queue.is_open())
    }
}

/// Numbers the events of one path.
#[derive(Debug)]
pub(crate) struct Emitter(Mutex<Numbering>);

#[derive(Debug)]
struct Numbering {
    next: u64,
    /// The deltas since the last other event of this path.
    series: Option<Series>,
}

#[derive(Debug, Clone, Copy)]
struct Series {
    n: u64,
    part: DeltaPart,
    length: usize,
    /// The delta's number in the queue, where the next one can be joined to it.
    queued: Option<u64>,
}

impl Emitter {
    /// Numbers from zero for the first life of a run, and above all earlier ones for each resumption.
    pub(crate) fn new(revision: u64) -> Self {
        Self(Mutex::new(Numbering { next: revision << 32, series: None }))
    }

    /// Hands an event out. `kind` is made only if somebody reads.
    pub(crate) fn emit(&self, sinks: &Sinks, origin: &Arc<Origin>, kind: impl FnOnce() -> EventKind) {
        let mut numbering = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        numbering.series = None;
        let n = numbering.next;
        numbering.next += 1;
        if sinks.has_reader() {
            hand_out(sinks, Event::new(origin.clone(), n, kind()));
        }
    }

    /// Hands out more of a model's answer.
    pub(crate) fn emit_delta(&self, sinks: &Sinks, origin: &Arc<Origin>, part: DeltaPart, text: &str) {
        let mut numbering = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut series = match numbering.series.filter(|series| series.part == part) {
            Some(series) => series,
            None => {
                let n = numbering.next;
                numbering.next += 1;
                Series { n, part, length: 0, queued: None }
            }
        };
        if sinks.has_reader() {
            let event = || {
                let kind = EventKind::Delta { part, offset: series.length, text: text.to_owned() };
                Event::new(origin.clone(), series.n, kind)
            };
            if !sinks.observers.is_empty() {
                observe(&sinks.observers, &event());
            }
            if let Some(queue) = sinks.open_queue() {
                series.queued = queue.push_delta(series.queued, text, event);
            }
        }
        series.length += text.len();
        numbering.series = Some(series);
    }
}

fn hand_out(sinks: &Sinks, event: Event) {
    observe(&sinks.observers, &event);
    if let Some(queue) = sinks.open_queue() {
        queue.push(event);
    }
}

fn observe(observers: &[Arc<dyn Observer>], event: &Event) {
    for observer in observers {
        if catch_unwind(AssertUnwindSafe(|| observer.observe(event))).is_err() {
            tracing::error!(path = %event.path(), n = event.n, "an observer panicked");
        }
    }
}
