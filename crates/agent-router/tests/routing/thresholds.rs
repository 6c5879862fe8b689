//! Thresholds that are learnt.

use agent_core::{RouteDecision, RouteOutcome, RouteThresholds, RunContext};
use agent_router::{EmbeddingStage, HierarchicalRouter, RouteCard, RoutePrecision};
use testkit::{HashEmbedder, paused};

use super::behaviour::caller;
use super::corrections::{Requests, name};

type Labelled = (String, Option<String>);

const DOMAINS: usize = 4;
const AGENTS: usize = 8;

/// Cards, requests to learn thresholds from, and requests to test them with. A fifth is for nobody.
fn data() -> (Vec<RouteCard>, Vec<Labelled>, Vec<Labelled>) {
    let mut made = Requests::new(3);
    let mut cards = Vec::new();
    for domain in 0..DOMAINS {
        for agent in 0..AGENTS {
            let examples: Vec<String> = (0..8).map(|_| made.request(domain, agent)).collect();
            let card =
                RouteCard::new(name(domain, agent), "").with_domain(["all".to_owned(), format!("domain-{domain}")]);
            cards.push(card.with_examples(examples));
        }
    }
    let mut labelled = || {
        let own = (0..DOMAINS * AGENTS * 12).map(|at| (at / AGENTS % DOMAINS, at % AGENTS));
        let mut all: Vec<Labelled> =
            own.map(|(domain, agent)| (made.request(domain, agent), Some(name(domain, agent)))).collect();
        all.extend((0..90).map(|at| (made.request(DOMAINS + at % 2, 0), None)));
        all
    };
    let (learn, test) = (labelled(), labelled());
    (cards, learn, test)
}

fn borrowed(labelled: &[Labelled]) -> impl Iterator<Item = (&str, Option<&str>)> {
    labelled.iter().map(|(message, agent)| (&**message, agent.as_deref()))
}

/// Of what is routed, of what nobody gets and of what is clear, how many there are and the share that is right.
fn figures(labelled: &[Labelled], decide: impl Fn(&str) -> RouteDecision) -> [(usize, f64); 3] {
    let mut counts = [(0, 0); 3];
    for (message, agent) in labelled {
        let decision = decide(message);
        let mut count = |of: usize, is_right: bool| {
            counts[of] = (counts[of].0 + 1, counts[of].1 + usize::from(is_right));
        };
        match &decision.outcome {
            RouteOutcome::Route { .. } => {
                let is_right = decision.agent().map(|agent| agent.to_string()) == *agent;
                count(0, is_right);
                if !decision.clear().is_empty() {
                    count(2, is_right);
                }
            }
            RouteOutcome::OutOfScope => count(1, agent.is_none()),
            _ => {}
        }
    }
    counts.map(|(all, right)| (all, right as f64 / f64::from(u32::try_from(all).unwrap())))
}

#[test]
fn they_keep_what_is_asked_of_them_on_other_requests() {
    let (cards, learn, test) = data();
    let router = HierarchicalRouter::builder().cards(cards).build().unwrap();
    let before = figures(&test, |message| router.decide(message, &caller()));
    let precision = RoutePrecision::default().with_route(0.85).with_out_of_scope(0.6).with_dispatch(0.95);
    let learnt = router.learn_thresholds(borrowed(&learn), precision).unwrap();
    let domains: Vec<&str> = learnt.keys().map(String::as_str).collect();
    assert_eq!(domains, ["", "all", "all/domain-0", "all/domain-1", "all/domain-2", "all/domain-3"]);
    let after = figures(&test, |message| router.decide(message, &caller()));
    // Each is kept but for what the draw of the requests makes of it.
    let shares = after.map(|(_, share)| share);
    assert!(shares[0] > 0.8 && shares[1] > 0.5 && shares[2] > 0.9, "{before:?} {after:?}");
    assert!(after.iter().all(|(count, _)| *count > 20), "{before:?} {after:?}");

    // More is asked: less is routed, and it is right more often.
    router.learn_thresholds(borrowed(&learn), precision.with_route(0.97)).unwrap();
    let strict = figures(&test, |message| router.decide(message, &caller()));
    assert!(strict[0].0 < after[0].0 && strict[0].1 > after[0].1, "{after:?} {strict:?}");
}

#[test]
fn they_stand_in_the_decision_and_in_the_snapshot() {
    let (cards, learn, _) = data();
    let router = HierarchicalRouter::builder().cards(cards).build().unwrap();
    let message = &*learn[0].0;
    let digest = router.snapshot().digest().to_owned();
    let mut set = RouteThresholds::default();
    set.route = 0.42;
    router.set_thresholds("all", set).unwrap();
    assert_eq!(router.decide(message, &caller()).thresholds, set);
    assert_ne!(router.snapshot().digest(), digest);
    let learnt = router.learn_thresholds(borrowed(&learn), RoutePrecision::default()).unwrap();
    let decision = router.decide(message, &caller());
    assert_eq!(decision.thresholds, learnt[&*decision.candidates[0].domain]);
    assert_eq!(HierarchicalRouter::load(router.snapshot()).unwrap().decide(message, &caller()), decision);

    let digest = router.snapshot().digest().to_owned();
    let wrong = router.learn_thresholds([("x", Some("nobody"))], RoutePrecision::default()).unwrap_err();
    assert!(wrong.to_string().contains("nobody"), "{wrong}");
    let wrong = router.learn_thresholds([], RoutePrecision::default().with_route(1.2)).unwrap_err();
    assert!(wrong.to_string().contains("precision.route"), "{wrong}");
    set.dispatch = -1.0;
    assert!(router.set_thresholds("all", set).is_err());
    assert_eq!(router.snapshot().digest(), digest);
    // Of too few, nothing is learnt.
    assert!(router.learn_thresholds(borrowed(&learn[..20]), RoutePrecision::default()).unwrap().is_empty());
}

#[test]
fn words_and_vectors_have_their_own() {
    paused(async {
        let (cards, learn, test) = data();
        let cx = RunContext::standalone(caller());
        let stage = EmbeddingStage::new(HashEmbedder::new(256));
        let router = HierarchicalRouter::builder().cards(cards).build_with(stage, &cx).await.unwrap();
        let precision = RoutePrecision::default().with_route(0.85);
        let learnt = router.learn_thresholds(borrowed(&learn), precision, &cx).await.unwrap();
        let (mut routed, mut right) = (0, 0);
        for (message, agent) in &test {
            let decision = router.decide(message, &cx).await;
            let domain = decision.candidates.first().map_or("", |best| &*best.domain);
            assert_eq!(decision.thresholds, learnt[domain]);
            if let Some(found) = decision.agent() {
                (routed, right) = (routed + 1, right + usize::from(Some(&**found) == agent.as_deref()));
            }
        }
        assert!(routed > 50 && right * 100 > routed * 70, "{right} of {routed}");
    });
}
