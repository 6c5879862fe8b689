//! One attempt of a step, while its answer comes.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agent_core::{
    AgentError, Attempt, ChatRequest, Chunk, Finish, FinishReason, ModelError, ModelErrorClass, ModelStream,
    RunContext, Tokens,
};
use futures_util::FutureExt;
use tokio::time::{Instant, Sleep, sleep_until};

use super::bounds::{After, Bounds, Over};
use super::chain::stopped;
use super::step::CheckedStep;
use super::targets::{Pass, Target};

/// A call that may be made, of this model.
pub(super) type Passed = (Arc<Target>, Pass);

/// One attempt of a step, while its answer comes. Dropping it settles the attempt at what came, and teaches nothing but that a model was
/// silent for long.
pub(super) struct Live {
    place: usize,
    /// Taken when it ends.
    attempt: Option<Attempt>,
    /// Taken with the verdict on its model.
    pass: Option<Passed>,
    /// `None` until it is open.
    stream: Option<ModelStream>,
    bounds: Bounds,
    /// Since when the next piece is waited for; since it began, before something was read. `None` while nobody waits.
    since: Option<Instant>,
    /// When it was looked for last, and was not there.
    missed: Instant,
    /// The longest time that a piece was waited for, once something was read, and all such times together.
    longest_pause: Duration,
    pauses: Duration,
    /// `None` until something is waited for, as is the next one.
    timer: Option<Pin<Box<Sleep>>>,
    cancelled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    committed: bool,
    /// What it used, once that is known.
    tokens: Tokens,
}

/// What came of reading on.
pub(super) enum Read {
    /// A piece of the answer.
    More(Chunk),
    /// Its end: the attempt is settled.
    Complete(Finish),
}

/// A failed attempt, which is settled.
pub(super) struct Failed {
    pub(super) error: Box<ModelError>,
    /// Whether it says something about the model.
    pub(super) marks: bool,
}

/// Asks a step, and waits until an answer begins.
pub(super) async fn open(
    step: &CheckedStep,
    place: usize,
    attempt: Attempt,
    pass: Option<Passed>,
    bounds: Bounds,
    request: ChatRequest,
    cx: &RunContext,
) -> Result<Live, (Live, Failed)> {
    let span = attempt.span().clone();
    let mut live = Live {
        place,
        attempt: Some(attempt),
        pass,
        stream: None,
        bounds,
        since: Some(bounds.began),
        missed: bounds.began,
        longest_pause: Duration::ZERO,
        pauses: Duration::ZERO,
        timer: None,
        cancelled: None,
        committed: false,
        tokens: Tokens::ZERO,
    };
    let opened = {
        let opening = async { step.model.stream(request, cx).await };
        let mut opening = pin!(AssertUnwindSafe(opening).catch_unwind());
        let opening = poll_fn(|task| {
            let _entered = span.enter();
            if cx.is_cancelled() {
                return Poll::Ready(Err(live.stop(AgentError::Cancelled)));
            }
            match opening.as_mut().poll(task) {
                Poll::Ready(Ok(Ok(stream))) => Poll::Ready(Ok(stream)),
                Poll::Ready(Ok(Err(error))) => Poll::Ready(Err(live.failed(error, cx))),
                Poll::Ready(Err(_)) => Poll::Ready(Err(live.fail(panicked(), true))),
                Poll::Pending => live.ring(task, cx).map(Err),
            }
        });
        opening.await
    };
    match opened {
        Ok(stream) => {
            live.stream = Some(stream);
            Ok(live)
        }
        Err(failed) => Err((live, failed)),
    }
}

impl Live {
    /// The place of its step in the plan.
    pub(super) const fn place(&self) -> usize {
        self.place
    }

    /// Somebody reads what came. `after` is who may follow should it fail now.
    pub(super) fn commit(&mut self, after: After) {
        self.committed = true;
        self.bounds.after = after;
        self.since = None;
        if let Some((target, _)) = &self.pass {
            target.heard(Some(self.bounds.began));
        }
    }

