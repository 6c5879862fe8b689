//! When a request has to have done what, whatever is asked of it and however much time its run has left.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agent_core::{ModelError, ModelErrorClass, RunContext};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

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
    pub(crate) fn left(&self) -> Duration {
        self.end.at.saturating_duration_since(Instant::now())
    }

    /// Waits for the beginning of an answer.
    pub(crate) async fn until_first_token<T>(&self, work: impl Future<Output = T>) -> Result<T, ModelError> {
        let due = self.first_token.min(self.end.at);
        timeout_at(due, work).await.map_err(|_| self.first_token_error())
    }

    /// Waits for the whole of an answer.
    pub(crate) async fn until_end<T>(&self, work: impl Future<Output = T>) -> Result<T, ModelError> {
        timeout_at(self.end.at, work).await.map_err(|_| self.end.error())
    }

    /// Watches an answer that comes in pieces.
    pub(crate) fn watch(self) -> Watch {
        let sleep = Box::pin(sleep_until(self.first_token.min(self.end.at)));
        Watch { clock: self, sleep, phase: Phase::Silent, quiet_since: None }
    }

    fn first_token_error(&self) -> ModelError {
        if self.end.at <= self.first_token {
            return self.end.error();
        }
        ModelError::new(ModelErrorClass::FirstTokenTimeout, "nothing came within the time for a first token")
    }
}

/// Tells when an answer takes too long to go on. One timer serves the whole answer: what comes in time only moves the time at which
/// it would be late.
#[derive(Debug)]
pub(crate) struct Watch {
    clock: Clock,
    sleep: Pin<Box<Sleep>>,
    phase: Phase,
    /// Since when something more is waited for. A caller's own time between two pieces is none of the server's.
    quiet_since: Option<Instant>,
}

/// How far an answer has come, which decides how long the next piece of it is waited for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Nothing has come that says something.
    Silent,
    /// Something has.
    Saying,
    /// The model has said that it is done: what may come yet is of little use.
    Finished,
}

impl Watch {
    /// Notes that a piece came that says something.
    pub(crate) fn heard(&mut self) {
        (self.phase, self.quiet_since) = (Phase::Saying, None);
    }

    /// Notes that the model is done.
    pub(crate) fn heard_the_end(&mut self) {
        if self.phase != Phase::Finished {
            (self.phase, self.quiet_since) = (Phase::Finished, None);
        }
    }

    /// Whether there is time for more, however fast it comes.
    ///
    /// # Errors
    ///
    /// What is over, when there is none.
    pub(crate) fn ensure_in_time(&self) -> Result<(), ModelError> {
        if Instant::now() < self.clock.end.at { Ok(()) } else { Err(self.clock.end.error()) }
    }

    /// Ready when nothing more is to be waited for. Called while nothing is there.
    pub(crate) fn poll_late(&mut self, task: &mut Context<'_>) -> Poll<ModelError> {
        let due = self.due();
        if due < self.sleep.deadline() {
            self.sleep.as_mut().reset(due);
        }
        loop {
            ready!(self.sleep.as_mut().poll(task));
            if self.sleep.deadline() >= due {
                return Poll::Ready(self.error());
            }
            self.sleep.as_mut().reset(due);
        }
    }

    fn due(&mut self) -> Instant {
        let Self { clock, phase, quiet_since, .. } = self;
        let mut after = |time| later(*quiet_since.get_or_insert_with(Instant::now), time);
        let due = match phase {
            Phase::Silent => clock.first_token,
            Phase::Saying => after(clock.timeouts.between_tokens),
            Phase::Finished => after(clock.timeouts.after_finish),
        };
        due.min(clock.end.at)
    }

    fn error(&self) -> ModelError {
        let stalled = || ModelError::new(ModelErrorClass::Stalled, "nothing more came within the time between tokens");
        match self.phase {
            Phase::Silent => self.clock.first_token_error(),
            _ if self.sleep.deadline() >= self.clock.end.at => self.clock.end.error(),
            _ => stalled(),
        }
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
fn later(start: Instant, time: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(86_400 * 365);
    start + time.min(NEVER)
}
