//! Which step of the plan is asked.

use std::time::Duration;

use agent_core::{ModelError, ModelErrorClass, RunContext, Tokens};
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use super::chain::{Chain, stopped};
use super::follow::may_follow;
use super::limiter::{A_YEAR, Place};
use super::step::CheckedStep;
use super::table::{FailureClass, NextStep, RunFailureClass};
use super::targets::LeftOut;

/// The code of a step for which others hold the budget.
pub(super) const BUDGET_HELD: &str = "step.budget_held";

/// How long is waited for a verdict that somebody else is about to get.
const VERDICT: Duration = Duration::from_millis(50);

/// A step that may be asked.
pub(super) struct Chosen {
    pub(super) place: usize,
    /// Its place among the calls that its limits allow. `None` for rules.
    pub(super) seat: Option<Place>,
}

/// What comes of looking at a step.
pub(super) enum Looked {
    /// It may be asked.
    Free(Chosen),
    /// It may not, as things are.
    Left,
    /// It may at this time.
    Later(Instant),
}

impl Chain {
    /// The step to ask now, after waiting for one if need be.
    pub(super) async fn choose(&mut self) -> Result<Chosen, ModelError> {
        loop {
            // Steps that fail at once, again and again, give nobody else a chance to stop this.
            consume_budget().await;
            self.ensure_may_go_on()?;
            if let Some((place, at)) = self.again.take() {
                wait(&self.cx, at).await?;
                if let Looked::Free(chosen) = self.look_at(place).await? {
                    return Ok(chosen);
                }
            }
            let mut soonest: Option<(Instant, usize)> = None;
            // Those that failed already are come back to when there is nothing else.
            for failed_before in [false, true] {
                for turn in 0..self.order.len() {
                    let Some(&place) = self.order.get(turn) else { continue };
                    if self.progress.get(place).is_none_or(|progress| (progress.failures > 0) != failed_before) {
                        continue;
                    }
                    match self.look_at(place).await? {
                        Looked::Free(chosen) => return Ok(chosen),
                        Looked::Left => {}
                        Looked::Later(at) => {
                            let later = (at, place);
                            soonest = Some(soonest.map_or(later, |soonest| soonest.min(later)));
                        }
                    }
                }
            }
            match soonest {
                Some((at, place)) if self.fits_waiting(at, place) => {
                    wait(&self.cx, at).await?;
                }
                soonest => return Err(self.end(soonest.map(|(at, _)| at))),
            }
        }
    }

    /// Whether the step may be asked.
    async fn look_at(&mut self, place: usize) -> Result<Looked, ModelError> {
        let plan = self.plan.clone();
        let (Some(step), Some(progress)) = (plan.steps.get(place), self.progress.get(place)) else {
            return Ok(Looked::Left);
        };
        if progress.is_over {
            return Ok(Looked::Left);
        }
        let Some(target) = &step.target else {
            // A conversation that is too long is the agent's to shorten, before rules answer in a model's place.
            let is_free = self.rules_may_answer() && !(self.is_too_long() && self.attempts_left() > 0);
            return Ok(if is_free { Looked::Free(Chosen { place, seat: None }) } else { Looked::Left });
        };
        if self.attempts_left() == 0 || self.models_until().is_some_and(|until| until <= Instant::now()) {
            return Ok(Looked::Left);
        }
        if step.is_too_small_for(&self.request, self.input) {
            self.leave_out(place, step, ModelErrorClass::ContextOverflow, "step.too_small");
            return Ok(Looked::Left);
        }
        if step.is_unable(&self.request) {
            self.leave_out(place, step, ModelErrorClass::NotNow, "step.unable");
            return Ok(Looked::Left);
        }
        if let Some(at) = progress.not_before.filter(|at| *at > Instant::now()) {
            return Ok(Looked::Later(at));
        }
        let tokens = self.tokens(step);
        let admitted = match target.check() {
            Ok(()) => {
                let until = if target.is_limited() { self.seat_until(place) } else { None };
                let seat = target.seat(&self.cx.caller().tenant, tokens, until);
                self.cx.unless_stopped(seat).await.map_err(|_| stopped())?
            }
            Err(left_out) => Err(left_out),
        };
        let left_out = match admitted {
            Ok(seat) => return Ok(Looked::Free(Chosen { place, seat: Some(seat) })),
            Err(left_out) => left_out,
        };
        let LeftOut { code, ready_at, is_passing } = left_out;
        if !is_passing {
            self.leave_out(place, step, ModelErrorClass::NotNow, code);
            return Ok(Looked::Left);
        }
        self.skipped(place, step, ModelErrorClass::NotNow, code);
        Ok(Looked::Later(self.spread(ready_at.unwrap_or_else(|| Instant::now() + VERDICT))))
    }

