//! A suspended run as a value: versioned, serialisable, and sealed when it leaves the host.

mod resume_error;
mod seal;
mod wire;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use resume_error::ResumeError;
pub use seal::{SealError, SealKey};

use crate::budget::SavedLease;
use crate::caller::Caller;
use crate::id::{RunId, TaskId};
use crate::identity::TraceId;
use crate::pending::{Answer, Pending, PendingId};
use crate::run_context::RunContext;
use crate::sub_agent::Suspension;

/// A run that was suspended, or that failed and can be tried again.
///
/// It serialises as a versioned document, which belongs in trusted storage: who can write it can forge approvals. A state that
/// passes through other hands is [sealed](RunState::seal).
///
/// A state is a value and can be copied. A host that stores it compares and swaps [`revision`](RunState::revision), so that of
/// two processes that resume one state, one wins; a [`Journal`](crate::Journal) keeps the other from repeating effects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "wire::Document", into = "wire::Document")]
pub struct RunState {
    pub(crate) run_id: RunId,
    pub(crate) revision: u64,
    pub(crate) task_id: TaskId,
    pub(crate) trace_id: TraceId,
    pub(crate) caller: Caller,
    pub(crate) lease: SavedLease,
    pub(crate) time_left: Option<Duration>,
    pub(crate) answered: Vec<PendingId>,
    pub(crate) suspension: Suspension,
}

impl RunState {
    /// A run as it is now, at its Main Agent's place.
    pub(crate) fn of(cx: &RunContext, suspension: Suspension) -> Self {
        // Whole milliseconds, as it is saved.
        let whole = |left: Duration| Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        Self {
            run_id: cx.run_id(),
            revision: cx.revision().saturating_add(1),
            task_id: cx.task_id(),
            trace_id: cx.identity().trace_id,
            caller: cx.caller().clone(),
            lease: cx.lease().save(),
            time_left: cx.run().time_over.map(|over| whole(over.saturating_duration_since(Instant::now()))),
            answered: cx.run().answered.to_vec(),
            suspension,
        }
    }

    /// The run.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.run_id
    }

    /// The task that the run works on.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.task_id
    }

    /// How often the run was suspended: each state of a run has a higher one than the state that it came from.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// On whose behalf it runs.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What it waits for.
    #[must_use]
    pub fn pending(&self) -> &[Pending] {
        &self.suspension.pending
    }

    /// Whether it can go on without an answer: it was drained, or failed.
    #[must_use]
    pub fn is_runnable(&self) -> bool {
        self.suspension.runnable
    }

    /// Its budget and what is spent of it.
    #[must_use]
    pub fn lease(&self) -> SavedLease {
        self.lease
    }

    /// How much active time is left.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.time_left
    }

    /// Whether `answers` of the tenant of `by` can be taken, before anything changes. Who may answer, `may_answer` tells.
    pub(crate) fn check_answers(
        &self,
        by: &Caller,
        answers: &[Answer],
        may_answer: impl Fn(&Pending, &Caller) -> bool,
    ) -> Result<(), ResumeError> {
        if by.tenant != self.caller.tenant {
            return Err(ResumeError::OtherTenant);
        }
        if answers.is_empty() && !self.is_runnable() {
            return Err(ResumeError::NothingToDo { pending: self.pending().len() });
        }
        for (index, answer) in answers.iter().enumerate() {
            self.check_answer(answer)?;
            if answers.iter().take(index).any(|earlier| earlier.pending == answer.pending) {
                return Err(ResumeError::AlreadyAnswered { pending: answer.pending.clone() });
            }
        }
        for answer in answers {
            if !may_answer(self.find(&answer.pending)?, &answer.by) {
                let user = answer.by.user.to_string();
                return Err(ResumeError::NotAllowed { pending: answer.pending.clone(), user });
            }
        }
        Ok(())
    }

    fn check_answer(&self, answer: &Answer) -> Result<(), ResumeError> {
        if answer.by.tenant != self.caller.tenant {
            return Err(ResumeError::OtherTenant);
        }
        if answer.pending.run != self.run_id {
            return Err(ResumeError::OtherRun { expected: self.run_id, found: answer.pending.run });
        }
        if self.answered.contains(&answer.pending) {
            return Err(ResumeError::AlreadyAnswered { pending: answer.pending.clone() });
        }
        let pending = self.find(&answer.pending)?;
        if !pending.kind.accepts(&answer.value) {
            return Err(ResumeError::WrongKind {
                pending: answer.pending.clone(),
                kind: pending.kind.name(),
                found: answer.value.name(),
            });
        }
        pending.check_value(&answer.value)
    }

    /// What `id` names, among what is waited for.
    pub(crate) fn find(&self, id: &PendingId) -> Result<&Pending, ResumeError> {
        let found = self.pending().iter().find(|pending| pending.id == *id);
        found.ok_or_else(|| ResumeError::NotPending { pending: id.clone() })
    }
}
