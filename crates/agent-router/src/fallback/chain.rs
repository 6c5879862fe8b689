//! One request on its way down the plan.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use agent_core::{
    AgentError, Attempt, ChatRequest, Chunk, ErrorCode, ModelError, ModelErrorClass, ModelStream, Reservation,
    Restarts, RunContext, Tokens,
};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::attempt::{Live, Passed, Read, open};
use super::choose::{BUDGET_HELD, Chosen};
use super::limiter::Place;
use super::model::Plan;
use super::progress::Progress;
use super::step::CheckedStep;
use super::table::{FailureClass, RunFailureClass};

/// One request on its way down the plan.
pub(super) struct Chain {
    pub(super) plan: Arc<Plan>,
    pub(super) request: ChatRequest,
    pub(super) cx: RunContext,
    pub(super) input: Tokens,
    /// How far each step is, by its place in the plan.
    pub(super) progress: Vec<Progress>,
    /// The places of the steps, in the order in which they are asked.
    pub(super) order: Vec<usize>,
    /// The step that is asked again, and when.
    pub(super) again: Option<(usize, Instant)>,
    /// When the end of the run's time begins that is kept for rules or a person.
    pub(super) last: Option<Instant>,
    /// Until when is waited while no step can be asked. Set by the first such wait.
    pub(super) wait_until: Option<Instant>,
    /// Why the request went past a step, last.
    pub(super) cause: Option<FailureClass>,
    /// What the last attempt failed with.
    pub(super) failed: Option<ModelError>,
    /// Whether something was read of an attempt that failed since.
    pub(super) restart: bool,
    /// How many attempts of this stream began to be read, and are void.
    void: u32,
    live: Option<Live>,
    /// What can be read.
    ready: VecDeque<Chunk>,
}

impl Chain {
    /// Goes down the plan until something can be read.
    pub(super) async fn begin(
        plan: Arc<Plan>,
        request: ChatRequest,
        cx: RunContext,
    ) -> Result<ModelStream, ModelError> {
        let cause = request.unfit.as_ref().map(unfit);
        let mut chain = Box::new(Self {
            input: request.estimate_input(),
            progress: plan.steps.iter().map(|_| Progress::default()).collect(),
            order: (0..plan.steps.len()).collect(),
            plan,
            request,
            last: cx.last_part(),
            again: None,
            wait_until: None,
            cause,
            failed: None,
            restart: false,
            void: 0,
            live: None,
            ready: VecDeque::new(),
            cx,
        });
        chain.recall_bad_answers();
        chain.descend().await?;
        Ok(Chunks { state: State::Reading(chain) }.boxed())
    }

    /// Asks one step after the other until something can be read.
    async fn descend(&mut self) -> Result<(), ModelError> {
        loop {
            let chosen = self.choose().await?;
            if self.attempt(chosen).await? {
                return Ok(());
            }
        }
    }

    /// The next piece of what is committed to. `None` when that failed, and other steps may be asked.
    fn poll_live(&mut self, task: &mut Context<'_>) -> Poll<Result<Option<Chunk>, ModelError>> {
        let Some(live) = &mut self.live else { return Poll::Ready(Ok(None)) };
        let read = ready!(live.poll_read(task, &self.cx));
        let failed = match read {
            Ok(Read::More(chunk)) => return Poll::Ready(Ok(Some(chunk))),
            Ok(Read::Complete(finish)) => {
                self.live.take().into_iter().for_each(Live::answered);
                return Poll::Ready(Ok(Some(Chunk::Finish(finish))));
            }
            Err(failed) => failed,
        };
        self.void = self.void.saturating_add(1);
        self.restart = true;
        let given_up = self.live.take().map_or(Ok(()), |live| self.give_up(live, failed));
        Poll::Ready(given_up.map(|()| None))
    }

    /// Asks a step until its answer is committed to. `false` when it failed before that.
    async fn attempt(&mut self, Chosen { place, seat }: Chosen) -> Result<bool, ModelError> {
        let plan = self.plan.clone();
        let Some(step) = plan.steps.get(place) else { return Ok(false) };
        let mut request = self.request.clone().with_restarts(Restarts::Forbidden);
        let Some((attempt, pass)) = self.begin_attempt(place, step, seat, &mut request).await? else {
            return Ok(false);
        };
        let bounds = self.bounds(place, step);
        let mut live = match open(step, place, attempt, pass, bounds, request, &self.cx).await {
            Ok(live) => live,
            Err((live, failed)) => return self.give_up(live, failed).map(|()| false),
        };
        let mut held = VecDeque::new();
        loop {
            match live.read(&self.cx).await {
                Ok(Read::More(chunk)) => {
                    held.push_back(chunk);
                    if live.is_begun() || held.len() > MOST_HELD {
                        live.commit(self.after_commit(place));
                        self.commit(held);
                        self.live = Some(live);
                        return Ok(true);
                    }
                }
                Ok(Read::Complete(finish)) => {
                    held.push_back(Chunk::Finish(finish));
                    self.commit(held);
                    live.answered();
                    return Ok(true);
                }
                Err(failed) => return self.give_up(live, failed).map(|()| false),
            }
        }
    }

