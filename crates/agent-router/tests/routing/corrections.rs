//! What corrections do to what nobody corrected.

use agent_core::{RouteDecision, RunContext};
use agent_router::{EmbeddingStage, HierarchicalRouter, HybridRouter, RouteCard};
use testkit::{HashEmbedder, paused};

use super::behaviour::caller;

const DOMAINS: usize = 6;
const AGENTS: usize = 10;
const EXAMPLES: usize = 20;
const CORRECTIONS: usize = 500;

/// Made-up requests: words of the domain, of the agent, and of everybody.
pub(super) struct Requests {
    words: Vec<String>,
    random: fastrand::Rng,
}

impl Requests {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut word = || (0..random.usize(3..8)).map(|_| random.lowercase()).collect::<String>();
        let words = (0..1_000).map(|_| word()).collect();
        Self { words, random }
    }

    pub(super) fn request(&mut self, domain: usize, agent: usize) -> String {
        let mut words = Vec::new();
        for _ in 0..self.random.usize(5..9) {
            let at = match self.random.u8(..5) {
                0 | 1 => self.random.usize(..200),
                2 | 3 => 200 + domain * 40 + self.random.usize(..40),
                _ => 500 + (domain * AGENTS + agent) * 6 + self.random.usize(..6),
            };
            words.push(self.words[at].clone());
        }
        words.join(" ")
    }
}

pub(super) fn name(domain: usize, agent: usize) -> String {
    format!("agent-{domain}-{agent}")
}

/// A router of either kind.
enum Either {
    Words(HierarchicalRouter),
    Both(HybridRouter),
}

impl Either {
    fn built(cards: &[RouteCard], by_both: bool) -> Self {
        let builder = HierarchicalRouter::builder().cards(cards.to_vec());
        if !by_both {
            return Self::Words(builder.build().unwrap());
        }
        let stage = EmbeddingStage::new(HashEmbedder::new(512));
        Self::Both(paused(builder.build_with(stage, &RunContext::standalone(caller()))).unwrap())
    }

    fn decide(&self, request: &str) -> RouteDecision {
        match self {
            Self::Words(router) => router.decide(request, &caller()),
            Self::Both(router) => paused(router.decide(request, &RunContext::standalone(caller()))),
        }
    }

    fn learn(&self, request: &str, agent: &str) {
        match self {
            Self::Words(router) => router.learn(request, Some(agent)).unwrap(),
            Self::Both(router) => {
                paused(router.learn(request, Some(agent), &RunContext::standalone(caller()))).unwrap();
            }
        }
    }
}

/// Of 100 requests, how many go to the right agent.
fn accuracy(router: &Either, requests: &[(String, String)]) -> f64 {
    let is_right = |(request, agent): &&(String, String)| {
        router.decide(request).candidates.first().is_some_and(|best| *best.agent == **agent)
    };
    100.0 * requests.iter().filter(is_right).count() as f64 / requests.len() as f64
}

#[test]
fn five_hundred_corrections_in_one_domain_cost_the_others_at_most_half_a_point() {
    for (seed, by_both) in [(0, false), (1, false), (0, true), (1, true)] {
        let mut made = Requests::new(seed);
        let mut cards = Vec::new();
        let mut others = Vec::new();
        for domain in 0..DOMAINS {
            for agent in 0..AGENTS {
                let examples: Vec<String> = (0..EXAMPLES).map(|_| made.request(domain, agent)).collect();
                let card = RouteCard::new(name(domain, agent), "").with_domain([format!("domain-{domain}")]);
                cards.push(card.with_examples(examples));
                if domain > 0 {
                    others.extend((0..20).map(|_| (made.request(domain, agent), name(domain, agent))));
                }
            }
        }
        let of_domain = |made: &mut Requests| {
            let agent = made.random.usize(..AGENTS);
            (made.request(0, agent), name(0, agent))
        };
        let own: Vec<(String, String)> = (0..400).map(|_| of_domain(&mut made)).collect();
        let router = Either::built(&cards, by_both);
        let (before, own_before) = (accuracy(&router, &others), accuracy(&router, &own));
        for number in 0..CORRECTIONS {
            let (mut request, agent) = of_domain(&mut made);
            if number % 5 == 0 {
                // It sounds as if it were for another domain, and is not.
                request = format!("{request} {}", made.request(1 + number / 5 % (DOMAINS - 1), 0));
            }
            router.learn(&request, &agent);
        }
        let (after, own_after) = (accuracy(&router, &others), accuracy(&router, &own));
        let figures = format!("others {before:.1} to {after:.1}, own {own_before:.1} to {own_after:.1}");
        assert!(before > 50.0 && before < 99.0, "{figures}");
        assert!(after >= before - 0.5, "{figures}");
        assert!(own_after >= own_before, "{figures}");
    }
}
