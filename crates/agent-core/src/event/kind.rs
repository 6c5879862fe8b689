//! What happens in a run.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::ending::{Ending, ModelFailed, ModelFinished, RequestRouted};
use super::payload::Payload;
use crate::amount::Tokens;
use crate::error::ErrorCode;
use crate::message::CallResult;
use crate::pending::{Answer, Pending};

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
    /// A router said which Sub-Agents a request is for.
    Routed(Box<RequestRouted>),
    /// A model is being asked.
    ModelStarted {
        /// The model.
        model: Arc<str>,
        /// The step of a plan of fallbacks, where there is a plan.
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<Arc<str>>,
    },
    /// A step of a plan of fallbacks is left out, and nothing is sent to it.
    StepSkipped {
        /// The step.
        step: Arc<str>,
        /// Why: `step.cooling`, `step.too_small`.
        code: Box<ErrorCode>,
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
    /// A graph began to run a node. The event's path is the task's.
    NodeStarted {
        /// The node.
        node: Arc<str>,
        /// The step, from zero.
        step: u32,
        /// Which of the node's tasks in the step, from zero.
        ordinal: u32,
    },
    /// A node is done. The event's path is the task's.
    NodeFinished {
        /// The node.
        node: Arc<str>,
        /// What it wrote.
        update: Payload,
    },
    /// A node failed. The event's path is the task's.
    NodeFailed {
        /// The node.
        node: Arc<str>,
        /// Why.
        code: Box<ErrorCode>,
    },
    /// What the nodes of a step wrote was taken in.
    StateChanged {
        /// The step that comes next.
        step: u32,
        /// The whole state.
        state: Payload,
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

/// JSON text as the value that it is, or as text if it is none.
fn as_json<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::from_str::<Value>(text).unwrap_or_else(|_| Value::from(&**text)).serialize(serializer)
}
