//! Steps that a host adds to an agent's loop.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::state::{LoopState, Work};
use crate::agent_error::AgentError;
use crate::conversation::Conversation;
use crate::message::{Reply, UserMessage};
use crate::pending::{Answer, AnswerValue, PendingKind};
use crate::run_context::RunContext;

/// A step of a host's own, before or after one of the loop's.
///
/// It sees the state through a [`StepView`], keeps none of its own, and may be dropped at any await.
#[async_trait]
pub trait Step: Send + Sync {
    /// Its name, unlike that of any other step of the agent.
    fn name(&self) -> &str;

    /// Does its part.
    ///
    /// # Errors
    ///
    /// [`AgentError`] ends the run, unless the agent's [`Recovery`](crate::Recovery) has an answer.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await; the step is run again when the run goes on.
    async fn run(&self, view: &mut StepView<'_>, cx: &RunContext) -> Result<Flow, AgentError>;

    /// Goes on after an answer to what [`Flow::Wait`] waited for. The step is not run again.
    ///
    /// By default a denial ends the run, and anything else continues it.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    async fn answered(&self, answer: Answer, view: &mut StepView<'_>, cx: &RunContext) -> Result<Flow, AgentError> {
        let _ = (view, cx);
        match answer.value {
            AnswerValue::Deny(reason) => Err(AgentError::Denied { reason }),
            _ => Ok(Flow::Continue),
        }
    }
}

/// What comes after a step.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Flow {
    /// The next step.
    Continue,
    /// The run is suspended until this is answered.
    Wait(PendingKind),
    /// The agent is done, and this is its answer, of the agent's answer type. The policy sees it as any other. After the answer was
    /// taken, behind the stage `Conclude`, it is an error.
    Conclude(Value),
}

/// Where one of a host's steps stands in the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The policy sees the request. Once, at the start.
    Admit,
    /// The conversation is fitted into the model's window.
    Fit,
    /// The model is asked.
    Think,
    /// Its calls are made.
    Act,
    /// The final answer is checked.
    Conclude,
}

impl Stage {
    pub(super) const ALL: [Self; 5] = [Self::Admit, Self::Fit, Self::Think, Self::Act, Self::Conclude];

    /// The name of the loop's own step of this stage.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Fit => "fit",
            Self::Think => "think",
            Self::Act => "act",
            Self::Conclude => "conclude",
        }
    }
}

/// What a host's step sees and may change of an agent's state.
#[derive(Debug)]
pub struct StepView<'a> {
    pub(super) state: &'a mut LoopState,
}

impl StepView<'_> {
    /// The turn, from zero.
    #[must_use]
    pub fn turn(&self) -> u32 {
        self.state.turn
    }

    /// What was said in finished turns.
    #[must_use]
    pub fn conversation(&self) -> &Conversation {
        self.state.work.conversation()
    }

    /// What the model said in this turn: after it was asked, before its calls are made or its answer is taken.
    #[must_use]
    pub fn reply(&self) -> Option<&Arc<Reply>> {
        match &self.state.work {
            Work::Closed(_) => None,
            Work::Open(open) => Some(open.turn.reply()),
            Work::Draft(draft) => Some(&draft.reply),
        }
    }

    /// Adds something for the model to read, between turns.
    ///
    /// # Errors
    ///
    /// [`AgentError::Failed`] while a reply is open: a message cannot come between calls and their results.
    pub fn say(&mut self, message: impl Into<UserMessage>) -> Result<(), AgentError> {
        match &mut self.state.work {
            Work::Closed(conversation) => {
                *conversation = std::mem::take(conversation).say(message);
                // What was fitted lacks it.
                self.state.fitted = None;
                Ok(())
            }
            Work::Open(_) | Work::Draft(_) => Err(AgentError::tell("a step may speak between turns only")),
        }
    }
}
