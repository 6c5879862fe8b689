//! How far each call of a turn is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::budget::SavedLease;
use crate::caller::Caller;
use crate::pending::{Answer, Pending, PendingKind};
use crate::sub_agent::Suspension;

/// How far a call is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Slot {
    /// It is to be made.
    Ready(Progress),
    /// Its result stands in the turn.
    Settled,
    /// It waits for an answer, or has one that was not worked on yet.
    Waits(Box<WaitingCall>),
    /// It is a Sub-Agent that is suspended.
    Child(Box<SuspendedCall>),
}

/// A call that waits for an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct WaitingCall {
    pub(super) pending: Pending,
    pub(super) progress: Progress,
    /// The answer, until it is worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<Answer>,
    /// The suspended Sub-Agent, where it is the outcome of going on with one that nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) suspended: Option<Box<SuspendedCall>>,
}

/// A call of a Sub-Agent that is suspended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SuspendedCall {
    pub(super) suspension: Suspension,
    pub(super) lease: SavedLease,
    /// How much of its own active time is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) remaining_ms: Option<u64>,
    pub(super) progress: Progress,
    /// Answers that it was not resumed with yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) answers: Vec<Answer>,
}

impl Slot {
    /// Whether there is something to do for the call now.
    pub(super) fn has_work(&self) -> bool {
        match self {
            Self::Ready(_) => true,
            Self::Settled => false,
            Self::Waits(call) => call.answer.is_some(),
            Self::Child(call) => !call.answers.is_empty() || call.suspension.runnable,
        }
    }

    /// Whether it may have had an effect that nobody knows of yet.
    pub(super) fn may_have_happened(&self) -> bool {
        match self {
            Self::Ready(progress) => progress.begun,
            Self::Settled => false,
            Self::Waits(call) => {
                let kind = &call.pending.kind;
                let is_open = matches!(kind, PendingKind::UnknownOutcome { .. } | PendingKind::DurableCall { .. });
                is_open || call.suspended.is_some() || call.progress.begun
            }
            Self::Child(_) => true,
        }
    }

    /// The suspended Sub-Agent that the call goes on with.
    pub(super) fn suspended(&self) -> Option<&SuspendedCall> {
        match self {
            Self::Child(call) => Some(call),
            Self::Waits(call) => call.suspended.as_deref(),
            Self::Ready(_) | Self::Settled => None,
        }
    }

    /// What the call waits for.
    pub(super) fn pending(&self) -> impl Iterator<Item = &Pending> {
        let (pending, answers) = match self {
            Self::Waits(call) => (std::slice::from_ref(&call.pending), call.answer.as_slice()),
            Self::Child(call) => (call.suspension.pending.as_slice(), call.answers.as_slice()),
            Self::Ready(_) | Self::Settled => (&[][..], &[][..]),
        };
        pending.iter().filter(|pending| answers.iter().all(|answer| answer.pending != pending.id))
    }
}

/// What was decided about a call so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Arguments that a policy or a person put in place of the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) arguments: Option<Arc<Value>>,
    /// Who agreed to the arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) approved_by: Vec<Caller>,
    /// How often a person was asked, which numbers the questions.
    #[serde(default)]
    pub(super) asked: u16,
    /// Which beginning of the call this is, for the journal.
    #[serde(default)]
    pub(super) attempt: u16,
    /// The call was stopped after it had begun, or may have: whether it happened is unknown, whatever the journal says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) begun: bool,
}

impl Progress {
    /// The same call, begun once more.
    pub(super) fn next_attempt(&mut self) {
        self.attempt = self.attempt.saturating_add(1);
        self.begun = false;
    }
}
