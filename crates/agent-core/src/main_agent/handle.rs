//! A run in a task of its own.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::options::RunOptions;
use super::outcome::{Failure, RunOutcome};
use crate::agent_error::AgentError;
use crate::event::{EventStream, Queue};

/// A run in a task of its own: of a Main Agent, unless it says otherwise. Dropping the handle cancels the run.
pub struct RunHandle<T = RunOutcome, E = Failure> {
    task: JoinHandle<Result<T, Box<E>>>,
    events: Option<EventStream>,
    cancellation: CancellationToken,
    drain: CancellationToken,
    _guard: DropGuard,
}

/// What connects a run with its handle, made before the run begins.
pub(crate) struct Link {
    queue: Arc<Queue>,
    cancellation: CancellationToken,
    drain: CancellationToken,
}

impl Link {
    /// Connects the run with these options.
    pub(crate) fn new(options: &mut RunOptions) -> Self {
        options.detach();
        let cancellation = options.cancellation.get_or_insert_default().clone();
        let drain = options.drain.get_or_insert_default().clone();
        Self { queue: Arc::new(Queue::new()), cancellation, drain }
    }

    pub(crate) fn queue(&self) -> Arc<Queue> {
        self.queue.clone()
    }

    /// What the run holds, so that the stream of events ends when it does, however it does.
    pub(crate) fn finish_on_drop(&self) -> FinishOnDrop {
        FinishOnDrop(self.queue.clone())
    }

    /// Runs in a task of its own.
    pub(crate) fn spawn<T, E>(self, run: impl Future<Output = Result<T, Box<E>>> + Send + 'static) -> RunHandle<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        RunHandle {
            task: tokio::spawn(run),
            events: Some(EventStream::new(self.queue)),
            _guard: self.cancellation.clone().drop_guard(),
            cancellation: self.cancellation,
            drain: self.drain,
        }
    }
}

impl<T, E: From<AgentError>> RunHandle<T, E> {
    /// The run's events from the first on. `None` after the first call.
    ///
    /// Events wait until they are read; dropping the stream stops that.
    pub fn events(&mut self) -> Option<EventStream> {
        self.events.take()
    }

    /// Stops the run at once. [`join`](Self::join) tells what it had done.
    pub fn cancel(&self) {
        self.cancellation.cancel();
    }

    /// Suspends the run at its next step, after the calls in flight.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// The run's failure.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the handle, which cancels the run.
    pub async fn join(mut self) -> Result<T, Box<E>> {
        // Without a reader nothing needs to be kept from here on.
        self.events = None;
        (&mut self.task).await.unwrap_or_else(|error| {
            let error = if error.is_panic() { AgentError::Panicked } else { AgentError::Cancelled };
            Err(Box::new(E::from(error)))
        })
    }
}

impl<T, E> fmt::Debug for RunHandle<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle").field("finished", &self.task.is_finished()).finish_non_exhaustive()
    }
}

/// Ends the stream of events when the run ends, however it does.
pub(crate) struct FinishOnDrop(Arc<Queue>);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        self.0.finish();
    }
}
