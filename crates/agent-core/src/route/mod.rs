//! The port to routers: which Sub-Agents a request is for.

mod decision;

use std::sync::Arc;

use async_trait::async_trait;

pub use decision::{RouteCandidate, RouteDecision, RouteOutcome, RouteStage, RouteThresholds, Routed, StageTrace};

use crate::caller::Caller;
use crate::function::FunctionSpec;
use crate::run_context::RunContext;

/// Decides which Sub-Agents a request is for, before a model is asked.
///
/// # Contract
///
/// - A decision names nothing but agents of the request that the caller [may use](Self::may_use).
/// - It has an outcome whatever fails: a part of it that fails or is late is left out, and told in the decision's
///   [stages](RouteDecision::stages).
/// - Models are asked through [`complete`](crate::complete) and [`embed`](crate::embed) with `cx`, so that the run knows what they cost.
/// - Nothing is waited for past `cx.deadline()`.
///
/// The testkit's `conformance::router` checks an implementation.
#[async_trait]
pub trait Router: Send + Sync {
    /// Decides which of the agents a request is for.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await.
    async fn route(&self, request: RouteRequest<'_>, cx: &RunContext) -> RouteDecision;

    /// Whether the caller may use an agent and be told of it. What the router does not know of is for everybody.
    fn may_use(&self, agent: &str, caller: &Caller) -> bool;
}

/// What a [`Router`] is asked.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RouteRequest<'a> {
    /// What the user says.
    pub message: &'a str,
    /// The agents that may get it: their functions, whose names are their ids.
    pub agents: &'a [&'a FunctionSpec],
    /// The agent that worked on the request before, in the same conversation.
    pub in_charge: Option<&'a str>,
}

impl<'a> RouteRequest<'a> {
    /// A request that one of these agents may get.
    #[must_use]
    pub const fn new(message: &'a str, agents: &'a [&'a FunctionSpec]) -> Self {
        Self { message, agents, in_charge: None }
    }

    /// The same after this agent worked on the request before.
    #[must_use]
    pub const fn with_in_charge(mut self, agent: &'a str) -> Self {
        self.in_charge = Some(agent);
        self
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Router + ?Sized> Router for Arc<T> {
    async fn route(&self, request: RouteRequest<'_>, cx: &RunContext) -> RouteDecision {
        (**self).route(request, cx).await
    }

    fn may_use(&self, agent: &str, caller: &Caller) -> bool {
        (**self).may_use(agent, caller)
    }
}
