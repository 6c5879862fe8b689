//! One request on its way down the plan.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    AgentError, Attempt, ChatRequest, Chunk, Finish, ModelError, ModelErrorClass, ModelStream, Restarts, RunContext,
    Tokens,
};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::attempt::{Failed, Live, Read, open};
use super::model::Plan;
use super::progress::Progress;
use super::step::PlannedStep;
use super::table::{Again, FailureClass, FailureRow, Mark, NextStep, RunFailureClass, Wait};
use super::targets::{LeftOut, Pass};

/// How long is waited for a verdict that somebody else is about to get.
const VERDICT: Duration = Duration::from_millis(50);

/// One request on its way down the plan.
pub(super) struct Chain {
    plan: Arc<Plan>,
    request: ChatRequest,
    cx: RunContext,
    input: Tokens,
    /// How far each step is, by its place in the plan.
    progress: Vec<Progress>,
    /// The step that is asked again, and when.
    again: Option<(usize, Instant)>,
    /// Until when is waited while no step can be asked. Set by the first such wait.
    wait_until: Option<Instant>,
    /// Why the request went past a step, last.
    cause: Option<FailureClass>,
    /// What the last attempt failed with.
    failed: Option<ModelError>,
    /// Whether a model could not hold the conversation.
    overflowed: bool,
    live: Option<Live>,
    /// What can be read.
    ready: VecDeque<Chunk>,
    /// How many attempts of this stream began to be read, and are void.
    void: u32,
    restart: bool,
    done: bool,
}

/// A step that may be asked.
struct Chosen {
    place: usize,
    /// `None` for rules.
    pass: Option<Pass>,
}

impl Chain {
    /// Goes down the plan until something can be read.
    pub(super) async fn begin(
        plan: Arc<Plan>,
        request: ChatRequest,
        cx: RunContext,
    ) -> Result<ModelStream, ModelError> {
        let mut chain = Box::new(Self::new(plan, request, cx));
        chain.pass_bad_answers();
        chain.descend().await?;
        let chunks = stream::unfold(chain, |mut chain| async move {
            let next = chain.next().await?;
            Some((next, chain))
        });
        Ok(chunks.boxed())
    }

    fn new(plan: Arc<Plan>, request: ChatRequest, cx: RunContext) -> Self {
        Self {
            input: request.estimate_input(),
            progress: plan.steps.iter().map(|_| Progress::default()).collect(),
            plan,
            request,
            cx,
            again: None,
            wait_until: None,
            cause: None,
            failed: None,
            overflowed: false,
            live: None,
            ready: VecDeque::new(),
            void: 0,
            restart: false,
            done: false,
        }
    }

