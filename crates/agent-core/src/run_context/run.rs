//! What is the same everywhere in a run.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::sooner;
use crate::budget::CarveOut;
use crate::caller::Caller;
use crate::event::Sinks;
use crate::id::{RunId, TaskId};
use crate::identity::TraceId;
use crate::journal::{Journal, MemoryJournal};
use crate::main_agent::StoppedCalls;
use crate::pending::PendingId;

/// What is the same everywhere in a run.
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) revision: u64,
    pub(crate) task: TaskId,
    pub(crate) trace: TraceId,
    pub(crate) caller: Caller,
    pub(crate) sinks: Sinks,
    pub(crate) journal: Arc<dyn Journal>,
    /// Asks the run to stop at the next step.
    pub(crate) drain: Option<CancellationToken>,
    /// When the active time is over that the limits allow.
    pub(crate) time_over: Option<Instant>,
    /// What was answered in earlier lives, and for this one.
    pub(crate) answered: Box<[PendingId]>,
    /// How deep agents may nest, whatever their own bounds say.
    pub(crate) depth: u32,
    /// Whether everything in flight is about to be dropped, with the run going on as a value.
    pub(crate) stopping: AtomicBool,
    /// Boxed and made when it is needed, which it is in few runs.
    pub(crate) aside: OnceLock<Box<Aside>>,
}

/// What a run keeps beside its calls.
#[derive(Default)]
pub(crate) struct Aside {
    /// Where the calls go on that were stopped in flight.
    stopped: StoppedCalls,
    /// Budget for durable calls, for as long as this process works on the run.
    carved_out: Mutex<Vec<CarveOut>>,
}

impl Run {
    /// A run's first life: without observers, journal but the process's memory, or bounds.
    pub(crate) fn new(id: RunId, caller: Caller) -> Self {
        Self {
            id,
            revision: 0,
            task: TaskId::from_uuid(id.as_uuid()),
            trace: TraceId::from_bytes(id.as_uuid().into_bytes()),
            caller,
            sinks: Sinks::default(),
            journal: Arc::new(MemoryJournal::new()),
            drain: None,
            time_over: None,
            answered: Box::default(),
            depth: u32::MAX,
            stopping: AtomicBool::default(),
            aside: OnceLock::new(),
        }
    }

    /// When the time is over: that of the run, or the host's for this life.
    pub(crate) fn deadline(&self, of_life: Option<Instant>) -> Option<Instant> {
        sooner(self.time_over, of_life)
    }

    /// Whether the run should stop at the next step.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    /// Keeps budget for a call that others make, until the run ends or is suspended.
    pub(crate) fn carve_out(&self, budget: CarveOut) {
        self.aside().carved_out.lock().unwrap_or_else(PoisonError::into_inner).push(budget);
    }

    /// The calls that were stopped in flight.
    pub(crate) fn stopped(&self) -> &StoppedCalls {
        &self.aside().stopped
    }

    fn aside(&self) -> &Aside {
        self.aside.get_or_init(Box::default)
    }
}