    /// Begins an attempt, once there is budget for it. `None` when it may not be made.
    async fn begin_attempt(
        &mut self,
        place: usize,
        step: &CheckedStep,
        seat: Option<Place>,
        request: &mut ChatRequest,
    ) -> Result<Option<(Attempt, Option<Passed>)>, ModelError> {
        let Some((target, seat)) = step.target.as_ref().zip(seat) else {
            return Ok(Some((Attempt::free(step.info(), Some(&step.name), &self.cx), None)));
        };
        let until = self.budget_until(place);
        let (reservation, seat) = match reserve(step, seat, request, until, &self.cx).await {
            Ok(Some(reserved)) => reserved,
            Ok(None) => {
                self.ensure_may_go_on()?;
                self.put_off(place, step, BUDGET_HELD, None);
                return Ok(None);
            }
            Err(error) => return self.refused(place, error).map(|()| None),
        };
        let seat = match seat {
            Some(seat) => Ok(seat),
            // Whoever has the place waits for nothing.
            None => {
                let seat = target.seat(&self.cx.caller().tenant, self.tokens(step), self.seat_until(place));
                self.cx.unless_stopped(seat).await.map_err(|_| stopped())?
            }
        };
        // Only now, since others may not wait for the budget of this run when it is the one that probes.
        let pass = match seat.and_then(|seat| target.pass(seat)) {
            Ok(pass) => pass,
            Err(left_out) => {
                self.put_off(place, step, left_out.code, left_out.ready_at);
                return Ok(None);
            }
        };
        match Attempt::begin(step.info(), Some(&step.name), request, reservation, &self.cx) {
            Ok(attempt) => {
                // Whatever kept it away does so no more.
                if let Some(progress) = self.progress.get_mut(place) {
                    progress.told = None;
                }
                Ok(Some((attempt, Some((target.clone(), pass)))))
            }
            Err(error) => {
                pass.unused();
                self.refused(place, error).map(|()| None)
            }
        }
    }

    /// Makes what was held back ready to be read, after word that what was read before is void.
    fn commit(&mut self, held: VecDeque<Chunk>) {
        if std::mem::take(&mut self.restart) {
            self.ready.push_back(Chunk::Restart { attempt: self.void.saturating_sub(1) });
        }
        self.ready.extend(held);
    }
}

/// Reserves budget for a call that has a place. Where others hold the budget it is waited for, until `until`, and they may have the place.
/// `None` when they hold it for longer.
async fn reserve(
    step: &CheckedStep,
    seat: Place,
    request: &mut ChatRequest,
    until: Option<Instant>,
    cx: &RunContext,
) -> Result<Option<(Reservation, Option<Place>)>, AgentError> {
    let mut reserving = pin!(Attempt::reserve(step.info(), request, cx));
    let reserved = reserving.as_mut().now_or_never();
    if let Some(Ok(reservation)) = reserved {
        return Ok(Some((reservation, Some(seat))));
    }
    seat.unsent();
    let reserved = match (reserved, until) {
        (Some(reserved), _) => Some(reserved),
        (None, Some(until)) => timeout_at(until, reserving).await.ok(),
        (None, None) => Some(reserving.await),
    };
    Ok(reserved.transpose()?.map(|reservation| (reservation, None)))
}

/// The answer, piece by piece.
struct Chunks {
    state: State,
}

enum State {
    Reading(Box<Chain>),
    /// What was read failed, and other steps are asked.
    Descending(BoxFuture<'static, Result<Box<Chain>, ModelError>>),
    Done,
}

impl Stream for Chunks {
    type Item = Result<Chunk, ModelError>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let read = match &mut self.state {
                State::Done => return Poll::Ready(None),
                // Whoever reads slowly may have missed it.
                State::Reading(chain) if chain.cx.ensure_may_go_on().is_err() => Err(stopped()),
                State::Descending(descending) => match ready!(descending.as_mut().poll(task)) {
                    Ok(chain) => {
                        self.state = State::Reading(chain);
                        continue;
                    }
                    Err(error) => Err(error),
                },
                State::Reading(chain) => match chain.ready.pop_front() {
                    Some(chunk) => Ok(Some(chunk)),
                    None => ready!(chain.poll_live(task)),
                },
            };
            match read {
                Ok(Some(chunk)) => {
                    if matches!(chunk, Chunk::Finish(_)) {
                        self.state = State::Done;
                    }
                    return Poll::Ready(Some(Ok(chunk)));
                }
                Ok(None) => {
                    let State::Reading(mut chain) = std::mem::replace(&mut self.state, State::Done) else { continue };
                    self.state = State::Descending(Box::pin(async move {
                        chain.descend().await?;
                        Ok(chain)
                    }));
                }
                Err(error) => {
                    self.state = State::Done;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

/// More pieces than any answer begins with that has nothing to read.
const MOST_HELD: usize = 1_024;

/// The kind of failure that a conversation has met which cannot be made to fit.
fn unfit(code: &ErrorCode) -> FailureClass {
    let overflow = ModelErrorClass::ContextOverflow;
    if *code == overflow.code() { overflow.into() } else { RunFailureClass::Context.into() }
}

pub(super) fn stopped() -> ModelError {
    ModelError::new(ModelErrorClass::Stopped, "the run must stop")
}
