//! How an agent's run fails.

use crate::budget::Exceeded;
use crate::error::{BoxError, ErrorCode, InvalidValue};
use crate::fit::ContextError;
use crate::graph::GraphFailure;
use crate::journal::JournalError;
use crate::message::CallFailure;
use crate::model::{ModelError, ModelErrorClass};
use crate::run_state::ResumeError;
use crate::sub_agent::{AgentCard, AgentState};
use crate::tool::CallError;

/// The code of a request that a Sub-Agent handed back.
pub(crate) const HANDED_BACK: &str = "agent.handed_back";

/// Why an agent's task was not done.
///
/// `Display` may be shown to a user and to a parent's model: it holds no secrets, addresses or prompts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The request, or a setting of it, is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// A model failed, and nothing else was left to try.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A ceiling of the budget is reached.
    #[error(transparent)]
    Budget(#[from] Exceeded),
    /// The conversation cannot be made to fit.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A policy or a person refused the request or the answer.
    #[error("not allowed: {reason}")]
    Denied {
        /// The reason given.
        reason: String,
    },
    /// The agent went on calling functions for as many turns as it may take.
    #[error("no answer after {turns} turns")]
    TurnLimit {
        /// How many turns it took.
        turns: u32,
    },
    /// The final answers did not fit their schema.
    #[error("no answer fitted its schema after {attempts} attempts: {problem}")]
    BadAnswer {
        /// How many answers came.
        attempts: u32,
        /// What was wrong with the last one.
        problem: String,
    },
    /// The journal failed, so that nobody knows what may be repeated.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A saved state cannot be used by this agent.
    #[error(transparent)]
    State(#[from] StateError),
    /// Answers to a suspended run were refused; nothing changed.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// A graph failed by its own fault.
    #[error(transparent)]
    Graph(#[from] GraphFailure),
    /// The agent's own words about why it failed.
    #[error("{}", .0.message)]
    Failed(CallFailure),
    /// Something failed that is nobody's business but the host's: see `source`.
    #[error("an internal error")]
    Internal(#[source] BoxError),
    /// Code of the host panicked.
    #[error("an internal error")]
    Panicked,
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The time was over.
    #[error("the time is over")]
    Deadline,
}

/// Why a saved state cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It is another agent's.
    #[error("the state is of agent `{found}`, this is `{expected}`")]
    OtherAgent {
        /// This agent.
        expected: String,
        /// The agent in the state.
        found: String,
    },
    /// It is of another version of the agent, and nothing brings it over.
    #[error("the state is of version {found} of agent `{agent}`, this is version {expected}")]
    OtherVersion {
        /// The agent.
        agent: String,
        /// This version.
        expected: String,
        /// The version in the state.
        found: String,
    },
    /// Its body is not what the agent saves.
    #[error("the state of agent `{agent}` cannot be read: {problem}")]
    Unreadable {
        /// The agent.
        agent: String,
        /// What is wrong.
        problem: String,
    },
}

impl StateError {
    /// `state.other_agent`, `state.other_version` or `state.unreadable`.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::new(match self {
            Self::OtherAgent { .. } => "state.other_agent",
            Self::OtherVersion { .. } => "state.other_version",
            Self::Unreadable { .. } => "state.unreadable",
        })
    }

    /// Whether the same may succeed later: never.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        false
    }
}

impl AgentError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(error) => error.code(),
            Self::Model(error) => error.code(),
            Self::Budget(error) => error.code(),
            Self::Context(error) => error.code(),
            Self::Denied { .. } => ErrorCode::new("policy.denied"),
            Self::TurnLimit { .. } => ErrorCode::new("run.turn_limit"),
            Self::BadAnswer { .. } => ErrorCode::new("run.bad_answer"),
            Self::Journal(error) => error.code(),
            Self::State(error) => error.code(),
            Self::Resume(error) => error.code(),
            Self::Graph(failure) => failure.code(),
            Self::Failed(failure) => failure.code.clone(),
            Self::Internal(_) => ErrorCode::new("run.internal"),
            Self::Panicked => ErrorCode::new("run.panicked"),
            Self::Cancelled => ErrorCode::new("run.cancelled"),
            Self::Deadline => ErrorCode::new("run.deadline"),
        }
    }

    /// Whether the same run may succeed when it is tried again later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Model(error) => error.retryable(),
            Self::Journal(_) => true,
            _ => false,
        }
    }

    /// A host's own failure.
    pub fn internal(error: impl Into<BoxError>) -> Self {
        Self::Internal(error.into())
    }

    /// Words for the parent's model, which become the call's failure.
    pub fn tell(message: impl Into<String>) -> Self {
        CallError::tell(message).into()
    }

    /// Hands a request back that is not for this Sub-Agent. The parent's model reads why, and does not see the agent again in its run.
    pub fn hand_back(reason: impl Into<String>) -> Self {
        CallError::hand_back(reason).into()
    }

    /// A state that another version of the agent wrote, or another agent.
    #[must_use]
    pub fn version_mismatch(state: &AgentState, card: &AgentCard) -> Self {
        if state.agent != *card.id() {
            return StateError::OtherAgent { expected: card.id().to_string(), found: state.agent.to_string() }.into();
        }
        StateError::OtherVersion {
            agent: state.agent.to_string(),
            expected: card.version.to_string(),
            found: state.version.to_string(),
        }
        .into()
    }

    /// A state whose body makes no sense.
    pub fn unreadable_state(state: &AgentState, problem: impl ToString) -> Self {
        StateError::Unreadable { agent: state.agent.to_string(), problem: problem.to_string() }.into()
    }

    /// Whether it ends the whole run, and not only the agent where it happened.
    pub(crate) const fn stops_the_run(&self) -> bool {
        matches!(self, Self::Journal(_) | Self::State(_) | Self::Panicked | Self::Cancelled | Self::Deadline)
    }

    /// Whether the model said that the conversation is too long for it.
    pub(crate) fn is_context_overflow(&self) -> bool {
        matches!(self, Self::Model(ModelError { class: ModelErrorClass::ContextOverflow, .. }))
    }
}

impl From<CallFailure> for AgentError {
    fn from(failure: CallFailure) -> Self {
        Self::Failed(failure)
    }
}

impl From<CallError> for AgentError {
    fn from(error: CallError) -> Self {
        let code = error.code();
        match error {
            CallError::Tell(message) | CallError::HandBack(message) => {
                Self::Failed(CallFailure { code, message: message.into() })
            }
            CallError::Internal(source) => Self::Internal(source),
        }
    }
}

impl AgentState {
    /// Whether this state is of the agent with this card, and of its version.
    #[must_use]
    pub fn is_of(&self, card: &AgentCard) -> bool {
        self.agent == *card.id() && self.version == card.version
    }

    /// Whether this state is of the agent with this card, and its body of this schema version.
    ///
    /// # Errors
    ///
    /// [`AgentError::State`] when it is not.
    pub fn ensure_fits(&self, card: &AgentCard, schema: u32) -> Result<(), AgentError> {
        if !self.is_of(card) {
            return Err(AgentError::version_mismatch(self, card));
        }
        if self.schema != schema {
            return Err(AgentError::unreadable_state(
                self,
                format!("its schema is {}, expected {schema}", self.schema),
            ));
        }
        Ok(())
    }
}