    /// Leaves a step out that could not be asked after all, until it may be different.
    pub(super) fn put_off(&mut self, place: usize, step: &CheckedStep, code: &'static str, ready_at: Option<Instant>) {
        self.skipped(place, step, ModelErrorClass::NotNow, code);
        if let Some(progress) = self.progress.get_mut(place) {
            progress.not_before = Some(ready_at.unwrap_or_else(|| Instant::now() + VERDICT));
        }
    }

    /// How many tokens a step will probably take.
    pub(super) fn tokens(&self, step: &CheckedStep) -> Tokens {
        self.input.plus(self.request.max_output.or(step.info().max_output).unwrap_or_default())
    }

    /// Whether another model than this one could be asked now and was not yet.
    pub(super) fn has_fresh_model(&self, but: usize) -> bool {
        self.fresh_models(but).next().is_some()
    }

    /// Whether another model could follow a failure of this one, by what its row says of the next.
    pub(super) fn has_fresh_successor(&self, place: usize, next: NextStep) -> bool {
        let Some(failed) = self.plan.steps.get(place) else { return false };
        self.fresh_models(place).any(|step| may_follow(failed, step, next))
    }

    /// The models, but for this one, that could be asked now and were not yet.
    fn fresh_models(&self, but: usize) -> impl Iterator<Item = &CheckedStep> {
        let steps = self.plan.steps.iter().zip(&self.progress).enumerate();
        let fresh = steps.filter(move |(place, (step, progress))| {
            *place != but
                && !progress.is_over
                && progress.failures == 0
                && step.target.as_ref().is_some_and(|target| target.check().is_ok())
                && !step.is_too_small_for(&self.request, self.input)
                && !step.is_unable(&self.request)
        });
        fresh.map(|(_, (step, _))| step)
    }

    /// Leaves a step out for the whole request.
    fn leave_out(&mut self, place: usize, step: &CheckedStep, class: ModelErrorClass, code: &'static str) {
        self.skipped(place, step, class, code);
        self.leave_behind(place);
    }

    /// Tells that a step is left out: once for each reason. It decides what may follow as if it had been asked and had failed so.
    pub(super) fn skipped(&mut self, place: usize, step: &CheckedStep, class: ModelErrorClass, code: &'static str) {
        let Some(progress) = self.progress.get_mut(place) else { return };
        if progress.told.replace(code) == Some(code) {
            return;
        }
        let not_now = ModelErrorClass::NotNow;
        let replaces = match self.cause {
            // An answer that did not fit can be repaired.
            Some(_) if self.is_answered_badly() => false,
            // A conversation that is too long for this one can be shortened, unless another one's failure is to be told.
            Some(cause) if class != not_now => cause == not_now.into(),
            Some(_) => !self.is_too_long(),
            None => true,
        };
        if replaces {
            self.cause = Some(class.into());
        }
        let next = self.plan.table.row(class).next;
        // A window that is known says nothing about those that are not.
        if next != NextStep::LargerWindow {
            self.restrict(place, next);
        }
        if let Some(target) = &step.target {
            target.skipped(code);
        }
        self.cx.tell_skipped_step(&step.name, code);
    }

