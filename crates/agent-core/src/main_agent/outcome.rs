//! How a run ends.

use std::borrow::Cow;
use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::agent_error::AgentError;
use crate::amount::Spend;
use crate::conversation::Conversation;
use crate::error::ErrorCode;
use crate::event::ResultStatus;
use crate::id::RunId;
use crate::message::FinishReason;
use crate::pending::{Pending, PendingKind};
use crate::provenance::{Attempted, Provenance};
use crate::run_state::RunState;

/// How a run ends, unless it fails: there is no third way. `Display` writes the answer, or what is waited for.
#[derive(Debug, Clone, PartialEq)]
pub enum RunOutcome {
    /// With an answer.
    Completed(Report),
    /// Not yet: it waits, or was drained.
    Suspended(Box<Suspended>),
}

/// An answer, and what it took.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The run.
    pub run_id: RunId,
    /// The answer: text, or a value of the agent's answer type.
    pub output: Value,
    /// [`ResultStatus::Completed`], or [`ResultStatus::Refused`] when the model declined.
    pub status: ResultStatus,
    /// Where the answer comes from.
    pub provenance: Provenance,
    /// Why the model stopped; [`FinishReason::Length`] means that a text is cut.
    pub finish: FinishReason,
    /// Everything that was said, this answer included.
    pub conversation: Conversation,
    /// What the run spent, Sub-Agents included.
    pub spent: Spend,
}

/// A suspended run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Suspended {
    /// What resumes it.
    pub state: RunState,
    /// Everything that was said in finished turns.
    pub conversation: Conversation,
    /// What the run spent so far, Sub-Agents included.
    pub spent: Spend,
    /// Every time that a model was asked by the agent itself, in order.
    pub attempts: Vec<Attempted>,
}

/// A failed run: why, and what was done until then.
///
/// Its `Debug`, which is what `main` prints of an error, has no words of the conversation.
#[non_exhaustive]
pub struct Failure {
    /// Why.
    pub error: AgentError,
    /// Everything that was said, but for a request that was refused. Calls without a result have a failure as theirs, so that it
    /// can be continued.
    pub conversation: Conversation,
    /// What the run spent, Sub-Agents included.
    pub spent: Spend,
    /// Every time that a model was asked by the agent itself, in order.
    pub attempts: Vec<Attempted>,
    /// The dead letter that was kept of it, by its run.
    pub dead_letter: Option<RunId>,
    /// What tries again from where it failed: agents below go on where they were, calls that had begun are asked about, and each turn
    /// has its attempts anew. `None` when there is nothing to go on from, or what was asked for was refused.
    pub state: Option<RunState>,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("error", &self.error)
            .field("entries", &self.conversation.entries().len())
            .field("spent", &self.spent)
            .field("can_go_on", &self.state.is_some())
            .finish()
    }
}

impl RunOutcome {
    /// The report of a completed run.
    ///
    /// # Errors
    ///
    /// The suspension, when the run is not completed.
    pub fn into_report(self) -> Result<Report, Box<Suspended>> {
        match self {
            Self::Completed(report) => Ok(report),
            Self::Suspended(suspended) => Err(suspended),
        }
    }

    /// The suspension of a suspended run.
    ///
    /// # Errors
    ///
    /// The report, when the run is completed.
    pub fn into_suspended(self) -> Result<Suspended, Box<Report>> {
        match self {
            Self::Suspended(suspended) => Ok(*suspended),
            Self::Completed(report) => Err(Box::new(report)),
        }
    }
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed(report) => f.write_str(&report.text()),
            Self::Suspended(suspended) if suspended.state.pending().is_empty() => f.write_str("suspended, can go on"),
            Self::Suspended(suspended) => {
                let waits = suspended.state.pending().iter();
                waits.enumerate().try_for_each(|(index, pending)| {
                    f.write_str(if index == 0 { "waits for " } else { "\nand for " })?;
                    fmt::Display::fmt(pending, f)
                })
            }
        }
    }
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            PendingKind::Approval { what, proposed, reason, .. } => {
                write!(f, "approval of `{what}` with {proposed}: {reason}")
            }
            PendingKind::Question { question, .. } => write!(f, "an answer to: {question}"),
            PendingKind::External { what, .. } => write!(f, "{what}"),
            PendingKind::DurableCall { agent, .. } => write!(f, "the Sub-Agent `{agent}`"),
            PendingKind::UnknownOutcome { function, .. } => write!(f, "word on whether `{function}` happened"),
        }
    }
}

impl Report {
    /// The answer as text: a value is written as JSON.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match &self.output {
            Value::String(text) => Cow::Borrowed(text),
            value => Cow::Owned(value.to_string()),
        }
    }

    /// The answer as a value of the agent's answer type.
    ///
    /// # Errors
    ///
    /// When the answer is none of that type: a refusal, or rules' or a person's text.
    pub fn answer<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.output)
    }
}

/// A failure of which nothing but the cause is known.
impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        Self {
            error,
            conversation: Conversation::new(),
            spent: Spend::ZERO,
            attempts: Vec::new(),
            dead_letter: None,
            state: None,
        }
    }
}

impl Failure {
    /// The error's stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.error.code()
    }

    /// Whether the same run may succeed when it is tried again later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        self.error.retryable()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
