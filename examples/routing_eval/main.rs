//! How well requests are routed, on public data sets in their own formats.
//!
//! ```text
//! cargo run --release --example routing_eval -- --train clinc150/train_val.json:train --test clinc150/train_val.json:val
//! cargo run --release --example routing_eval -- --train banking77/train.csv:80 --test banking77/train.csv:20 --seeds 5
//! cargo run --release --example routing_eval -- --train metatool/tools.json --test metatool/queries_dev.csv
//! cargo run --release --example routing_eval -- --train clinc150/train_val.json:train --shots 10 --test clinc150/train_val.json:val
//! ```
//!
//! A split of a JSON file is the name of its part (`train`, with `oos_train` where there is one); of a CSV file, per cent of it, the
//! other per cent with the same seed being the rest. Thresholds come from the training data alone. A request counts as accepted when
//! its best agent is more probable than that it is out of scope.
// An example talks to a terminal.
#![allow(clippy::print_stdout)]

mod data;
mod figures;

use std::error::Error;
use std::time::Instant;

use adjutant::Caller;
use adjutant::agent_router::{HierarchicalRouter, RouteCard};

use data::Part;
use figures::{Answer, Figures};

const USAGE: &str = "routing_eval --train FILE[:SPLIT] --test FILE[:SPLIT] [--shots N] [--seeds N]";

/// What was asked for.
struct Options {
    train: String,
    test: String,
    shots: Option<usize>,
    seeds: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = read_options()?;
    let caller = Caller::new("acme", "ann")?;
    let mut all = Vec::new();
    for seed in 0..options.seeds {
        let mut train = Part::read(&options.train, seed)?;
        if let Some(shots) = options.shots {
            train.keep_shots(shots, seed);
        }
        let test = Part::read(&options.test, seed)?.without(&train);
        let begun = Instant::now();
        let router = router(&train)?;
        let trained = begun.elapsed();
        let begun = Instant::now();
        let answers =
            test.requests.iter().map(|(request, right)| answer(&router, &train, request, right.as_deref(), &caller));
        let answers: Vec<Answer> = answers.collect();
        let micros = begun.elapsed().as_secs_f64() * 1e6 / answers.len().max(1) as f64;
        let figures = Figures::of(&answers);
        if options.seeds == 1 {
            println!("{} agents, {} requests", train.agents().len(), answers.len());
            println!("trained in {:.2} s, {micros:.1} us a request", trained.as_secs_f64());
        }
        all.push(figures);
    }
    println!("{}", Figures::table(&all));
    Ok(())
}

fn read_options() -> Result<Options, Box<dyn Error>> {
    let (mut train, mut test, mut shots, mut seeds) = (None, None, None, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match &*name {
            "--train" => train = Some(value),
            "--test" => test = Some(value),
            "--shots" => shots = Some(value.parse()?),
            "--seeds" => seeds = value.parse()?,
            _ => return Err(format!("{name} is unknown: {USAGE}").into()),
        }
    }
    Ok(Options { train: train.ok_or(USAGE)?, test: test.ok_or(USAGE)?, shots, seeds })
}

fn router(train: &Part) -> Result<HierarchicalRouter, Box<dyn Error>> {
    let cards = train.agents().into_iter().map(|agent| {
        RouteCard::new(agent.name, agent.description).with_domain(agent.domain).with_examples(agent.examples)
    });
    let out_of_scope = train.requests.iter().filter(|(_, right)| right.is_none()).map(|(request, _)| request.clone());
    Ok(HierarchicalRouter::builder().cards(cards).out_of_scope(out_of_scope).build()?)
}

fn answer(router: &HierarchicalRouter, train: &Part, request: &str, right: Option<&str>, caller: &Caller) -> Answer {
    let decision = router.decide(request, caller);
    let rank = decision.candidates.iter().position(|candidate| Some(&*candidate.agent) == right);
    let best = decision.candidates.first();
    let domain_of = |agent: &str| train.domains.get(agent).cloned().unwrap_or_default();
    Answer {
        is_in_scope: right.is_some(),
        rank,
        is_domain_right: best.zip(right).is_some_and(|(best, right)| *best.domain == *domain_of(right)),
        right: best.map_or(0.0, |best| best.probability),
        out_of_scope: decision.out_of_scope,
        is_clear: decision.agent().is_some(),
    }
}