    /// The next piece of the answer.
    async fn next(&mut self) -> Option<Result<Chunk, ModelError>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                self.done |= matches!(chunk, Chunk::Finish(_));
                return Some(Ok(chunk));
            }
            if self.done {
                return None;
            }
            if let Err(error) = self.read_on().await {
                self.done = true;
                return Some(Err(error));
            }
        }
    }

    /// Makes more of the answer ready, by another attempt if this one fails.
    async fn read_on(&mut self) -> Result<(), ModelError> {
        let Some(mut live) = self.live.take() else { return self.descend().await };
        match live.read(&self.cx).await {
            Ok(Read::More(chunk)) => {
                self.ready.push_back(chunk);
                self.live = Some(live);
                Ok(())
            }
            Ok(Read::Complete(finish)) => {
                self.answered(live, finish);
                Ok(())
            }
            Err(failed) => {
                self.void = self.void.saturating_add(1);
                self.restart = true;
                self.give_up(live, failed)?;
                self.descend().await
            }
        }
    }

    /// Asks one step after the other until something can be read.
    async fn descend(&mut self) -> Result<(), ModelError> {
        loop {
            let chosen = self.choose().await?;
            match self.attempt(chosen).await? {
                true => return Ok(()),
                false => continue,
            }
        }
    }

    /// Asks a step until its answer is committed to. `false` when it failed before that.
    async fn attempt(&mut self, Chosen { place, pass }: Chosen) -> Result<bool, ModelError> {
        let plan = self.plan.clone();
        let Some(step) = plan.steps.get(place) else { return Ok(false) };
        let mut request = self.request.clone().with_restarts(Restarts::Forbidden);
        let attempt = match step.is_model() {
            true => match Attempt::begin(step.info(), Some(&step.name), &mut request, &self.cx).await {
                Ok(attempt) => attempt,
                // Nothing was sent, and nothing is learnt about the model.
                Err(error) => return self.refused(place, error).map(|()| false),
            },
            false => Attempt::free(step.info(), Some(&step.name), &self.cx),
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
                    let is_heard = is_heard(&chunk);
                    held.push_back(chunk);
                    if is_heard || held.len() > MOST_HELD {
                        live.commit(&self.cx);
                        self.commit(held);
                        self.live = Some(live);
                        return Ok(true);
                    }
                }
                Ok(Read::Complete(finish)) => {
                    self.commit(held);
                    self.answered(live, finish);
                    return Ok(true);
                }
                Err(failed) => return self.give_up(live, failed).map(|()| false),
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

    fn answered(&mut self, live: Live, finish: Finish) {
        if let Some((target, pass, tokens)) = live.into_pass(&self.plan) {
            target.answered(pass, tokens);
        }
        self.ready.push_back(Chunk::Finish(finish));
    }

    /// An attempt that was not admitted.
    fn refused(&mut self, place: usize, error: AgentError) -> Result<(), ModelError> {
        let error = match error {
            AgentError::Model(error) => error,
            AgentError::Budget(exceeded) => exceeded.into(),
            AgentError::Cancelled | AgentError::Deadline => return Err(stopped()),
            other => ModelError::new(ModelErrorClass::BadRequest, "the model could not be asked").with_source(other),
        };
        let row = self.plan.table.row(error.class);
        self.go_past(place, error.class.into(), row.next);
        self.failed = Some(error);
        Ok(())
    }

    /// An attempt that failed: what is learnt from it, and what may follow.
    fn give_up(&mut self, live: Live, failed: Failed) -> Result<(), ModelError> {
        let (error, marks) = (*failed.error, failed.marks);
        let place = live.place();
        if self.plan.steps.get(place).is_some_and(|step| !step.is_model()) && error.class != ModelErrorClass::Stopped {
            return self.rules_failed(place, live, error);
        }
        let of_class = self.plan.table.row(error.class);
        let (class, row) = if live.is_committed() {
            let class = FailureClass::Run(RunFailureClass::AfterCommit);
            (class, after_commit(of_class, self.plan.table.row(class)))
        } else {
            (error.class.into(), of_class)
        };
        if let Some((target, pass, tokens)) = live.into_pass(&self.plan).filter(|_| marks) {
            target.failed(pass, row.mark, error.code().as_str(), error.retry_after, tokens);
        }
        if error.class == ModelErrorClass::Stopped {
            return Err(error);
        }
        if self.restart && self.request.restarts == Restarts::Forbidden {
            // Somebody has read the beginning: nothing else may follow it.
            return Err(settled(error));
        }
        self.overflowed |= error.class == ModelErrorClass::ContextOverflow;
        self.plan_again(place, class, row, error.retry_after);
        self.failed = Some(error);
        Ok(())
    }

    /// Rules that had no answer. What the models failed with before stays the cause.
    fn rules_failed(&mut self, place: usize, live: Live, error: ModelError) -> Result<(), ModelError> {
        drop(live);
        if let Some(progress) = self.progress.get_mut(place) {
            progress.is_over = true;
        }
        if self.restart && self.request.restarts == Restarts::Forbidden {
            return Err(settled(error));
        }
        self.cause.get_or_insert(error.class.into());
        self.failed.get_or_insert(error);
        Ok(())
    }

    /// Decides whether the step is asked again, now or when nothing else is left, and what else may be asked.
    fn plan_again(&mut self, place: usize, class: FailureClass, row: FailureRow, retry_after: Option<Duration>) {
        let FailureRow { again: Again { times, wait }, next, .. } = row;
        let Some(progress) = self.progress.get_mut(place) else { return };
        progress.failures = progress.failures.saturating_add(1);
        if progress.failures > times {
            self.go_past(place, class, next);
            return;
        }
        let backoff = self.plan.backoff(progress.failures);
        let wait = match wait {
            Wait::No => Duration::ZERO,
            Wait::Backoff => backoff.max(retry_after.unwrap_or_default()),
            Wait::RetryAfter => retry_after.unwrap_or(backoff),
        };
        let now = Instant::now();
        let mut at = now.checked_add(wait);
        let resting = self.plan.steps.get(place).and_then(|step| step.target.as_ref()?.check().err());
        if let Some(left_out) = resting {
            at = at.zip(left_out.ready_at).map(|(one, other)| one.max(other));
        }
        self.cause = Some(class);
        self.restrict(place, next);
        let patience = Duration::from_millis(self.plan.waits.patience_ms);
        match at {
            Some(at) if at <= now + patience && self.fits(at) => self.again = Some((place, at)),
            // Others first. It is come back to when there are none, and when that fits.
            at => {
                if let Some(progress) = self.progress.get_mut(place) {
                    progress.not_before = at;
                    progress.is_over = at.is_none() && resting.is_none();
                }
            }
        }
    }

    /// Leaves a step behind for the rest of the request.
    fn go_past(&mut self, place: usize, class: FailureClass, next: NextStep) {
        self.cause = Some(class);
        if let Some(progress) = self.progress.get_mut(place) {
            progress.is_over = true;
        }
        self.restrict(place, next);
    }

    /// Leaves those behind that may not be asked after a failure of the step at `place`.
    fn restrict(&mut self, place: usize, next: NextStep) {
        let Some(failed) = self.plan.steps.get(place) else { return };
        let steps = self.plan.steps.iter().zip(&mut self.progress).enumerate();
        for (_, (step, progress)) in steps.filter(|(other, (step, _))| *other != place && step.is_model()) {
            progress.is_over |= !may_follow(failed, step, next);
        }
    }

    /// The step to ask now, after waiting for one if need be.
    async fn choose(&mut self) -> Result<Chosen, ModelError> {
        loop {
            self.ensure_may_go_on()?;
            if let Some((place, at)) = self.again.take() {
                wait(&self.cx, at).await?;
                if let Ok(Some(chosen)) = self.try_step(place).await {
                    return Ok(chosen);
                }
            }
            let mut soonest: Option<Instant> = None;
            for place in 0..self.plan.steps.len() {
                match self.try_step(place).await {
                    Ok(Some(chosen)) => return Ok(chosen),
                    Ok(None) => {}
                    Err(ready_at) => soonest = Some(soonest.map_or(ready_at, |soonest| soonest.min(ready_at))),
                }
            }
            match soonest {
                Some(at) if self.fits_waiting(at) => wait(&self.cx, at).await?,
                soonest => return Err(self.end(soonest)),
            }
        }
    }

    /// The step, if it may be asked. `Err` when it may later.
    async fn try_step(&mut self, place: usize) -> Result<Option<Chosen>, Instant> {
        let plan = self.plan.clone();
        let (Some(step), Some(progress)) = (plan.steps.get(place), self.progress.get(place)) else { return Ok(None) };
        if progress.is_over {
            return Ok(None);
        }
        let Some(target) = &step.target else {
            return Ok(self.rules_may_answer().then_some(Chosen { place, pass: None }));
        };
        if self.cx.attempts().left() == 0 {
            return Ok(None);
        }
        if step.is_too_small_for(self.input) {
            self.overflowed = true;
            self.leave_out(place, step, ModelErrorClass::ContextOverflow, "step.too_small");
            return Ok(None);
        }
        if step.is_unable(&self.request) {
            self.leave_out(place, step, ModelErrorClass::NotNow, "step.unable");
            return Ok(None);
        }
        let now = Instant::now();
        if let Some(at) = progress.not_before.filter(|at| *at > now) {
            return Err(at);
        }
        let output = self.request.max_output.or(step.info().max_output).unwrap_or_default();
        let tokens = self.input.plus(output);
        let admitted = match target.check() {
            Ok(()) => target.admit(&self.cx.caller().tenant, tokens, self.cx.deadline()).await,
            Err(left_out) => Err(left_out),
        };
        let left_out = match admitted {
            Ok(pass) => return Ok(Some(Chosen { place, pass: Some(pass) })),
            Err(left_out) => left_out,
        };
        self.skipped(place, step, left_out.code);
        let LeftOut { ready_at, is_passing, .. } = left_out;
        if !is_passing {
            return Ok(None);
        }
        Err(ready_at.unwrap_or_else(|| Instant::now() + VERDICT))
    }

    /// Leaves a step out for the whole request.
    fn leave_out(&mut self, place: usize, step: &PlannedStep, class: ModelErrorClass, code: &'static str) {
        if self.cause.is_none() {
            self.cause = Some(class.into());
        }
        self.skipped(place, step, code);
        if let Some(progress) = self.progress.get_mut(place) {
            progress.is_over = true;
        }
    }

    /// Tells that a step is left out: once for each reason.
    fn skipped(&mut self, place: usize, step: &PlannedStep, code: &'static str) {
        if self.cause.is_none() {
            self.cause = Some(ModelErrorClass::NotNow.into());
        }
        let Some(progress) = self.progress.get_mut(place) else { return };
        if progress.told.replace(code) == Some(code) {
            return;
        }
        if let Some(target) = &step.target {
            target.skipped(code);
        }
        self.cx.tell_skipped_step(&step.name, code);
    }

    /// Leaves models behind whose answers did not fit, as often as the table lets them try again.
    fn pass_bad_answers(&mut self) {
        let class = FailureClass::Run(RunFailureClass::BadAnswer);
        let row = self.plan.table.row(class);
        let mut bad = self.request.failed_answers();
        for place in 0..self.plan.steps.len() {
            let Some(target) = self.plan.steps.get(place).and_then(|step| step.target.clone()) else { continue };
            if bad == 0 {
                return;
            }
            let Some(progress) = self.progress.get_mut(place) else { return };
            let of_step = row.again.times.saturating_add(1);
            if bad <= of_step {
                // The last one is this step's, and it is news.
                target.bad_answer();
            }
            let later = self.plan.steps.get(place + 1..).unwrap_or_default();
            let a_step_is_left = later.iter().any(|step| step.is_model() || row.rules);
            let is_last = !a_step_is_left && (!row.human || self.plan.human.is_none());
            if bad < of_step || row.next == NextStep::Never || is_last {
                return;
            }
            progress.is_over = true;
            self.cause = Some(class);
            bad = bad.saturating_sub(of_step);
        }
    }

    fn rules_may_answer(&self) -> bool {
        self.cause.is_none_or(|cause| self.plan.table.row(cause).rules)
    }

    /// What the request ends with when no step is left.
    fn end(&mut self, soonest: Option<Instant>) -> ModelError {
        let attempts_left = self.cx.attempts().left() > 0;
        let error = match self.failed.take() {
            _ if self.overflowed && attempts_left => {
                return ModelError::new(ModelErrorClass::ContextOverflow, "the conversation is longer than its window");
            }
            Some(error) => error,
            None if self.overflowed => {
                ModelError::new(ModelErrorClass::ContextOverflow, "the conversation is longer than its window")
            }
            None if self.is_answered_badly() => {
                ModelError::new(ModelErrorClass::AttemptsExhausted, "no model gave an answer that fits")
            }
            None if !attempts_left => {
                ModelError::new(ModelErrorClass::AttemptsExhausted, "the attempts for this turn are used up")
            }
            None => ModelError::new(ModelErrorClass::NotNow, "no model can be asked now"),
        };
        let row = self.cause.map(|cause| self.plan.table.row(cause)).unwrap_or_default();
        if let Some(question) = self.plan.human.clone().filter(|_| row.human) {
            return ModelError::new(ModelErrorClass::NeedsHuman, question.to_string()).with_source(error);
        }
        let mut error = settled(error);
        if let Some(at) = soonest {
            error.retry_after = Some(at.saturating_duration_since(Instant::now()));
        }
        error
    }

    fn is_answered_badly(&self) -> bool {
        self.cause == Some(FailureClass::Run(RunFailureClass::BadAnswer))
    }

    /// How long the step may take. One that is not the last model gets half of the time for its first word.
    fn bounds(&self, place: usize, step: &PlannedStep) -> Bounds {
        let now = Instant::now();
        let after = |time: Option<Duration>| time.and_then(|time| now.checked_add(time));
        let others = self.plan.steps.iter().zip(&self.progress).enumerate();
        let mut others = others.filter(|(other, (step, _))| *other > place && step.is_model());
        let half = match self.cx.time_left() {
            Some(left) if others.any(|(_, (_, progress))| !progress.is_over) => now.checked_add(left / 2),
            _ => None,
        };
        Bounds { first_token: after(step.first_token), half, all: after(step.time), began: now }
    }

    fn ensure_may_go_on(&self) -> Result<(), ModelError> {
        let is_over = self.cx.time_left().is_some_and(|left| left.is_zero());
        if is_over || self.cx.is_cancelled() { Err(stopped()) } else { Ok(()) }
    }

    /// Whether there is something to do after waiting until then.
    fn fits(&self, at: Instant) -> bool {
        self.cx.attempts().left() > 0 && self.cx.deadline().is_none_or(|deadline| at < deadline)
    }

    /// The same, for waiting while no step can be asked.
    fn fits_waiting(&mut self, at: Instant) -> bool {
        let longest = Duration::from_millis(self.plan.waits.longest_ms);
        let until = *self.wait_until.get_or_insert_with(|| Instant::now() + longest);
        at <= until && self.fits(at)
    }
}

