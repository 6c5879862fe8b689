//! Events: the one stream that streaming to users, audit, evals and recordings read.

mod emitter;
mod queue;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use serde_json::Value;

pub(crate) use emitter::{Emitter, Sinks};
pub use queue::EventStream;
pub(crate) use queue::Queue;

use crate::agent_error::AgentError;
use crate::amount::{Spend, Tokens};
use crate::error::ErrorCode;
use crate::identity::Identity;
use crate::message::{CallResult, Reply};
use crate::path::CallPath;
use crate::pending::{Answer, Pending};
use crate::provenance::Provenance;

/// Something that happened in a run.
///
/// Its identity is (`path`, `n`): `n` grows along each path, over resumptions too, so that a reader can drop what it has seen.
/// Order holds along a path, and a parent's event about a child comes before the child's own. Between siblings there is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// Where it happened, and whose run it is.
    #[serde(flatten)]
    pub origin: Arc<Origin>,
    /// Its number on the path. The upper 32 bits count the run's resumptions.
    pub n: u64,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Where in which run events happen: shared by all events of a path.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Origin {
    /// Where.
    pub path: CallPath,
    /// Whose run it is.
    #[serde(flatten)]
    pub identity: Arc<Identity>,
}

impl Event {
    /// An event of now, for tests of observers: a run makes its own.
    #[must_use]
    pub fn new(origin: Arc<Origin>, n: u64, kind: EventKind) -> Self {
        Self { origin, n, at: now(), kind }
    }

    /// Where it happened.
    #[must_use]
    pub fn path(&self) -> &CallPath {
        &self.origin.path
    }

    /// Whose run it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.origin.identity
    }
}

impl Origin {
    /// This path of this run.
    #[must_use]
    pub const fn new(path: CallPath, identity: Arc<Identity>) -> Self {
        Self { path, identity }
    }
}

/// JSON text as the value that it is, or as text if it is none.
fn as_json<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::from_str::<Value>(text).unwrap_or_else(|_| Value::from(&**text)).serialize(serializer)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What happened. Text, arguments and results are shared, not copied.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// An agent began to work, or to work on.
    Started {
        /// The agent.
        agent: Arc<str>,
        /// Whether it was suspended before.
        resumed: bool,
    },
    /// A suspended agent got an answer.
    Answered {
        /// The answer.
        answer: Arc<Answer>,
    },
    /// A turn began.
    TurnStarted {
        /// The turn, from zero.
        turn: u32,
    },
    /// Something of the conversation was left out, so that it fits the model's window.
    Fitted {
        /// Tokens of the whole conversation.
        before: Tokens,
        /// Tokens of what is sent.
        after: Tokens,
    },
    /// A model is being asked.
    ModelStarted {
        /// The model.
        model: Arc<str>,
    },
    /// A model says more. Deltas without another event of the same path between them share one `n`.
    Delta {
        /// What it says.
        part: DeltaPart,
        /// Where this begins in the text of deltas with this `n`, in bytes.
        offset: usize,
        /// The text.
        text: String,
    },
    /// A model's answer is complete.
    ModelFinished(Box<ModelFinished>),
    /// A model gave no complete answer. Deltas since its start are void.
    ModelFailed(Box<ModelFailed>),
    /// A model's final answer was not good enough, and it is asked again. The answer's deltas are void.
    Repaired {
        /// What was wrong.
        problem: Arc<str>,
    },
    /// A call is being made. The event's path is the call's.
    CallStarted {
        /// The function.
        function: Arc<str>,
        /// The arguments that are really used, as JSON text.
        #[serde(serialize_with = "as_json")]
        arguments: Arc<str>,
    },
    /// A call got its result. The event's path is the call's.
    CallFinished {
        /// The function.
        function: Arc<str>,
        /// The result.
        result: CallResult,
    },
    /// A policy did something else than to allow.
    PolicyDecided {
        /// What it decided on: a function, `request` or `answer`.
        on: Arc<str>,
        /// What it decided.
        verdict: Verdict,
        /// Its reason.
        reason: Arc<str>,
    },
    /// Something is waited for.
    Waiting {
        /// What.
        pending: Arc<Pending>,
    },
    /// An agent could not do its task, and something else answers for it.
    Recovered {
        /// Why it could not.
        code: Box<ErrorCode>,
        /// Which levels were gone through, such as `model>rule`.
        fallback_path: Arc<str>,
    },
    /// An event of the host's own.
    Custom {
        /// Its name.
        name: Arc<str>,
        /// What it says.
        data: Arc<Value>,
    },
    /// An agent is suspended.
    Suspended(Box<Ending>),
    /// An agent is done.
    Finished(Box<Ending>),
    /// An agent failed.
    Failed(Box<Ending>),
}

