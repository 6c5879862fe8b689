//! What a route costs, from 10 agents to 10,000: CPU time of the thread.
//!
//! `cargo bench -p adjutant-agent-router --bench routing`, of all sizes or of those that are named after ` -- `. The texts are made up, as
//! long as CLINC150's: they say something about time, not about accuracy, which is `cargo run --release --example routing_eval`'s.
// A benchmark talks to a terminal.
#![allow(clippy::print_stdout, clippy::expect_used)]

use agent_core::Caller;
use agent_router::{HierarchicalRouter, RouteCard};
use rustix::time::{ClockId, clock_gettime};

fn main() {
    let caller = Caller::new("acme", "ann").expect("a caller");
    println!(
        "{:>7} {:>8} {:>8} {:>11} {:>12} {:>10} {:>10} {:>12} {:>12}",
        "agents",
        "examples",
        "domains",
        "training, s",
        "route, us",
        "add, ms",
        "learn, ms",
        "snapshot, MB",
        "loading, ms"
    );
    let mut last: Option<(usize, f64)> = None;
    let asked: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    // The first is like CLINC150, the others grow.
    let routers = [(150, 100, 15), (10, 10, 50), (100, 10, 50), (1_000, 10, 50), (10_000, 10, 50)];
    for (agents, examples, in_domain) in routers.into_iter().filter(|it| asked.is_empty() || asked.contains(&it.0)) {
        let mut random = fastrand::Rng::with_seed(agents as u64);
        let words: Vec<String> = (0..4_000 + agents).map(|_| word(&mut random)).collect();
        let cards: Vec<RouteCard> =
            (0..agents).map(|number| card(number, in_domain, examples, &words, &mut random)).collect();
        let requests: Vec<String> = (0..200).map(|at| cards[at * 7 % agents].examples[at % examples].clone()).collect();
        let (router, training) = timed(|| HierarchicalRouter::builder().cards(cards).build().expect("a router"));
        let (_, warm) =
            timed(|| requests.iter().map(|request| router.decide(request, &caller).candidates.len()).sum::<usize>());
        let (_, route) =
            timed(|| requests.iter().map(|request| router.decide(request, &caller).candidates.len()).sum::<usize>());
        let route = route.min(warm) / requests.len() as f64;
        let new: Vec<RouteCard> =
            (0..20).map(|number| card(agents + number, in_domain, examples, &words, &mut random)).collect();
        let (_, add) = timed(|| new.iter().for_each(|card| router.add(card.clone()).expect("a card")));
        let name = new[0].name.clone();
        let (_, learn) =
            timed(|| requests.iter().for_each(|request| router.learn(request, Some(&name)).expect("an agent")));
        let text = serde_json::to_vec(&router.snapshot()).expect("a snapshot");
        let (_, load) =
            timed(|| HierarchicalRouter::load(serde_json::from_slice(&text).expect("a snapshot")).expect("a router"));
        println!(
            "{agents:>7} {examples:>8} {:>8} {training:>11.2} {:>12.1} {:>10.2} {:>10.3} {:>12.1} {:>12.0}",
            agents.div_ceil(in_domain),
            route * 1e6,
            add * 1e3 / 20.0,
            learn * 1e3 / requests.len() as f64,
            text.len() as f64 / 1e6,
            load * 1e3,
        );
        if let Some((before, cost)) = last {
            println!("        {:.1} times as much for {} times as many", route / cost, agents / before);
        }
        last = (examples == 10).then_some((agents, route));
    }
}

/// An agent with words of its domain, a few of its own, and some that everybody has.
fn card(number: usize, in_domain: usize, examples: usize, words: &[String], random: &mut fastrand::Rng) -> RouteCard {
    let domain = number / in_domain;
    let text = |random: &mut fastrand::Rng| {
        let pick = |random: &mut fastrand::Rng| match random.u8(..3) {
            0 => words[random.usize(..500)].clone(),
            1 => words[(500 + domain * 13 + random.usize(..40)) % words.len()].clone(),
            _ => words[(4_000 + number - random.usize(..3).min(number)) % words.len()].clone(),
        };
        (0..8).map(|_| pick(random)).collect::<Vec<_>>().join(" ")
    };
    let examples: Vec<String> = (0..examples).map(|_| text(random)).collect();
    RouteCard::new(format!("agent-{number}"), text(random))
        .with_domain([format!("domain-{domain}")])
        .with_examples(examples)
}

fn word(random: &mut fastrand::Rng) -> String {
    (0..random.usize(2..7)).map(|_| random.lowercase()).collect()
}

/// What it gives, and the CPU seconds that it took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let begun = now();
    let done = work();
    (done, now() - begun)
}