    /// Goes on from the steps whose answers did not fit: the last one repairs its answer, as often as the table says, and then those
    /// after it are asked.
    pub(super) fn recall_bad_answers(&mut self) {
        let class = FailureClass::Run(RunFailureClass::BadAnswer);
        let row = self.plan.table.row(class);
        let plan = self.plan.clone();
        let mut last = None;
        for name in self.request.bad_answers.iter().flatten() {
            let Some(place) = plan.steps.iter().position(|step| step.name == *name) else { continue };
            let (Some(step), Some(progress)) = (plan.steps.get(place), self.progress.get_mut(place)) else { continue };
            progress.failures = progress.failures.saturating_add(1);
            // Rules say the same again.
            progress.is_over = !step.is_model() || progress.failures > row.again.times;
            last = Some((place, step));
        }
        let Some((last, step)) = last else { return };
        self.cause.get_or_insert(class);
        let Some(target) = &step.target else { return };
        // Asked again since the repair was too long, it was counted before.
        if self.request.overflows == 0 {
            target.bad_answer();
        }
        self.order.sort_by_key(|place| {
            let is_model = plan.steps.get(*place).is_some_and(CheckedStep::is_model);
            (!is_model, *place < last, *place)
        });
        self.restrict(last, row.next);
        let is_over = self.progress.get(last).is_none_or(|progress| progress.is_over);
        if is_over && !self.something_is_left(class) {
            // Nobody else is there to ask.
            if let Some(progress) = self.progress.get_mut(last) {
                progress.is_over = false;
            }
        } else if !is_over && self.attempts_are_spare(last) {
            self.again = Some((last, Instant::now()));
        }
    }

    /// Whether anything may still answer after a failure of this kind.
    fn something_is_left(&self, class: FailureClass) -> bool {
        let rules = self.plan.table.row(class).rules;
        let mut steps = self.plan.steps.iter().zip(&self.progress);
        steps.any(|(step, progress)| !progress.is_over && (step.is_model() || rules)) || self.person_may_answer(class)
    }

    /// How many attempts models have: none for what cannot be made to fit.
    pub(super) fn attempts_left(&self) -> u32 {
        if self.request.unfit.is_some() { 0 } else { self.cx.attempts().left() }
    }

    /// Whether a step may be asked again, and enough attempts stay for the models that were not asked yet.
    pub(super) fn attempts_are_spare(&self, place: usize) -> bool {
        self.attempts_left() as usize > self.fresh_models(place).count()
    }

    pub(super) fn rules_may_answer(&self) -> bool {
        self.cause.is_none_or(|cause| self.plan.table.row(cause).rules)
    }

    /// Whether the conversation was too long for the last model that was looked at or asked.
    pub(super) fn is_too_long(&self) -> bool {
        self.cause == Some(ModelErrorClass::ContextOverflow.into())
    }

    pub(super) fn ensure_may_go_on(&self) -> Result<(), ModelError> {
        self.cx.ensure_may_go_on().map_err(|_| stopped())
    }

    /// A moment at `at` or somewhat after it: not all who wait for the same come back at once.
    pub(super) fn spread(&self, at: Instant) -> Instant {
        let wait = at.saturating_duration_since(Instant::now());
        at.checked_add(self.plan.backoff(1).min(wait)).filter(|later| self.fits(*later)).unwrap_or(at)
    }

    /// Whether there is something to do after waiting until then.
    pub(super) fn fits(&self, at: Instant) -> bool {
        self.attempts_left() > 0 && self.models_until().is_none_or(|until| at < until)
    }

    /// The same, for waiting while no step can be asked.
    fn fits_waiting(&mut self, at: Instant, place: usize) -> bool {
        let for_budget = self.progress.get(place).is_some_and(|progress| progress.told == Some(BUDGET_HELD));
        // It comes back, and nobody else is there.
        let is_worth_it = for_budget && !self.others_may_answer_in_place();
        (is_worth_it || at <= self.longest_wait()) && self.fits(at)
    }

    /// Until when is waited, all together, while no step can be asked.
    pub(super) fn longest_wait(&mut self) -> Instant {
        let longest = Duration::from_millis(self.plan.waits.longest_ms).min(A_YEAR);
        *self.wait_until.get_or_insert_with(|| Instant::now() + longest)
    }
}

async fn wait(cx: &RunContext, until: Instant) -> Result<(), ModelError> {
    if until <= Instant::now() {
        return Ok(());
    }
    cx.unless_stopped(tokio::time::sleep_until(until)).await.map_err(|_| stopped())
}
