//! What follows a failure.

use std::time::Duration;

use agent_core::{AgentError, ModelError, ModelErrorClass, Price, Restarts};
use tokio::time::Instant;

use super::attempt::{Failed, Live};
use super::chain::{Chain, stopped};
use super::step::CheckedStep;
use super::table::{Again, FailureClass, FailureRow, Mark, NextStep, RunFailureClass, Wait};
use super::targets::COOLING;

impl Chain {
    /// An attempt that was not admitted.
    pub(super) fn refused(&mut self, place: usize, error: AgentError) -> Result<(), ModelError> {
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
    pub(super) fn give_up(&mut self, mut live: Live, failed: Failed) -> Result<(), ModelError> {
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
        if marks && let Some((target, pass, tokens)) = live.take_pass() {
            target.failed(pass, row.mark, error.code().as_str(), error.retry_after, tokens);
        }
        if error.class == ModelErrorClass::Stopped {
            return Err(error);
        }
        if self.restart && self.request.restarts == Restarts::Forbidden {
            // Somebody has read the beginning: no other model's answer may follow it.
            return Err(self.hand_over(class, error.after_a_beginning()));
        }
        self.plan_again(place, class, row, error.retry_after);
        self.failed = Some(error);
        Ok(())
    }

    /// Rules that had no answer. What the models failed with before stays the cause.
    pub(super) fn rules_failed(&mut self, place: usize, live: Live, error: ModelError) -> Result<(), ModelError> {
        drop(live);
        self.leave_behind(place);
        if self.restart && self.request.restarts == Restarts::Forbidden {
            return Err(self.hand_over(RunFailureClass::AfterCommit, error));
        }
        self.cause.get_or_insert(error.class.into());
        self.failed.get_or_insert(error);
        Ok(())
    }

    /// Decides whether the step is asked again, now or when nothing else is left, and what else may be asked.
    pub(super) fn plan_again(
        &mut self,
        place: usize,
        class: FailureClass,
        row: FailureRow,
        retry_after: Option<Duration>,
    ) {
        let FailureRow { again: Again { times, wait }, next, .. } = row;
        let Some(progress) = self.progress.get_mut(place) else { return };
        progress.failures = progress.failures.saturating_add(1);
        if progress.failures > times {
            self.go_past(place, class, next);
            return;
        }
        let now = Instant::now();
        let mut at = match wait {
            Wait::No => Some(now),
            Wait::Backoff => {
                let backoff = self.plan.backoff(progress.failures);
                let asked = now.checked_add(retry_after.unwrap_or_default());
                asked.map(|at| at.checked_add(backoff).filter(|later| self.fits(*later)).unwrap_or(at))
            }
        };
        let resting = self.plan.steps.get(place).and_then(|step| step.target.as_ref()?.check().err());
        if let Some(left_out) = resting {
            at = at.zip(left_out.ready_at).map(|(one, other)| one.max(other));
        }
        self.cause = Some(class);
        self.restrict(place, next);
        // An open breaker says that there are more failures than this one: others first.
        let is_open = resting.is_some_and(|left_out| left_out.code != COOLING);
        match at {
            Some(at) if !is_open && self.attempts_are_spare(place) && at <= self.patience() && self.fits(at) => {
                self.again = Some((place, at));
            }
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
    pub(super) fn go_past(&mut self, place: usize, class: FailureClass, next: NextStep) {
        self.cause = Some(class);
        self.leave_behind(place);
        self.restrict(place, next);
    }

    pub(super) fn leave_behind(&mut self, place: usize) {
        if let Some(progress) = self.progress.get_mut(place) {
            progress.is_over = true;
        }
    }

    /// Leaves those behind that may not be asked after a failure of the step at `place`.
    pub(super) fn restrict(&mut self, place: usize, next: NextStep) {
        let Some(failed) = self.plan.steps.get(place) else { return };
        let steps = self.plan.steps.iter().zip(&mut self.progress).enumerate();
        for (_, (step, progress)) in steps.filter(|(other, (step, _))| *other != place && step.is_model()) {
            progress.is_over |= !may_follow(failed, step, next);
        }
    }

    /// What the request ends with when no step is left.
    pub(super) fn end(&mut self, soonest: Option<Instant>) -> ModelError {
        let attempts_left = self.attempts_left() > 0;
        let too_long =
            || ModelError::new(ModelErrorClass::ContextOverflow, "the conversation is longer than its window");
        let error = match self.failed.take() {
            // The agent shortens it, and asks again.
            _ if self.is_too_long() && attempts_left && self.others_may_answer() => return too_long(),
            Some(error) => error,
            None if self.is_too_long() => too_long(),
            None if self.is_answered_badly() => {
                ModelError::new(ModelErrorClass::AttemptsExhausted, "no model gave an answer that fits")
            }
            None if !attempts_left => {
                ModelError::new(ModelErrorClass::AttemptsExhausted, "the attempts for this turn are used up")
            }
            None => ModelError::new(ModelErrorClass::NotNow, "no model can be asked now"),
        };
        let mut error = self.hand_over(self.cause.unwrap_or(error.class.into()), error);
        if let Some(at) = soonest.filter(|_| error.class != ModelErrorClass::NeedsHuman) {
            error.retry_after = Some(at.saturating_duration_since(Instant::now()));
        }
        error
    }

    /// What ends the request: a question to the plan's person, if he may answer after a failure of this kind, else the failure.
    fn hand_over(&self, class: impl Into<FailureClass>, error: ModelError) -> ModelError {
        match &self.plan.human {
            Some(question) if self.person_may_answer(class) => {
                ModelError::new(ModelErrorClass::NeedsHuman, question.to_string()).with_source(error)
            }
            _ => settled(error),
        }
    }

    /// Whether the last failure lets other models answer at all.
    fn others_may_answer(&self) -> bool {
        self.cause.is_none_or(|cause| self.plan.table.row(cause).next != NextStep::Never)
    }

    pub(super) fn is_answered_badly(&self) -> bool {
        self.cause == Some(FailureClass::Run(RunFailureClass::BadAnswer))
    }
}

/// What follows a failure after somebody has read the beginning. Where its own row has no next model, the request was at fault: then
/// this has none either, and says nothing about the model.
pub(super) fn after_commit(of_class: FailureRow, after: FailureRow) -> FailureRow {
    let after = after.with_again(0, Wait::No);
    match (of_class.next, of_class.mark) {
        (NextStep::Never, mark) => after.with_next(NextStep::Never).with_mark(mark),
        (_, Mark::None) => after,
        (_, mark) => after.with_mark(mark),
    }
}

/// Whether a model may be asked after a failure of another one.
pub(super) fn may_follow(failed: &CheckedStep, step: &CheckedStep, next: NextStep) -> bool {
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
            let sum = |price: Price| price.input.plus(price.output);
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
