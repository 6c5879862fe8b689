//! Decisions that were made, decided again by another router, or by the same one after it learnt.

use std::fmt;

use agent_core::{Caller, RouteDecision};
use serde::{Deserialize, Serialize};

use super::router::HierarchicalRouter;

/// A decision with what it was about. serde keeps it; it has the request's words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordedRoute {
    /// What was said.
    pub message: String,
    /// On whose behalf.
    pub caller: Caller,
    /// What was decided.
    pub decision: RouteDecision,
}

/// A request that is decided otherwise than it was.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RouteChange<'a> {
    /// The request, and what was decided then.
    pub recorded: &'a RecordedRoute,
    /// What is decided now.
    pub now: RouteDecision,
}

impl RecordedRoute {
    /// What was decided about a message on behalf of a caller.
    pub fn new(message: impl Into<String>, caller: Caller, decision: RouteDecision) -> Self {
        Self { message: message.into(), caller, decision }
    }

    /// What changed, if it goes elsewhere now.
    pub(super) fn compared(&self, now: RouteDecision) -> Option<RouteChange<'_>> {
        (!goes_the_same_way(&self.decision, &now)).then_some(RouteChange { recorded: self, now })
    }
}

impl HierarchicalRouter {
    /// Decides, and notes what about.
    #[must_use]
    pub fn record(&self, message: &str, caller: &Caller) -> RecordedRoute {
        RecordedRoute::new(message, caller.clone(), self.decide(message, caller))
    }

    /// Decides recorded requests again, and gives those that go elsewhere now: to other agents, to another outcome, or no longer, or only
    /// now, without a model. Probabilities alone are no change.
    ///
    /// ```
    /// use agent_core::Caller;
    /// use agent_router::{HierarchicalRouter, RouteCard};
    ///
    /// let router = HierarchicalRouter::builder()
    ///     .card(RouteCard::new("refunds", "Refunds orders").with_triggers(["money back"]))
    ///     .card(RouteCard::new("shipping", "Says where parcels are"))
    ///     .build()?;
    /// let recorded = [router.record("I want my money back", &Caller::new("acme", "ann")?)];
    /// assert!(router.compare(&recorded).is_empty());
    /// router.remove("refunds");
    /// let changes = router.compare(&recorded);
    /// println!("{}", changes[0]);
    /// # Ok::<(), agent_core::InvalidValue>(())
    /// ```
    pub fn compare<'a>(&self, recorded: impl IntoIterator<Item = &'a RecordedRoute>) -> Vec<RouteChange<'a>> {
        let recorded = recorded.into_iter();
        recorded.filter_map(|one| one.compared(self.decide(&one.message, &one.caller))).collect()
    }
}

fn goes_the_same_way(one: &RouteDecision, other: &RouteDecision) -> bool {
    let agents = |decision: &RouteDecision| decision.agents().map(|routed| routed.agent.clone()).collect::<Vec<_>>();
    let way = |decision: &RouteDecision| (decision.outcome.name(), agents(decision), decision.clear().is_empty());
    way(one) == way(other)
}

impl fmt::Display for RouteChange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecordedRoute { message, decision, .. } = self.recorded;
        write!(f, "{message:?}: {}, now {}", decision.outcome, self.now.outcome)
    }
}
