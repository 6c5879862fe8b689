//! What holds for any router.

use agent_core::{Caller, RouteDecision, RunContext, TenantId};
use agent_router::{EmbeddingStage, Grant, HierarchicalRouter, HybridRouter, LifeCycle, RouteCard};
use proptest::prelude::*;
use testkit::{HashEmbedder, paused};

use super::behaviour::caller;

fn cases() -> ProptestConfig {
    let cases = std::env::var("ADJUTANT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(50);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

const WORDS: &[&str] = &[
    "order", "parcel", "refund", "money", "flight", "hotel", "room", "salary", "password", "address", "invoice",
    "card", "lost", "book", "cancel", "change", "where", "when", "how", "much", "退款", "订单", "naïve", "c++",
];

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(WORDS), 1..6).prop_map(|words| words.join(" "))
}

#[derive(Debug, Clone)]
struct Known {
    card: RouteCard,
    is_for_acme: bool,
}

fn agents() -> impl Strategy<Value = Vec<Known>> {
    let agent = (text(), prop::collection::vec(text(), 0..4), 0..3_u8, 0..4_u8, 0..4_u8);
    prop::collection::vec(agent, 1..12).prop_map(|agents| {
        let agents = agents.into_iter().enumerate();
        agents
            .map(|(number, (description, examples, domain, grant, state))| {
                let card = RouteCard::new(format!("agent-{number}"), description).with_examples(examples);
                let card = card.with_domain([format!("domain-{domain}")]);
                let tenant = if grant == 0 { "umbrella" } else { "acme" };
                let card = card.with_grant(Grant::tenants([TenantId::new(tenant).unwrap()]));
                let card = card.with_triggers(if number % 5 == 0 { vec!["trigger"] } else { vec![] });
                let state = if state == 0 { LifeCycle::Disabled } else { LifeCycle::Active };
                Known { card: card.with_state(state), is_for_acme: grant != 0 && state == LifeCycle::Active }
            })
            .collect()
    })
}

/// The same by words and vectors.
fn hybrid(agents: &[Known]) -> HybridRouter {
    let builder = HierarchicalRouter::builder().cards(agents.iter().map(|known| known.card.clone()));
    let stage = EmbeddingStage::new(HashEmbedder::new(64));
    paused(builder.build_with(stage, &RunContext::standalone(caller()))).unwrap()
}

fn decide(router: &HybridRouter, said: &str, caller: Caller) -> RouteDecision {
    paused(router.decide(said, &RunContext::standalone(caller)))
}

fn router(agents: &[Known]) -> HierarchicalRouter {
    HierarchicalRouter::builder().cards(agents.iter().map(|known| known.card.clone())).build().unwrap()
}

/// Whether a decision, in all that can be read of it, names an agent.
fn names(decision: &RouteDecision, name: &str) -> bool {
    let read = format!("{decision} {decision:?} {}", serde_json::to_string(decision).unwrap());
    read.split(|letter: char| !letter.is_alphanumeric() && letter != '-').any(|word| word == name)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_a_caller_may_not_use_never_appears(agents in agents(), said in text(), trigger in any::<bool>()) {
        let (words, both) = (router(&agents), hybrid(&agents));
        let said = if trigger { format!("{said} trigger") } else { said };
        let stranger = Caller::new("nobody", "x").unwrap();
        let by_words = (words.decide(&said, &caller()), words.decide(&said, &stranger));
        for (decision, nobody) in [by_words, (decide(&both, &said, caller()), decide(&both, &said, stranger))] {
            for known in &agents {
                prop_assert!(known.is_for_acme || !names(&decision, &known.card.name), "{decision}");
            }
            prop_assert_eq!(decision.visible, agents.iter().filter(|known| known.is_for_acme).count());
            prop_assert!(nobody.candidates.is_empty());
        }
    }

    #[test]
    fn decisions_are_deterministic_and_probabilities_are_some(agents in agents(), said in text()) {
        let by_words = || router(&agents).decide(&said, &caller());
        let by_both = || decide(&hybrid(&agents), &said, caller());
        for (decision, again) in [(by_words(), by_words()), (by_both(), by_both())] {
            prop_assert_eq!(&decision, &again);
            let sum: f64 = decision.candidates.iter().map(|candidate| candidate.probability).sum();
            prop_assert!(decision.candidates.iter().all(|candidate| (0.0..=1.0).contains(&candidate.probability)));
            prop_assert!(sum + decision.out_of_scope <= 1.0 + 1e-6, "{decision}");
            prop_assert!(decision.candidates.is_sorted_by(|one, other| one.probability >= other.probability), "{decision}");
        }
    }

    #[test]
    fn an_agent_that_shares_nothing_with_a_request_changes_nothing(agents in agents(), said in text()) {
        let router = router(&agents);
        let before = router.decide(&said, &caller());
        // Cyrillic letters are in none of the words.
        let other = RouteCard::new("погода", "прогноз погоды").with_domain(["север"]).with_examples(["снег"]);
        router.add(other).unwrap();
        let after = router.decide(&said, &caller());
        prop_assert_eq!(&before.outcome, &after.outcome);
        prop_assert_eq!(&before.candidates, &after.candidates);
        prop_assert_eq!(before.out_of_scope.to_bits(), after.out_of_scope.to_bits());
    }

    #[test]
    fn the_best_of_all_domains_is_never_scored_worse_than_the_best_of_the_best_domain(agents in agents(), said in text()) {
        // The beam's best is the best of all candidates, of whatever domain.
        for decision in [router(&agents).decide(&said, &caller()), decide(&hybrid(&agents), &said, caller())] {
            let score = |candidate: &agent_core::RouteCandidate| candidate.scores.values().sum::<f32>();
            if let Some(best) = decision.candidates.first() {
                // But for what rounding leaves of the parts of a sum.
                prop_assert!(decision.candidates.iter().all(|other| score(other) <= score(best) + 1e-5), "{decision}");
            }
        }
    }

    #[test]
    fn a_snapshot_that_was_read_back_decides_the_same(agents in agents(), learnt in text(), said in text()) {
        let router = router(&agents);
        router.learn(&learnt, Some(&agents[0].card.name)).unwrap();
        let text = serde_json::to_string(&router.snapshot()).unwrap();
        let loaded = HierarchicalRouter::load(serde_json::from_str(&text).unwrap()).unwrap();
        prop_assert_eq!(router.decide(&said, &caller()), loaded.decide(&said, &caller()));
    }
}