    /// Whether there is something to read.
    pub(super) fn is_begun(&self) -> bool {
        self.attempt.as_ref().is_some_and(Attempt::is_begun)
    }

    pub(super) const fn is_committed(&self) -> bool {
        self.committed
    }

    /// The pass with its target, and what was used, for the verdict.
    pub(super) fn take_pass(&mut self) -> Option<(Arc<Target>, Pass, Tokens)> {
        let (target, pass) = self.pass.take()?;
        Some((target, pass, self.tokens))
    }

    /// Ends it with its answer.
    pub(super) fn answered(mut self) {
        if let Some((target, pass, tokens)) = self.take_pass() {
            target.heard(Some(self.bounds.began).filter(|_| !self.committed));
            target.answered(pass, tokens);
        }
    }

    /// Waits for the next piece.
    pub(super) async fn read(&mut self, cx: &RunContext) -> Result<Read, Failed> {
        poll_fn(|task| self.poll_read(task, cx)).await
    }

    /// The same, polled.
    pub(super) fn poll_read(&mut self, task: &mut Context<'_>, cx: &RunContext) -> Poll<Result<Read, Failed>> {
        let chunk = ready!(self.poll_chunk(task, cx))?;
        let Some(attempt) = &mut self.attempt else { return Poll::Ready(Err(self.fail(cut(), true))) };
        if let Err(error) = attempt.push(&chunk) {
            return Poll::Ready(Err(self.fail(error, true)));
        }
        Poll::Ready(match chunk {
            Chunk::Finish(finish) => self.finish(finish),
            chunk => Ok(Read::More(chunk)),
        })
    }

    fn poll_chunk(&mut self, task: &mut Context<'_>, cx: &RunContext) -> Poll<Result<Chunk, Failed>> {
        if cx.is_cancelled() {
            return Poll::Ready(Err(self.stop(AgentError::Cancelled)));
        }
        if self.committed && self.bounds.all.is_some_and(|all| Instant::now() >= all) {
            return Poll::Ready(Err(self.over(Over::All)));
        }
        let polled = match (&mut self.stream, &self.attempt) {
            (Some(stream), Some(attempt)) => {
                let read = AssertUnwindSafe(|| stream.as_mut().poll_next(task));
                attempt.span().in_scope(|| catch_unwind(read))
            }
            _ => Ok(Poll::Ready(None)),
        };
        match polled {
            Ok(Poll::Ready(Some(Ok(chunk)))) => {
                if let Some(since) = self.since.take_if(|_| self.committed) {
                    let pause = since.elapsed();
                    self.longest_pause = self.longest_pause.max(pause);
                    self.pauses += pause;
                }
                Poll::Ready(Ok(chunk))
            }
            Ok(Poll::Ready(Some(Err(error)))) => Poll::Ready(Err(self.failed(error, cx))),
            Ok(Poll::Ready(None)) => Poll::Ready(Err(self.fail(cut(), true))),
            Ok(Poll::Pending) => self.ring(task, cx).map(Err),
            Err(_) => Poll::Ready(Err(self.fail(panicked(), true))),
        }
    }

    /// Ends the attempt with its answer, if there is something in it.
    fn finish(&mut self, finish: Finish) -> Result<Read, Failed> {
        let Some(attempt) = self.attempt.take() else { return Err(self.fail(cut(), true)) };
        self.tokens = attempt.so_far().tokens;
        if attempt.is_blank() && finish.reason != FinishReason::ContentFilter {
            let message = match finish.reason {
                FinishReason::Length => "all of its output went into reasoning: it may write too little (`max_output`)",
                _ => "its answer was empty",
            };
            self.attempt = Some(attempt);
            return Err(self.fail(ModelError::new(ModelErrorClass::Empty, message), true));
        }
        match attempt.finish() {
            Ok((reply, finish)) => {
                let model = reply.model.clone();
                Ok(Read::Complete(model.map_or_else(|| finish.clone(), |model| finish.clone().with_model(model))))
            }
            Err(error) => Err(Failed { error: Box::new(error), marks: true }),
        }
    }