async fn wait(cx: &RunContext, until: Instant) -> Result<(), ModelError> {
    if until <= Instant::now() {
        return Ok(());
    }
    tokio::select! {
        biased;
        () = cx.cancellation().cancelled() => Err(stopped()),
        () = tokio::time::sleep_until(until) => Ok(()),
    }
}

/// Until when a step may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) first_token: Option<Instant>,
    /// Half of the run's time, so that another model can still answer.
    pub(super) half: Option<Instant>,
    pub(super) all: Option<Instant>,
    pub(super) began: Instant,
}

/// More pieces than any answer begins with that has nothing to read.
const MOST_HELD: usize = 1_024;

/// Whether somebody reads something of this.
fn is_heard(chunk: &Chunk) -> bool {
    match chunk {
        Chunk::Text(text) => !text.trim().is_empty(),
        Chunk::Reasoning(text) | Chunk::Refusal(text) => !text.is_empty(),
        Chunk::CallStart { .. } | Chunk::Attachment(_) => true,
        _ => false,
    }
}

/// What follows a failure after somebody has read the beginning. Where its own row has no next model, this has none either.
fn after_commit(of_class: FailureRow, after: FailureRow) -> FailureRow {
    let next = if of_class.next == NextStep::Never { NextStep::Never } else { after.next };
    let mark = if of_class.mark == Mark::None { after.mark } else { of_class.mark };
    after.with_again(0, Wait::No).with_next(next).with_mark(mark)
}

/// Whether a model may be asked after a failure of another one.
fn may_follow(failed: &PlannedStep, step: &PlannedStep, next: NextStep) -> bool {
    let (failed_info, info) = (failed.info(), step.info());
    match next {
        NextStep::Never => false,
        NextStep::Any => true,
        NextStep::OtherCredential => match (&failed.target, &step.target) {
            (Some(failed), Some(target)) => !failed.shares_credential(target),
            _ => true,
        },
        NextStep::LargerWindow => info.context_window > failed_info.context_window && info.context_window.is_some(),
        NextStep::Cheaper => info.price.zip(failed_info.price).is_some_and(|(price, of_failed)| {
            let sum = |price: agent_core::Price| price.input.plus(price.output);
            sum(price) < sum(of_failed)
        }),
    }
}

/// The failure without what was used, which is settled.
fn settled(mut error: ModelError) -> ModelError {
    error.usage = None;
    error.cost = None;
    error
}

pub(super) fn stopped() -> ModelError {
    ModelError::new(ModelErrorClass::Stopped, "the run must stop")
}
