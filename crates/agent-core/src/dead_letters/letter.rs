//! A dead letter, and what becomes of it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::agent_error::AgentError;
use crate::amount::Spend;
use crate::caller::Caller;
use crate::clock::now_ms;
use crate::error::ErrorCode;
use crate::id::{ClaimToken, RunId, TaskId, UserId};
use crate::provenance::Attempted;
use crate::run_state::RunState;

/// A task that failed for good: who wanted it, why it failed, and what tries it again.
///
/// Its state holds a conversation and belongs in trusted storage. `Debug` has nothing of it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The run that failed.
    pub run_id: RunId,
    /// The task that it worked on.
    pub task_id: TaskId,
    /// On whose behalf. A letter belongs to this caller's tenant.
    pub caller: Caller,
    /// The Main Agent that ran.
    pub agent: Arc<str>,
    /// When it failed, in milliseconds since 1970.
    pub failed_at: u64,
    /// The stable code of the error.
    pub code: ErrorCode,
    /// The error as it may be shown to a user.
    pub message: String,
    /// Every time that a model was asked by the agent itself, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempted>,
    /// What the run spent, Sub-Agents included.
    #[serde(default)]
    pub spent: Spend,
    /// What tries again from where it failed, or `None` when there is nothing to go on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RunState>,
    /// How often the run came here since it was last purged. The store counts: what a letter that is put says of it, is ignored.
    #[serde(default)]
    pub failures: u32,
}

impl DeadLetter {
    /// The letter of a run of `agent` that failed right now: nothing attempted, nothing spent, nothing to go on from.
    #[must_use]
    pub fn new(run_id: RunId, task_id: TaskId, caller: Caller, agent: impl Into<Arc<str>>, error: &AgentError) -> Self {
        Self {
            run_id,
            task_id,
            caller,
            agent: agent.into(),
            failed_at: now_ms(),
            code: error.code(),
            message: error.to_string(),
            attempts: Vec::new(),
            spent: Spend::ZERO,
            state: None,
            failures: 0,
        }
    }

    /// The same of a run that failed at this time, in milliseconds since 1970.
    #[must_use]
    pub fn with_failed_at(mut self, failed_at: u64) -> Self {
        self.failed_at = failed_at;
        self
    }

    /// The same with these attempts.
    #[must_use]
    pub fn with_attempts(mut self, attempts: Vec<Attempted>) -> Self {
        self.attempts = attempts;
        self
    }

    /// The same of a run that spent this.
    #[must_use]
    pub fn with_spent(mut self, spent: Spend) -> Self {
        self.spent = spent;
        self
    }

    /// The same with what tries again.
    #[must_use]
    pub fn with_state(mut self, state: RunState) -> Self {
        self.state = Some(state);
        self
    }

    /// What a list tells of it.
    #[must_use]
    pub fn summary(&self, status: LetterStatus) -> LetterSummary {
        LetterSummary {
            run_id: self.run_id,
            task_id: self.task_id,
            user: self.caller.user.clone(),
            agent: self.agent.clone(),
            code: self.code.clone(),
            failed_at: self.failed_at,
            failures: self.failures,
            status,
        }
    }
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("run_id", &self.run_id)
            .field("task_id", &self.task_id)
            .field("caller", &self.caller)
            .field("agent", &self.agent)
            .field("failed_at", &self.failed_at)
            .field("code", &self.code)
            .field("message", &self.message)
            .field("attempts", &self.attempts.len())
            .field("spent", &self.spent)
            .field("can_go_on", &self.state.is_some())
            .field("failures", &self.failures)
            .finish()
    }
}

/// What a list tells of a dead letter: everything that fits a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LetterSummary {
    /// The run that failed.
    pub run_id: RunId,
    /// The task that it worked on.
    pub task_id: TaskId,
    /// On whose behalf.
    pub user: UserId,
    /// The Main Agent that ran.
    pub agent: Arc<str>,
    /// The stable code of the error.
    pub code: ErrorCode,
    /// When it failed, in milliseconds since 1970.
    pub failed_at: u64,
    /// How often the run came here since it was last purged.
    pub failures: u32,
    /// What becomes of it.
    pub status: LetterStatus,
}

/// What becomes of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LetterStatus {
    /// Nothing yet, or nothing any more: it can be claimed. Also of a letter whose claim's time is over.
    Open,
    /// Somebody replays it.
    Claimed {
        /// When the claim's time is over, in milliseconds since 1970.
        until: u64,
    },
    /// It was replayed, and that ended well: it cannot be claimed again.
    Replayed {
        /// When that was settled, in milliseconds since 1970.
        at: u64,
    },
}

/// What a claim to a dead letter led to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Claim {
    /// The letter is the claimer's alone, for as long as was asked for.
    Taken {
        /// The letter.
        letter: Box<DeadLetter>,
        /// What [`settle`](super::DeadLetters::settle) wants to see.
        token: ClaimToken,
    },
    /// It is somebody else's.
    Busy {
        /// When that claim's time is over, in milliseconds since 1970.
        until: u64,
    },
    /// It was replayed already.
    Replayed,
    /// The tenant has no such letter.
    Unknown,
}

/// How the claimer of a dead letter ends the claim. Closed: a store has to know what each of them means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimEnd {
    /// The run was replayed and did not fail again.
    Replayed,
    /// It was not replayed: the letter is open again.
    GivenBack,
}

/// Which dead letters of a tenant are removed. Closed: a store has to know what each of them means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purge {
    /// The one of this run, unless it is claimed.
    One(RunId),
    /// Those of runs that failed before this time, in milliseconds since 1970, but for claimed ones.
    Before(u64),
    /// Those that were replayed.
    Replayed,
    /// All, claimed ones included, since whoever has to erase a tenant's data cannot wait. A replay that goes on meanwhile
    /// finds its claim gone.
    All,
}
