//! Events: the one stream that streaming to users, audit, evals and recordings read.

mod emitter;
mod queue;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use serde_json::Value;

pub(crate) use emitter::{Emitter, Sinks};
pub use queue::EventStream;
pub(crate) use queue::Queue;

use crate::amount::{Spend, Tokens};
use crate::error::ErrorCode;
use crate::identity::Identity;
use crate::message::{CallResult, FinishReason, Usage};
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
    /// Where it happened.
    pub path: CallPath,
    /// Its number on the path. The upper 32 bits count the run's resumptions.
    pub n: u64,
    /// When, in milliseconds since 1970 when serialised.
    #[serde(serialize_with = "as_millis")]
    pub at: SystemTime,
    /// Whose run it is.
    #[serde(flatten)]
    pub identity: Arc<Identity>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

impl Event {
    /// An event of now, for tests of observers: a run makes its own.
    #[must_use]
    pub fn new(path: CallPath, n: u64, identity: Arc<Identity>, kind: EventKind) -> Self {
        Self { path, n, at: SystemTime::now(), identity, kind }
    }
}

fn as_millis<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
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
    /// The conversation was fitted into the model's window.
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
    ModelFinished {
        /// The model that answered.
        model: Arc<str>,
        /// Why it stopped.
        finish: FinishReason,
        /// What the provider says was used.
        usage: Option<Usage>,
        /// What was charged to the budget.
        spent: Spend,
    },
    /// A model gave no complete answer. Deltas since its start are void.
    ModelFailed {
        /// The model.
        model: Arc<str>,
        /// Why.
        code: ErrorCode,
        /// What was charged to the budget.
        spent: Spend,
    },
    /// A model's final answer was not good enough, and it is asked again. The answer's deltas are void.
    Repaired {
        /// What was wrong.
        problem: Arc<str>,
    },
    /// A call is being made. The event's path is the call's.
    CallStarted {
        /// The function.
        function: Arc<str>,
        /// The arguments that are really used.
        arguments: Arc<Value>,
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
        /// `replace`, `deny` or `ask`.
        decision: Arc<str>,
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
        code: ErrorCode,
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
    Suspended {
        /// How many things it waits for.
        pending: usize,
        /// Always `suspended`.
        result_status: ResultStatus,
        /// What it spent so far, its children included.
        spent: Spend,
    },
    /// An agent is done.
    Finished {
        /// Where its answer comes from.
        provenance: Provenance,
        /// `completed` or `refused`.
        result_status: ResultStatus,
        /// What it spent, its children included.
        spent: Spend,
    },
    /// An agent failed.
    Failed {
        /// Why.
        code: ErrorCode,
        /// `failed` or `cancelled`.
        result_status: ResultStatus,
        /// What it spent, its children included.
        spent: Spend,
    },
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
