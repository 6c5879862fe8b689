//! Routers that break a rule.

use std::sync::atomic::{AtomicU32, Ordering};

use agent_core::{Caller, RouteDecision, RouteOutcome, RouteRequest, Routed, Router, RunContext, async_trait};
use testkit::conformance;

/// A router that gives everything to what this says.
struct Routing<F>(F);

#[async_trait]
impl<F: Fn(&RouteRequest<'_>) -> RouteOutcome + Send + Sync> Router for Routing<F> {
    async fn route(&self, request: RouteRequest<'_>, _: &RunContext) -> RouteDecision {
        RouteDecision::new((self.0)(&request), "none".into())
    }

    fn may_use(&self, agent: &str, caller: &Caller) -> bool {
        agent != "payroll" || caller.tenant.to_string() == "acme"
    }
}

fn first(request: &RouteRequest<'_>, may_use: impl Fn(&str) -> bool, probability: f64) -> RouteOutcome {
    match request.agents.iter().find(|agent| may_use(&agent.name)) {
        Some(agent) => RouteOutcome::Route { agents: vec![Routed::new(agent.name.clone(), probability)] },
        None => RouteOutcome::OutOfScope,
    }
}

#[tokio::test]
async fn gives_all_to_the_first() {
    conformance::router(
        Routing(|request: &RouteRequest<'_>| first(request, |name| name != "payroll", 0.9)),
        ["orders", "payroll"],
    )
    .await;
}

#[tokio::test]
#[should_panic(expected = "names `orders`, which the caller cannot use here")]
async fn names_what_is_not_there() {
    let orders =
        Routing(|_: &RouteRequest<'_>| RouteOutcome::Route { agents: vec![Routed::new("orders".into(), 0.9)] });
    conformance::router(orders, ["orders"]).await;
}

#[tokio::test]
#[should_panic(expected = "for umbrella names `payroll`, which the caller cannot use here")]
async fn names_what_is_forbidden() {
    conformance::router(Routing(|request: &RouteRequest<'_>| first(request, |_| true, 0.9)), ["payroll"]).await;
}

#[tokio::test]
#[should_panic(expected = "a probability of 90")]
async fn counts_in_per_cent() {
    conformance::router(Routing(|request: &RouteRequest<'_>| first(request, |_| true, 90.0)), ["orders"]).await;
}

#[tokio::test]
#[should_panic(expected = "once more gives another decision")]
async fn throws_dice() {
    let thrown = AtomicU32::new(0);
    let dice = Routing(move |request: &RouteRequest<'_>| {
        first(request, |_| true, f64::from(thrown.fetch_add(1, Ordering::Relaxed) % 2))
    });
    conformance::router(dice, ["orders"]).await;
}

#[tokio::test]
#[should_panic(expected = "fills an input of `orders` that does not fit")]
async fn fills_what_does_not_fit() {
    let filled = Routing(|request: &RouteRequest<'_>| match first(request, |_| true, 0.9) {
        RouteOutcome::Route { mut agents } => {
            agents.iter_mut().for_each(|routed| routed.input = Some(serde_json::json!({"order": 7})));
            RouteOutcome::Route { agents }
        }
        outcome => outcome,
    });
    conformance::router(filled, ["orders"]).await;
}