/// A complete answer of a model. Serialises without the answer's parts, which are events of their own.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelFinished {
    /// The answer.
    pub reply: Arc<Reply>,
    /// What was charged to the budget.
    pub spent: Spend,
}

impl Serialize for ModelFinished {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("ModelFinished", 4)?;
        fields.serialize_field("model", &self.reply.model)?;
        fields.serialize_field("finish", &self.reply.finish)?;
        fields.serialize_field("usage", &self.reply.usage)?;
        fields.serialize_field("spent", &self.spent)?;
        fields.end()
    }
}

/// A model that gave no complete answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelFailed {
    /// The model.
    pub model: Arc<str>,
    /// Why.
    pub code: ErrorCode,
    /// What was charged to the budget.
    pub spent: Spend,
}

/// How an agent's work ended, or came to a halt.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Ending {
    /// How.
    pub result_status: ResultStatus,
    /// What it spent so far, its children included.
    pub spent: Spend,
    /// How many things it waits for, when it is suspended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<usize>,
    /// Where its answer comes from, when it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// Why it failed, when it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
}

impl EventKind {
    /// An agent is suspended and waits for as much as `pending`.
    #[must_use]
    pub fn suspended(pending: usize, spent: Spend) -> Self {
        Self::Suspended(Box::new(Ending { pending: Some(pending), ..Ending::new(ResultStatus::Suspended, spent) }))
    }

    /// An agent is done.
    #[must_use]
    pub fn finished(provenance: Provenance, status: ResultStatus, spent: Spend) -> Self {
        Self::Finished(Box::new(Ending { provenance: Some(provenance), ..Ending::new(status, spent) }))
    }

    /// An agent failed.
    #[must_use]
    pub fn failed(error: &AgentError, spent: Spend) -> Self {
        Self::Failed(Box::new(Ending { code: Some(error.code()), ..Ending::new(ResultStatus::of(error), spent) }))
    }
}

impl ModelFinished {
    /// A model gave this answer, which was charged with `spent`.
    #[must_use]
    pub const fn new(reply: Arc<Reply>, spent: Spend) -> Self {
        Self { reply, spent }
    }
}

impl ModelFailed {
    /// `model` gave no complete answer, which was charged with `spent`.
    #[must_use]
    pub const fn new(model: Arc<str>, code: ErrorCode, spent: Spend) -> Self {
        Self { model, code, spent }
    }
}

impl Ending {
    fn new(result_status: ResultStatus, spent: Spend) -> Self {
        Self { result_status, spent, pending: None, provenance: None, code: None }
    }
}

/// What a policy decided, unless it allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Something else takes its place.
    Replace,
    /// It does not happen.
    Deny,
    /// A person is asked.
    Ask,
}

/// What a [`EventKind::Delta`] is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeltaPart {
    /// Text for the user.
    Text,
    /// Readable reasoning.
    Reasoning,
    /// A refusal.
    Refusal,
}

/// How a run, or a part of it, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResultStatus {
    /// With an answer.
    Completed,
    /// The model declined to answer.
    Refused,
    /// Not yet: it waits.
    Suspended,
    /// Without an answer.
    Failed,
    /// It was stopped.
    Cancelled,
}

impl ResultStatus {
    /// The status of a failed run.
    pub(crate) fn of(error: &AgentError) -> Self {
        match error {
            AgentError::Cancelled => Self::Cancelled,
            _ => Self::Failed,
        }
    }

    /// The status as it stands in events and spans.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Suspended => "suspended",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}
