//! The port to recovery: what happens when an agent cannot do its task.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::agent_error::AgentError;
use crate::conversation::Conversation;
use crate::pending::PendingKind;
use crate::run_context::RunContext;

/// Decides what happens when an agent cannot do its task: its model failed for good, its answers never fitted, its turns or its
/// budget or its time ran out. Cancellation is not asked about.
///
/// # Contract
///
/// Recovering calls no effect: it answers from rules, hands over to a person, or lets the run fail.
///
/// The testkit's `conformance::recovery` checks an implementation.
#[async_trait]
pub trait Recovery: Send + Sync {
    /// Decides on the failure `error` of the agent at `cx`, which had come as far as `conversation`.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await.
    async fn recover(&self, error: &AgentError, conversation: &Conversation, cx: &RunContext) -> Recovered;

    /// Whether it may have an answer, or somebody to ask, so that the [end of the time](RunContext::last_part) is kept for it. An agent
    /// whose work is not done then has failed as [`TimedOut`](crate::ModelErrorClass::TimedOut).
    fn needs_time(&self) -> bool {
        true
    }
}

/// What a [`Recovery`] decides.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Recovered {
    /// Rules answer. The answer is marked as theirs, and passes the policy; it may be of another type than the agent's answers.
    Answer(Value),
    /// A person does: the run is suspended. An answer to a [`PendingKind::Question`] is the final answer; a
    /// [`PendingKind::Approval`] proposes one, which the person takes, changes or refuses.
    Ask(PendingKind),
    /// The run fails, unless the models themselves ended with a person ([`NeedsHuman`](crate::ModelErrorClass::NeedsHuman)): then
    /// one is asked.
    Fail,
}

/// The recovery that holds when a host brings none: every failure is a typed failure.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRecovery;

#[async_trait]
impl Recovery for NoRecovery {
    async fn recover(&self, _: &AgentError, _: &Conversation, _: &RunContext) -> Recovered {
        Recovered::Fail
    }

    fn needs_time(&self) -> bool {
        false
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Recovery + ?Sized> Recovery for Arc<T> {
    async fn recover(&self, error: &AgentError, conversation: &Conversation, cx: &RunContext) -> Recovered {
        (**self).recover(error, conversation, cx).await
    }

    fn needs_time(&self) -> bool {
        (**self).needs_time()
    }
}
