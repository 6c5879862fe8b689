//! Which step of the plan is asked.

use std::time::Duration;

use agent_core::{ModelError, ModelErrorClass, RunContext};
use tokio::time::Instant;

use super::chain::{Bounds, Chain, stopped};
use super::limiter::Place;
use super::step::PlannedStep;
use super::table::{FailureClass, NextStep, RunFailureClass};
use super::targets::LeftOut;

/// How long is waited for a verdict that somebody else is about to get.
const VERDICT: Duration = Duration::from_millis(50);

/// A step that may be asked.
pub(super) struct Chosen {
    pub(super) place: usize,
    /// Its place among the calls that its limits allow. `None` for rules.
    pub(super) seat: Option<Place>,
}

impl Chain {
    /// The step to ask now, after waiting for one if need be.
    pub(super) async fn choose(&mut self) -> Result<Chosen, ModelError> {
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
    pub(super) async fn try_step(&mut self, place: usize) -> Result<Option<Chosen>, Instant> {
        let plan = self.plan.clone();
        let (Some(step), Some(progress)) = (plan.steps.get(place), self.progress.get(place)) else { return Ok(None) };
        if progress.is_over {
            return Ok(None);
        }
        let Some(target) = &step.target else {
            // A conversation that is too long is the agent's to shorten, before rules answer in a model's place.
            if self.overflowed && self.cx.attempts().left() > 0 {
                return Ok(None);
            }
            return Ok(self.rules_may_answer().then_some(Chosen { place, seat: None }));
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
            Ok(()) => target.seat(&self.cx.caller().tenant, tokens, self.cx.deadline()).await,
            Err(left_out) => Err(left_out),
        };
        let left_out = match admitted {
            Ok(seat) => return Ok(Some(Chosen { place, seat: Some(seat) })),
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
    pub(super) fn leave_out(&mut self, place: usize, step: &PlannedStep, class: ModelErrorClass, code: &'static str) {
        if self.cause.is_none() {
            self.cause = Some(class.into());
        }
        self.skipped(place, step, code);
        if let Some(progress) = self.progress.get_mut(place) {
            progress.is_over = true;
        }
    }

    /// Tells that a step is left out: once for each reason.
    pub(super) fn skipped(&mut self, place: usize, step: &PlannedStep, code: &'static str) {
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
    pub(super) fn pass_bad_answers(&mut self) {
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

    pub(super) fn rules_may_answer(&self) -> bool {
        self.cause.is_none_or(|cause| self.plan.table.row(cause).rules)
    }

    /// How long the step may take. One that is not the last model gets half of the time for its first word.
    pub(super) fn bounds(&self, place: usize, step: &PlannedStep) -> Bounds {
        let now = Instant::now();
        let after = |time: Option<Duration>| time.and_then(|time| now.checked_add(time));
        let others = self.plan.steps.iter().zip(&self.progress).enumerate();
        let mut others = others.filter(|(other, (step, _))| *other > place && step.is_model());
        let attempts_left = self.cx.attempts().left() > 0;
        let half = match self.cx.time_left() {
            Some(left) if attempts_left && others.any(|(_, (_, progress))| !progress.is_over) => {
                now.checked_add(left / 2)
            }
            _ => None,
        };
        Bounds { first_token: after(step.first_token), half, all: after(step.time), began: now }
    }

    pub(super) fn ensure_may_go_on(&self) -> Result<(), ModelError> {
        let is_over = self.cx.time_left().is_some_and(|left| left.is_zero());
        if is_over || self.cx.is_cancelled() { Err(stopped()) } else { Ok(()) }
    }

    /// Whether there is something to do after waiting until then.
    pub(super) fn fits(&self, at: Instant) -> bool {
        self.cx.attempts().left() > 0 && self.cx.deadline().is_none_or(|deadline| at < deadline)
    }

    /// The same, for waiting while no step can be asked.
    pub(super) fn fits_waiting(&mut self, at: Instant) -> bool {
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
