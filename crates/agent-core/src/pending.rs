//! What a suspended run waits for, and the answers to it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::amount::Spend;
use crate::budget::Limits;
use crate::caller::Caller;
use crate::error::InvalidValue;
use crate::id::{AgentVersion, RunId};
use crate::message::CallResult;
use crate::path::CallPath;

/// Something that a run waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pending {
    /// Its name for ever.
    pub id: PendingId,
    /// The agents from the Main Agent down to the one that waits.
    pub agents: Arc<[Arc<str>]>,
    /// On whose behalf.
    pub requested_by: Caller,
    /// What would answer it.
    pub kind: PendingKind,
}

/// The name of something waited for: where in which run it came up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PendingId {
    /// The run.
    pub run: RunId,
    /// The call or agent that waits.
    pub path: CallPath,
    /// Which of its waits, for a path that waits more than once.
    pub name: Arc<str>,
}

impl PendingId {
    /// The id of the wait `name` at `path` of `run`.
    pub fn new(run: RunId, path: CallPath, name: impl Into<Arc<str>>) -> Self {
        Self { run, path, name: name.into() }
    }
}

impl fmt::Display for PendingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", self.run, self.path, self.name)
    }
}

impl FromStr for PendingId {
    type Err = InvalidValue;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let parts = || {
            let (place, name) = text.split_once(':')?;
            let (run, path) = place.split_at_checked(place.find('/')?)?;
            Some(Self::new(run.parse().ok()?, path.parse().ok()?, name))
        };
        parts().ok_or_else(|| InvalidValue::new("pending id", text, "`RUN/TURN.SLOT/..:NAME`"))
    }
}

/// What would answer a [`Pending`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PendingKind {
    /// A person agrees to something, changes it, or refuses it.
    Approval {
        /// The function to be called; `request` and `answer` stand for the request itself and the final answer.
        what: Arc<str>,
        /// The arguments, or the text, that would be used.
        proposed: Arc<Value>,
        /// Why a person is asked.
        reason: Arc<str>,
        /// The schema that changed arguments have to fit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schema: Option<Arc<Value>>,
        /// Who has agreed already.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        approved_by: Vec<Caller>,
    },
    /// A person answers a question.
    Question {
        /// The question.
        question: Arc<str>,
        /// The schema of the answer, if not any text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schema: Option<Arc<Value>>,
    },
    /// Something outside brings a result: a webhook, a batch job.
    External {
        /// What it is, for whoever brings it.
        what: Arc<str>,
        /// The schema of the result, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schema: Option<Arc<Value>>,
    },
    /// A Sub-Agent runs as a task of its own.
    DurableCall {
        /// The Sub-Agent.
        agent: Arc<str>,
        /// The version that was chosen.
        version: AgentVersion,
        /// Its input.
        input: Arc<Value>,
        /// Its ceilings, which are set aside in its parent's budget.
        limits: Limits,
    },
    /// A call with an effect began, and nobody knows whether it happened.
    UnknownOutcome {
        /// The function.
        function: Arc<str>,
        /// Its arguments.
        arguments: Arc<Value>,
    },
}

impl PendingKind {
    /// A question to a person, answered by any text.
    pub fn question(question: impl Into<Arc<str>>) -> Self {
        Self::Question { question: question.into(), schema: None }
    }

    /// A result from outside.
    pub fn external(what: impl Into<Arc<str>>) -> Self {
        Self::External { what: what.into(), schema: None }
    }

    /// A short name of the kind.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Approval { .. } => "approval",
            Self::Question { .. } => "question",
            Self::External { .. } => "external",
            Self::DurableCall { .. } => "durable_call",
            Self::UnknownOutcome { .. } => "unknown_outcome",
        }
    }

    /// The schema that a value in an answer has to fit.
    #[must_use]
    pub fn schema(&self) -> Option<&Arc<Value>> {
        match self {
            Self::Approval { schema, .. } | Self::Question { schema, .. } | Self::External { schema, .. } => {
                schema.as_ref()
            }
            Self::DurableCall { .. } | Self::UnknownOutcome { .. } => None,
        }
    }

    /// Whether `value` is of a kind that answers this.
    #[must_use]
    pub const fn accepts(&self, value: &AnswerValue) -> bool {
        matches!(
            (self, value),
            (_, AnswerValue::Deny(_))
                | (Self::Approval { .. }, AnswerValue::Approve | AnswerValue::ApproveWith(_))
                | (Self::Question { .. } | Self::External { .. }, AnswerValue::Value(_))
                | (Self::DurableCall { .. }, AnswerValue::Returned { .. })
                | (Self::UnknownOutcome { .. }, AnswerValue::Approve | AnswerValue::Value(_))
        )
    }
}

/// An answer to something that a run waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Answer {
    /// What it answers.
    pub pending: PendingId,
    /// Who answers.
    pub by: Caller,
    /// The answer.
    pub value: AnswerValue,
}

/// What an [`Answer`] says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnswerValue {
    /// Yes, as proposed. For an unknown outcome: it did not happen, call again.
    Approve,
    /// Yes, with these arguments instead.
    ApproveWith(Value),
    /// No, for this reason. For an unknown outcome: nobody knows, and it is not to be called again.
    Deny(String),
    /// The answer to a question, a result from outside, or what an unknown outcome turned out to be.
    Value(Value),
    /// What a durable call gave back.
    Returned {
        /// Its result.
        result: CallResult,
        /// What it spent, all together.
        spent: Spend,
    },
}

impl AnswerValue {
    /// A short name of the kind.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::ApproveWith(_) => "approve_with",
            Self::Deny(_) => "deny",
            Self::Value(_) => "value",
            Self::Returned { .. } => "returned",
        }
    }

    /// The result of a call that waited for this.
    #[must_use]
    pub fn into_result(self) -> CallResult {
        match self {
            Self::Value(value) | Self::ApproveWith(value) => CallResult::done(value),
            Self::Approve => CallResult::done(Value::Bool(true)),
            Self::Deny(reason) => CallResult::denied(&reason),
            Self::Returned { result, .. } => result,
        }
    }
}

impl Answer {
    /// The answer `value` of `by` to `pending`.
    #[must_use]
    pub fn new(pending: PendingId, by: Caller, value: AnswerValue) -> Self {
        Self { pending, by, value }
    }
}
