//! The ends of things: of a model's answer, of an agent's work.

use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::EventKind;
use crate::agent_error::AgentError;
use crate::amount::Spend;
use crate::error::ErrorCode;
use crate::message::Reply;
use crate::provenance::Provenance;
use crate::route::RouteDecision;

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

/// What a router decided about a request. The request's own words are not in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RequestRouted {
    /// `route`, `ambiguous` or `out_of_scope`.
    pub outcome: &'static str,
    /// The agents that it is for, or may be for, best first, with their probabilities.
    pub agents: Vec<(Arc<str>, f64)>,
    /// How many Sub-Agents the model may see.
    pub shown: usize,
    /// Whether they are called without asking the model.
    pub dispatched: bool,
    /// What the router knew: the digest of its snapshot.
    pub snapshot: Arc<str>,
}

impl RequestRouted {
    pub(crate) fn new(decision: &RouteDecision, shown: usize, dispatched: bool) -> Self {
        Self {
            outcome: decision.outcome.name(),
            agents: decision.agents().map(|routed| (routed.agent.clone(), routed.probability)).collect(),
            shown,
            dispatched,
            snapshot: decision.snapshot.clone(),
        }
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

    /// A graph is done.
    #[must_use]
    pub fn completed(spent: Spend) -> Self {
        Self::Finished(Box::new(Ending::new(ResultStatus::Completed, spent)))
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
