//! How long an attempt may take.

use std::time::Duration;

use agent_core::{ModelErrorClass, Restarts};
use tokio::time::Instant;

use super::chain::Chain;
use super::follow::after_commit;
use super::limiter::A_YEAR;
use super::step::CheckedStep;
use super::table::{FailureClass, FailureRow, Mark, NextStep, RunFailureClass};

/// How long an attempt may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) began: Instant,
    /// When the end of the run's time begins that is kept for rules or a person, if they may follow.
    pub(super) last: Option<Instant>,
    /// When something of the answer has to be there.
    pub(super) first_token: Option<Instant>,
    /// When all of it has to be.
    pub(super) all: Option<Instant>,
    /// When the run's time is over.
    pub(super) deadline: Option<Instant>,
    pub(super) after: After,
    /// What a silence says about the model, before something was read and after that.
    pub(super) silence: [Mark; 2],
}

/// Who needs some of the run's time, should the attempt fail.
#[derive(Debug, Clone, Copy)]
pub(super) struct After {
    /// Another model: one that is silent for half of the time that is left is given up.
    pub(super) model: bool,
    /// Rules or a person: the end of the time is theirs.
    pub(super) last: bool,
}

/// Which time is over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Over {
    /// The run's.
    Deadline,
    /// The one for the first piece.
    FirstToken,
    /// The one for all of the answer.
    All,
    /// Half of what was left when it began to be waited for.
    Silence,
    /// All but what rules or a person need.
    Last,
}

impl Bounds {
    /// What is over first, and when, if nothing more comes after `since`. Of a stream that paused for as long as `longest_pause`, and
    /// went on, the double is no silence.
    pub(super) fn next(&self, since: Instant, longest_pause: Duration, is_committed: bool) -> Option<(Instant, Over)> {
        let is_silent = |deadline| halfway(since, deadline).max(since + longest_pause * 2);
        let silence = self.deadline.filter(|_| self.after.model).map(is_silent);
        let ends = [
            (self.deadline, Over::Deadline),
            (self.first_token.filter(|_| !is_committed), Over::FirstToken),
            (self.all, Over::All),
            (silence, Over::Silence),
            (self.last.filter(|_| self.after.last), Over::Last),
        ];
        let ends = ends.into_iter().filter_map(|(at, over)| Some((at?, over)));
        ends.min_by_key(|(at, _)| *at)
    }
}

fn halfway(from: Instant, to: Instant) -> Instant {
    from + to.saturating_duration_since(from) / 2
}

impl Chain {
    /// How long the step may take.
    pub(super) fn bounds(&self, place: usize, step: &CheckedStep) -> Bounds {
        let began = Instant::now();
        let after = |time: Option<Duration>| time.and_then(|time| began.checked_add(time));
        let deadline = self.cx.deadline();
        // Rules are asked in the time that is kept for them, and leave half of it to those after them.
        let own_last = deadline.filter(|_| !step.is_model()).map(|deadline| halfway(began, deadline));
        Bounds {
            began,
            last: self.last.max(own_last),
            first_token: after(step.first_token),
            all: after(step.time),
            deadline,
            silence: [ModelErrorClass::FirstTokenTimeout, ModelErrorClass::Stalled]
                .map(|class| self.plan.table.row(class).mark),
            after: self.after(place, ModelErrorClass::FirstTokenTimeout, |class| self.plan.table.row(class)),
        }
    }

    /// Who may follow the step at `place` once something of its answer was read.
    pub(super) fn after_commit(&self, place: usize) -> After {
        let row = self.plan.table.row(RunFailureClass::AfterCommit);
        let after = self.after(place, ModelErrorClass::Stalled, |class| after_commit(self.plan.table.row(class), row));
        match self.request.restarts {
            Restarts::Allowed => after,
            Restarts::Forbidden => After { model: false, last: self.person_may_answer(RunFailureClass::AfterCommit) },
        }
    }

    /// Who may follow should it be silent for too long, or take too long, by what follows these.
    fn after(&self, place: usize, silence: ModelErrorClass, row: impl Fn(ModelErrorClass) -> FailureRow) -> After {
        // Without a deadline nobody looks at it.
        if self.last.is_none() {
            return After { model: false, last: false };
        }
        let next = row(silence).next;
        let model = next != NextStep::Never && self.attempts_left() > 0 && self.has_fresh_successor(place, next);
        After { model, last: self.last_may_answer(place, row(ModelErrorClass::TimedOut)) }
    }

    /// Whether rules or a person may answer in the place of this step.
    fn last_may_answer(&self, place: usize, row: FailureRow) -> bool {
        let steps = self.plan.steps.iter().zip(&self.progress).enumerate();
        let mut rules =
            steps.filter(|(other, (step, progress))| *other != place && !step.is_model() && !progress.is_over);
        (row.human && self.plan.human.is_some()) || (row.rules && rules.next().is_some())
    }

    /// Whether the plan ends with a person, who may answer after a failure of this kind.
    pub(super) fn person_may_answer(&self, class: impl Into<FailureClass>) -> bool {
        self.plan.human.is_some() && self.plan.table.row(class).human
    }

    /// Until when models may be asked.
    pub(super) fn models_until(&self) -> Option<Instant> {
        // None has no such place.
        let nobody = self.plan.steps.len();
        let last = self.last?;
        let row = self.plan.table.row(ModelErrorClass::TimedOut);
        if self.last_may_answer(nobody, row) { Some(last) } else { self.cx.deadline() }
    }

    /// Whether rules or a person may answer while no model can be asked.
    pub(super) fn others_may_answer_in_place(&self) -> bool {
        self.last_may_answer(self.plan.steps.len(), self.plan.table.row(ModelErrorClass::NotNow))
    }

    /// Until when a place within a step's limits is waited for.
    pub(super) fn seat_until(&self, place: usize) -> Option<Instant> {
        if self.has_fresh_model(place) { Some(self.patience()) } else { self.models_until() }
    }

    /// Until when budget is waited for that others hold. Where nobody else is there, they will give it back.
    pub(super) fn budget_until(&mut self, place: usize) -> Option<Instant> {
        let until = self.seat_until(place);
        if self.has_fresh_model(place) || !self.others_may_answer_in_place() {
            return until;
        }
        let longest = self.longest_wait();
        Some(until.map_or(longest, |until| until.min(longest)))
    }

    /// Until when a step is waited for while another one could answer: not long, and no more than half of the time.
    pub(super) fn patience(&self) -> Instant {
        let now = Instant::now();
        let half = self.models_until().map_or(Duration::MAX, |until| until.saturating_duration_since(now) / 2);
        now + Duration::from_millis(self.plan.waits.patience_ms).min(half).min(A_YEAR)
    }
}
