//! The port to Sub-Agents: agents that do one kind of work behind typed input and output.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent_error::AgentError;
use crate::budget::Limits;
use crate::caller::Caller;
use crate::function::FunctionSpec;
use crate::id::AgentVersion;
use crate::pending::{Answer, Pending};
use crate::run_context::RunContext;

/// An agent that another one can delegate to. A [`MainAgent`](crate::MainAgent) is one too, so that domains nest.
///
/// Simple ones are async functions: see [`sub_agent`](crate::sub_agent()).
///
/// # Contract
///
/// - One method begins and resumes, so that resuming cannot be forgotten. What has completed before a suspension is not run again.
/// - State lives in [`AgentState`] and nowhere else: the process that resumes may be another.
/// - Every model is called through [`complete`](crate::complete) with `cx`, so that the parent knows what it cost.
/// - What it waits for is made by [`RunContext::pending`], whose ids name this agent's place in the run. A name that was answered is
///   not used again.
/// - Dropping the future stops everything that it began.
///
/// The testkit's `conformance::sub_agent` checks an implementation.
#[async_trait]
pub trait SubAgent: Send + Sync {
    /// What it is, for the model and for the run.
    fn card(&self) -> &AgentCard;

    /// Works on a task until it is done or has to wait.
    ///
    /// # Errors
    ///
    /// [`AgentError`] when the task cannot be done. The parent's model reads its code and message.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the call's time is over or the run is stopped. A [`MainAgent`](crate::MainAgent) goes on from there
    /// later; any other agent begins again where it was suspended last, unless its effect says that it must not.
    async fn run(&self, begin: Begin, cx: &RunContext) -> Result<Outcome, AgentError>;

    /// Brings a state that another version of this agent saved to the form of this version.
    ///
    /// The default refuses: a state is never guessed at.
    ///
    /// # Errors
    ///
    /// [`AgentError`] when there is no way.
    fn migrate(&self, state: AgentState) -> Result<AgentState, AgentError> {
        Err(AgentError::version_mismatch(&state, self.card()))
    }

    /// Whether `by` may answer `pending`, which came up in this agent or below it.
    ///
    /// The default leaves it to the policy of the run. An agent with a policy of its own asks that as well, and passes the
    /// question on to the agent below that [`Pending::agents`] names.
    fn may_answer(&self, pending: &Pending, by: &Caller) -> bool {
        let _ = (pending, by);
        true
    }
}

/// What an agent is: what models read of it, its version, and its own ceilings.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AgentCard {
    /// Its function for a parent's model. The function's name is the agent's id.
    pub function: FunctionSpec,
    /// Its version. A saved state of another version is refused unless [`SubAgent::migrate`] can bring it over.
    pub version: AgentVersion,
    /// The domain that it belongs to: support, logistics, finance.
    pub domain: Option<Arc<str>>,
    /// Ceilings for each of its runs, within its parent's.
    pub limits: Limits,
    /// Where it runs.
    pub dispatch: Dispatch,
}

/// Where a Sub-Agent runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dispatch {
    /// Within its parent's run, in the same process.
    #[default]
    Inline,
    /// As a task of its own: the parent is suspended until the orchestrator brings the result.
    Durable,
}

impl AgentCard {
    /// A card for this function, with version `0` and no ceilings.
    #[must_use]
    pub fn new(function: FunctionSpec) -> Self {
        Self {
            function,
            version: AgentVersion::default(),
            domain: None,
            limits: Limits::none(),
            dispatch: Dispatch::default(),
        }
    }

    /// The agent's id: its function's name.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.function.name
    }

    /// The same with a version.
    #[must_use]
    pub fn with_version(mut self, version: AgentVersion) -> Self {
        self.version = version;
        self
    }

    /// The same in a domain.
    #[must_use]
    pub fn with_domain(mut self, domain: impl Into<Arc<str>>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// The same with ceilings for each run.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same, run elsewhere.
    #[must_use]
    pub fn with_dispatch(mut self, dispatch: Dispatch) -> Self {
        self.dispatch = dispatch;
        self
    }
}

/// How a Sub-Agent's work begins. There is no third way, so that an implementation handles both.
#[derive(Debug, Clone, PartialEq)]
pub enum Begin {
    /// From the start.
    Start {
        /// The arguments, which fit the card's schema.
        input: Arc<Value>,
    },
    /// From a saved state.
    Resume {
        /// What the agent gave back when it was suspended.
        state: AgentState,
        /// Answers to some of what it waits for; none when it was merely drained.
        answers: Vec<Answer>,
    },
}

/// How a Sub-Agent's work ends, unless it fails. There is no third way.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It is done, and this is the result.
    Completed(Value),
    /// It goes on when something is answered.
    Suspended(Suspension),
}

/// A suspended agent: its state, and everything that it and its children wait for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Suspension {
    /// The agent's own state.
    pub state: AgentState,
    /// What is waited for, children's included.
    pub pending: Vec<Pending>,
    /// Whether there is work that needs no answer: the run was drained, not blocked.
    #[serde(default)]
    pub runnable: bool,
}

impl Suspension {
    /// A suspension that goes on when something of `pending` is answered.
    #[must_use]
    pub fn waiting(state: AgentState, pending: Vec<Pending>) -> Self {
        Self { state, pending, runnable: false }
    }

    /// A suspension that goes on whenever it is resumed.
    #[must_use]
    pub fn drained(state: AgentState) -> Self {
        Self { state, pending: Vec::new(), runnable: true }
    }
}

/// What an agent needs to go on: a body of its own, under its own schema version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AgentState {
    /// The agent that wrote it.
    pub agent: Arc<str>,
    /// That agent's version.
    pub version: AgentVersion,
    /// The version of the body's format, counted by the agent itself.
    pub schema: u32,
    /// The agent's own data.
    pub body: Value,
}

impl AgentState {
    /// A state of the agent with this card.
    #[must_use]
    pub fn new(card: &AgentCard, schema: u32, body: Value) -> Self {
        Self { agent: card.id().clone(), version: card.version.clone(), schema, body }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: SubAgent + ?Sized> SubAgent for Arc<T> {
    fn card(&self) -> &AgentCard {
        (**self).card()
    }

    async fn run(&self, begin: Begin, cx: &RunContext) -> Result<Outcome, AgentError> {
        (**self).run(begin, cx).await
    }

    fn migrate(&self, state: AgentState) -> Result<AgentState, AgentError> {
        (**self).migrate(state)
    }

    fn may_answer(&self, pending: &Pending, by: &Caller) -> bool {
        (**self).may_answer(pending, by)
    }
}
