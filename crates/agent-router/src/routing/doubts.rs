//! Why a model should look at a request though it is probable whom it is for.

use agent_core::{Effect, FunctionSpec, RouteDecision, RouteOutcome, Routed};

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
    let is_routed = |name: &str| agents.iter().any(|routed| *routed.agent == *name);
    for candidate in decision.candidates.iter().filter(|candidate| !is_routed(&candidate.agent)) {
        let Some(other) = spec(&candidate.agent) else { continue };
        let changes = !matches!(other.effect, Effect::ReadOnly | Effect::Delegated);
        if changes && candidate.probability >= MAY_BE_MEANT {
            doubts.push(format!("`{}` changes something, and may be meant", other.name));
        }
        let said = |routed: &Routed| routed.part.as_deref().unwrap_or(message).to_owned();
        let takes_it = |routed: &&Routed| spec(&routed.agent).is_some_and(|own| names_a_value(own, &said(routed)));
        if agents.iter().any(|routed| names_a_value(other, &said(routed)) && !takes_it(&routed)) {
            doubts.push(format!("it says what `{}` takes", other.name));
        }
    }
    doubts
}
