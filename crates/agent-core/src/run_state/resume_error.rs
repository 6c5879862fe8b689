//! Why answers are refused.

use crate::error::ErrorCode;
use crate::id::RunId;
use crate::pending::{AnswerValue, Pending, PendingId};
use crate::schema::{Schema, SchemaViolation};

/// Answers to a suspended run were refused. The run's state is as it was.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The run is of another tenant. Says nothing else about it.
    #[error("the run is of another tenant")]
    OtherTenant,
    /// The answer is to another run.
    #[error("the answer is to run {found}, this is run {expected}")]
    OtherRun {
        /// This run.
        expected: RunId,
        /// The run in the answer.
        found: RunId,
    },
    /// Nothing of that name is waited for.
    #[error("nothing is waited for at {pending}")]
    NotPending {
        /// What was answered.
        pending: PendingId,
    },
    /// It was answered before.
    #[error("{pending} is answered already")]
    AlreadyAnswered {
        /// What was answered.
        pending: PendingId,
    },
    /// The answer is of a kind that does not answer this.
    #[error("{pending} is of kind {kind}, which `{found}` does not answer")]
    WrongKind {
        /// What was answered.
        pending: PendingId,
        /// Its kind.
        kind: &'static str,
        /// The kind of the answer.
        found: &'static str,
    },
    /// The answer's value does not fit.
    #[error("the answer to {pending} does not fit: {violation}")]
    InvalidValue {
        /// What was answered.
        pending: PendingId,
        /// What is wrong.
        violation: SchemaViolation,
    },
    /// The policy does not let this caller answer this.
    #[error("`{user}` may not answer {pending}")]
    NotAllowed {
        /// What was answered.
        pending: PendingId,
        /// Who tried.
        user: String,
    },
    /// No answer came, and there is nothing to do without one.
    #[error("the run waits for {pending} answers, none came")]
    NothingToDo {
        /// How many things are waited for.
        pending: usize,
    },
}

impl ResumeError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::new(match self {
            Self::OtherTenant => "resume.other_tenant",
            Self::OtherRun { .. } => "resume.other_run",
            Self::NotPending { .. } => "resume.not_pending",
            Self::AlreadyAnswered { .. } => "resume.already_answered",
            Self::WrongKind { .. } => "resume.wrong_kind",
            Self::InvalidValue { .. } => "resume.invalid_value",
            Self::NotAllowed { .. } => "resume.not_allowed",
            Self::NothingToDo { .. } => "resume.nothing_to_do",
        })
    }

    /// Whether the same may succeed later: never.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        false
    }
}

impl Pending {
    /// Whether the value in an answer fits the schema, if there are both.
    pub(super) fn check_value(&self, answer: &AnswerValue) -> Result<(), ResumeError> {
        let (AnswerValue::Value(value) | AnswerValue::ApproveWith(value)) = answer else { return Ok(()) };
        let Some(schema) = self.kind.schema() else { return Ok(()) };
        // An invalid schema refuses every value, with words about itself.
        let checked = Schema::compile((**schema).clone()).check(value);
        checked.map_err(|violation| ResumeError::InvalidValue { pending: self.id.clone(), violation })
    }
}
