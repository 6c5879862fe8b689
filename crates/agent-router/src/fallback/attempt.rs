//! One attempt of a step, while its answer comes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agent_core::{
    AgentError, Attempt, ChatRequest, Chunk, Finish, FinishReason, ModelError, ModelErrorClass, ModelStream,
    RunContext, Tokens,
};
use tokio::time::{Instant, Sleep};

use super::chain::{Bounds, stopped};
use super::model::Plan;
use super::step::PlannedStep;
use super::targets::{Pass, Target};

/// A share of a run's time that is shorter than this says nothing about a model that did not answer in it.
const TELLING: Duration = Duration::from_secs(5);

/// One attempt of a step, while its answer comes. Dropping it settles the attempt at what came, and teaches nothing.
pub(super) struct Live {
    place: usize,
    /// Taken when it ends.
    attempt: Option<Attempt>,
    pass: Option<Pass>,
    /// `None` until it is open.
    stream: Option<ModelStream>,
    bounds: Bounds,
    timer: Option<Timer>,
    committed: bool,
    /// What it used, once that is known.
    tokens: Tokens,
}

/// Rings when the attempt may not take longer.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    over: Over,
}

/// Which time is over.
#[derive(Debug, Clone, Copy)]
enum Over {
    Deadline,
    FirstToken,
    Half,
    All,
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
    step: &PlannedStep,
    place: usize,
    attempt: Attempt,
    pass: Option<Pass>,
    bounds: Bounds,
    request: ChatRequest,
    cx: &RunContext,
) -> Result<Live, (Live, Failed)> {
    let span = attempt.span().clone();
    let timer = Timer::of(&bounds, false, cx.deadline());
    let attempt = Some(attempt);
    let mut live = Live { place, attempt, pass, stream: None, bounds, timer, committed: false, tokens: Tokens::ZERO };
    let mut opening = step.model.stream(request, cx);
    let opened = poll_fn(|task| {
        let _entered = span.enter();
        if cx.is_cancelled() {
            return Poll::Ready(Err(live.stop(AgentError::Cancelled)));
        }
        match opening.as_mut().poll(task) {
            Poll::Ready(Ok(stream)) => Poll::Ready(Ok(stream)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(live.fail(error, true))),
            Poll::Pending => live.ring(task).map(Err),
        }
    })
    .await;
    drop(opening);
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

    /// Somebody reads what came: only the time for the whole answer counts now.
    pub(super) fn commit(&mut self, cx: &RunContext) {
        self.committed = true;
        if self.timer.as_ref().is_some_and(|timer| matches!(timer.over, Over::FirstToken | Over::Half)) {
            self.timer = Timer::of(&self.bounds, true, cx.deadline());
        }
    }

    pub(super) const fn is_committed(&self) -> bool {
        self.committed
    }

    /// The pass with its target, and what was used, for the verdict.
    pub(super) fn into_pass(self, plan: &Plan) -> Option<(Arc<Target>, Pass, Tokens)> {
        let target = plan.steps.get(self.place)?.target.clone()?;
        Some((target, self.pass?, self.tokens))
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
        let polled = match (&mut self.stream, &self.attempt) {
            (Some(stream), Some(attempt)) => attempt.span().in_scope(|| stream.as_mut().poll_next(task)),
            _ => Poll::Ready(None),
        };
        match polled {
            Poll::Ready(Some(Ok(chunk))) => Poll::Ready(Ok(chunk)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(self.fail(error, true))),
            Poll::Ready(None) => Poll::Ready(Err(self.fail(cut(), true))),
            Poll::Pending => self.ring(task).map(Err),
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
        self.stream = None;
        if let Some(attempt) = self.attempt.take() {
            self.tokens = attempt.so_far().tokens;
            attempt.fail(error);
        }
    }

    /// Looks at the timer: is the time over?
    fn ring(&mut self, task: &mut Context<'_>) -> Poll<Failed> {
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        if timer.sleep.as_mut().poll(task).is_pending() {
            return Poll::Pending;
        }
        let waited = Instant::now().saturating_duration_since(self.bounds.began);
        let first = |marks| (ModelErrorClass::FirstTokenTimeout, "nothing came in time", marks);
        let (class, message, marks) = match timer.over {
            Over::Deadline => return Poll::Ready(self.stop(AgentError::Deadline)),
            Over::FirstToken => first(true),
            Over::Half => first(waited >= TELLING),
            Over::All => (ModelErrorClass::TimedOut, "the answer was not complete in time", true),
        };
        Poll::Ready(self.fail(ModelError::new(class, message), marks))
    }
}

impl Timer {
    /// The timer of what is over first.
    fn of(bounds: &Bounds, committed: bool, deadline: Option<Instant>) -> Option<Self> {
        let before_commit = if committed { [None; 2] } else { [bounds.first_token, bounds.half] };
        let [first_token, half] = before_commit;
        let ends =
            [(deadline, Over::Deadline), (first_token, Over::FirstToken), (half, Over::Half), (bounds.all, Over::All)];
        let ends = ends.into_iter().filter_map(|(at, over)| Some((at?, over)));
        let (at, over) = ends.min_by_key(|(at, _)| *at)?;
        Some(Self { sleep: Box::pin(tokio::time::sleep_until(at)), over })
    }
}

fn cut() -> ModelError {
    ModelError::new(ModelErrorClass::Cut, "the answer ended before it was complete")
}
