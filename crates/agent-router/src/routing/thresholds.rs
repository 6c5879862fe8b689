//! Thresholds that are learnt from requests whose agents are known.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::{InvalidValue, RouteThresholds};

/// Domains with fewer requests have the thresholds of the domain around them.
const FEWEST: usize = 30;

/// How often what follows from a decision shall be right, each from 0 to 1: what thresholds are learnt for.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RoutePrecision {
    /// Of requests that are routed, the share whose agent is the right one. Default: 0.9.
    pub route: f64,
    /// Of requests that nobody gets, the share that is for nobody. Default: 0.9.
    pub out_of_scope: f64,
    /// Of requests that are clear, the share whose agent is the right one. Default: 0.98.
    pub dispatch: f64,
}

impl Default for RoutePrecision {
    fn default() -> Self {
        Self { route: 0.9, out_of_scope: 0.9, dispatch: 0.98 }
    }
}

impl RoutePrecision {
    /// The same with this share of what is routed.
    #[must_use]
    pub const fn with_route(self, route: f64) -> Self {
        Self { route, ..self }
    }

    /// The same with this share of what nobody gets.
    #[must_use]
    pub const fn with_out_of_scope(self, out_of_scope: f64) -> Self {
        Self { out_of_scope, ..self }
    }

    /// The same with this share of what is clear.
    #[must_use]
    pub const fn with_dispatch(self, dispatch: f64) -> Self {
        Self { dispatch, ..self }
    }

    pub(super) fn ensure_valid(self) -> Result<(), InvalidValue> {
        for (field, value) in [("route", self.route), ("out_of_scope", self.out_of_scope), ("dispatch", self.dispatch)]
        {
            if !(0.0..=1.0).contains(&value) {
                return Err(InvalidValue::new(format!("precision.{field}"), value, "0 to 1"));
            }
        }
        Ok(())
    }
}

/// A decision about a request whose agent is known.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    /// The domain of the best agent.
    pub(super) domain: String,
    /// How probable the best agent is, and whether it is right.
    pub(super) right: (f64, bool),
    /// How probable it is that nobody is, and whether nobody is.
    pub(super) out_of_scope: (f64, bool),
}

/// The lowest thresholds of each domain with enough requests, and of all together, for which the precision is reached.
pub(super) fn learn(judged: &[Judged], goal: RoutePrecision) -> BTreeMap<String, RouteThresholds> {
    let around = |domain: &str| {
        let ends: Vec<usize> = domain.match_indices('/').map(|(end, _)| end).chain([domain.len()]).collect();
        ends.into_iter().map(|end| domain.get(..end).unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let domains: BTreeSet<String> = judged.iter().flat_map(|one| around(&one.domain)).chain([String::new()]).collect();
    let learnt = domains.into_iter().filter_map(|domain| {
        let is_within = |one: &&Judged| {
            domain.is_empty()
                || one.domain.strip_prefix(&*domain).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let own: Vec<&Judged> = judged.iter().filter(is_within).collect();
        if own.len() < FEWEST {
            return None;
        }
        let right: Vec<(f64, bool)> = own.iter().map(|one| one.right).collect();
        let route = lowest(right.clone(), goal.route);
        let left = own.iter().filter(|one| one.right.0 < route).map(|one| one.out_of_scope).collect();
        let mut thresholds = RouteThresholds::default();
        thresholds.route = route;
        thresholds.out_of_scope = lowest(left, goal.out_of_scope);
        thresholds.dispatch = lowest(right, goal.dispatch).max(route);
        Some((domain, thresholds))
    });
    learnt.collect()
}

/// The lowest probability from which on so large a share is right; 1 if there is none.
fn lowest(mut judged: Vec<(f64, bool)>, share: f64) -> f64 {
    judged.sort_by(|one, other| other.0.total_cmp(&one.0));
    let (mut lowest, mut right) = (1.0, 0_usize);
    for (place, (probability, is_right)) in judged.iter().enumerate() {
        right += usize::from(*is_right);
        // Equal probabilities are on one side of any threshold.
        let is_last = judged.get(place + 1).is_none_or(|next| next.0 < *probability);
        if is_last && right as f64 >= share * (place + 1) as f64 {
            lowest = *probability;
        }
    }
    lowest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_threshold_that_is_right_often_enough() {
        let check = |judged: &[(f64, bool)], share: f64, expected: f64| {
            assert_eq!(lowest(judged.to_vec(), share).to_bits(), expected.to_bits(), "{judged:?} {share}");
        };
        let some = [(0.9, true), (0.8, true), (0.7, false), (0.6, true), (0.6, true), (0.2, false)];
        check(&some, 1.0, 0.8);
        check(&some, 0.8, 0.6);
        check(&some, 0.5, 0.2);
        check(&some, 0.0, 0.2);
        check(&[(0.9, false), (0.3, true)], 0.9, 1.0);
        check(&[(0.5, true), (0.5, false)], 0.9, 1.0);
        check(&[], 0.9, 1.0);
    }

    #[test]
    fn domains_with_few_requests_have_none_of_their_own() {
        let one =
            |domain: &str, right| Judged { domain: domain.into(), right: (0.9, right), out_of_scope: (0.1, false) };
        let judged: Vec<Judged> = (0..40).map(|_| one("a/b", true)).chain((0..10).map(|_| one("a/c", false))).collect();
        let learnt = learn(&judged, RoutePrecision::default());
        let route: Vec<(&str, f64)> = learnt.iter().map(|(domain, own)| (&**domain, own.route)).collect();
        assert_eq!(route, [("", 1.0), ("a", 1.0), ("a/b", 0.9)]);
    }
}
