//! Why a model should look at a request though it is probable whom it is for.

use agent_core::{Effect, FunctionSpec, RouteDecision, RouteOutcome};

use super::parts::parts;
use crate::rule_model::names_a_value;

/// From which probability on an agent that changes something may be meant.
const MAY_BE_MEANT: f64 = 0.03;

/// The doubts about a decision that gives a request to these agents.
pub(super) fn doubts(decision: &RouteDecision, message: &str, specs: &[&FunctionSpec]) -> Vec<String> {
    let RouteOutcome::Route { agents } = &decision.outcome else { return Vec::new() };
    let mut doubts = Vec::new();
    if let [only] = &agents[..]
        && parts(message).len() > 1
        && only.part.is_none()
    {
        doubts.push("it has several parts".to_owned());
    }
    let spec = |name: &str| specs.iter().find(|spec| *spec.name == *name).copied();
    // What is said to agents that take none of its values.
    let untaken = agents.iter().filter_map(|routed| {
        let said = routed.part.as_deref().unwrap_or(message);
        let is_taken = spec(&routed.agent).is_some_and(|own| names_a_value(own, said));
        (!is_taken).then_some(said)
    });
    let untaken: Vec<&str> = untaken.collect();
    let is_routed = |name: &str| agents.iter().any(|routed| *routed.agent == *name);
    for candidate in decision.candidates.iter().filter(|candidate| !is_routed(&candidate.agent)) {
        let Some(other) = spec(&candidate.agent) else { continue };
        let changes = !matches!(other.effect, Effect::ReadOnly | Effect::Delegated);
        if changes && candidate.probability >= MAY_BE_MEANT {
            doubts.push(format!("`{}` changes something, and may be meant", other.name));
        }
        if untaken.iter().any(|said| names_a_value(other, said)) {
            doubts.push(format!("it says what `{}` takes", other.name));
        }
    }
    doubts
}
