//! When a request has to have done what, whatever is asked of it and however much time its run has left.

use agent_core::{ModelError, ModelErrorClass, RunContext};
use tokio::time::{Instant, timeout_at};

use crate::limits::Timeouts;

/// The times of one request.
#[derive(Debug)]
pub(crate) struct Clock {
    timeouts: Timeouts,
    first_token: Instant,
    end: End,
}

/// When everything is over.
#[derive(Debug, Clone, Copy)]
struct End {
    at: Instant,
    /// Whether that is the end of the run rather than of the request.
    of_run: bool,
}

impl Clock {
    /// The clock of a request that is about to be sent.
    ///
    /// # Errors
    ///
    /// [`ModelErrorClass::TimedOut`] when the run has no time left to send anything.
    pub(crate) fn start(timeouts: Timeouts, cx: &RunContext) -> Result<Self, ModelError> {
        Self::starting(Instant::now(), timeouts, cx.deadline())
    }

    /// The clock of a request that belongs to no run.
    pub(crate) fn outside_of_runs(timeouts: Timeouts) -> Result<Self, ModelError> {
        Self::starting(Instant::now(), timeouts, None)
    }

    fn starting(now: Instant, timeouts: Timeouts, deadline: Option<Instant>) -> Result<Self, ModelError> {
        let own = later(now, timeouts.total);
        let end = match deadline {
            Some(deadline) if deadline < own => End { at: deadline, of_run: true },
            _ => End { at: own, of_run: false },
        };
        if end.at <= now {
            return Err(end.error());
        }
        Ok(Self { timeouts, first_token: later(now, timeouts.first_token), end })
    }

    /// The same for an answer that comes whole: only the end counts.
    pub(crate) fn for_whole_answers(mut self) -> Self {
        self.first_token = self.end.at;
        self
    }

    /// How long there is for everything.
    pub(crate) fn left(&self) -> std::time::Duration {
        self.end.at.saturating_duration_since(Instant::now())
    }

    /// Waits for the beginning of an answer.
    pub(crate) async fn until_first_token<T>(&self, work: impl Future<Output = T>) -> Result<T, ModelError> {
        let message = "nothing came within the time for a first token";
        self.until(self.first_token, ModelErrorClass::FirstTokenTimeout, message, work).await
    }

    /// Waits for the next piece of an answer, the last one of which came at `last`.
    pub(crate) async fn until_next_token<T>(
        &self,
        last: Instant,
        work: impl Future<Output = T>,
    ) -> Result<T, ModelError> {
        let message = "nothing more came within the time between tokens";
        self.until(later(last, self.timeouts.between_tokens), ModelErrorClass::Stalled, message, work).await
    }

    /// Waits for what may come after the finish. `None` when it does not come in time.
    pub(crate) async fn until_after_finish<T>(&self, finish: Instant, work: impl Future<Output = T>) -> Option<T> {
        let end = later(finish, self.timeouts.after_finish).min(self.end.at);
        timeout_at(end, work).await.ok()
    }

    /// Waits for the whole of an answer.
    pub(crate) async fn until_end<T>(&self, work: impl Future<Output = T>) -> Result<T, ModelError> {
        timeout_at(self.end.at, work).await.map_err(|_| self.end.error())
    }

    async fn until<T>(
        &self,
        at: Instant,
        class: ModelErrorClass,
        message: &'static str,
        work: impl Future<Output = T>,
    ) -> Result<T, ModelError> {
        if at >= self.end.at {
            return self.until_end(work).await;
        }
        timeout_at(at, work).await.map_err(|_| ModelError::new(class, message))
    }
}

impl End {
    fn error(self) -> ModelError {
        let message = match self.of_run {
            true => "the time of the run is over",
            false => "the answer was not complete within the time for all of it",
        };
        ModelError::new(ModelErrorClass::TimedOut, message)
    }
}

/// `start` and `time` after it, or what counts as never.
fn later(start: Instant, time: std::time::Duration) -> Instant {
    const NEVER: std::time::Duration = std::time::Duration::from_secs(86_400 * 365);
    start + time.min(NEVER)
}