    /// Settles the attempt with what the model says that it failed with.
    fn failed(&mut self, error: ModelError, cx: &RunContext) -> Failed {
        // Only a run stops the steps of a plan.
        let by_itself = error.class == ModelErrorClass::Stopped && cx.ensure_may_go_on().is_ok();
        self.fail(if by_itself { cut().with_source(error) } else { error }, true)
    }

    /// Settles the attempt with its failure.
    fn fail(&mut self, error: ModelError, marks: bool) -> Failed {
        let error = AgentError::from(error);
        self.settle(&error);
        match error {
            AgentError::Model(error) => Failed { error: Box::new(error), marks },
            // It was made of one, above.
            _ => Failed { error: Box::new(cut()), marks },
        }
    }

    /// Settles the attempt since the run must stop.
    fn stop(&mut self, error: AgentError) -> Failed {
        self.settle(&error);
        Failed { error: Box::new(stopped()), marks: false }
    }

    fn settle(&mut self, error: &AgentError) {
        // What the stream does when it is dropped is the host's own code.
        let stream = self.stream.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(stream)));
        if let Some(attempt) = self.attempt.take() {
            self.tokens = attempt.so_far().tokens;
            attempt.fail(error);
        }
    }

    /// Whether it is to be given up while nothing comes.
    fn ring(&mut self, task: &mut Context<'_>, cx: &RunContext) -> Poll<Failed> {
        let cancelled = self.cancelled.get_or_insert_with(|| Box::pin(cx.cancellation().clone().cancelled_owned()));
        if cancelled.as_mut().poll(task).is_ready() {
            return Poll::Ready(self.stop(AgentError::Cancelled));
        }
        self.missed = Instant::now();
        let since = *self.since.get_or_insert(self.missed);
        loop {
            let next = self.bounds.next(since, self.longest_pause, self.committed);
            let Some((at, over)) = next else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            // One that rings too early is set anew then: most pieces come before.
            if timer.deadline() > at {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(task));
            if Instant::now() >= at {
                return Poll::Ready(self.over(over));
            }
            timer.as_mut().reset(at);
        }
    }

    /// Ends it since some time is over.
    fn over(&mut self, over: Over) -> Failed {
        let (class, message) = match over {
            Over::Deadline => return self.stop(AgentError::Deadline),
            Over::Silence if self.committed => (ModelErrorClass::Stalled, "nothing more came in time"),
            Over::FirstToken | Over::Silence => (ModelErrorClass::FirstTokenTimeout, "nothing came in time"),
            Over::All | Over::Last => (ModelErrorClass::TimedOut, "the answer was not complete in time"),
        };
        let marks = match over {
            // A time that the host set for this model, unless it went by while nobody waited.
            Over::All => !self.committed || (self.pauses + self.waited()) * 2 >= self.bounds.began.elapsed(),
            Over::FirstToken => true,
            // A share of the asker's own time says something about a model that was silent for long.
            _ => self.is_silent(),
        };
        self.fail(ModelError::new(class, message), marks)
    }

    /// For how long the next piece was waited for: a reader that does not look does not wait.
    fn waited(&self) -> Duration {
        self.since.map(|since| self.missed.saturating_duration_since(since)).unwrap_or_default()
    }

    /// Whether nothing came for so long that it says something about the model.
    fn is_silent(&self) -> bool {
        let (Some((target, _)), Some(since)) = (&self.pass, self.since) else { return false };
        target.is_silent(since, self.missed, self.longest_pause)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.settle(&AgentError::Cancelled);
        // Whoever asked gave up, or had no more time: if it was silent for long, that is what others should know.
        if self.is_silent()
            && let Some((target, pass, tokens)) = self.take_pass()
        {
            let [first, later] = self.bounds.silence;
            target.failed(pass, if self.committed { later } else { first }, "model.silent", None, tokens);
        }
    }
}

fn panicked() -> ModelError {
    ModelError::new(ModelErrorClass::Panicked, "the model's code panicked")
}

fn cut() -> ModelError {
    ModelError::new(ModelErrorClass::Cut, "the answer ended before it was complete")
}
