//! How well requests are routed, on public data sets in their own formats.
//!
//! ```text
//! cargo run --release --example routing_eval -- --train clinc150/train_val.json:train --test clinc150/train_val.json:val
//! cargo run --release --example routing_eval -- --train banking77/train.csv:80 --test banking77/train.csv:20 --seeds 5
//! cargo run --release --example routing_eval -- --train metatool/tools.json --test metatool/queries_dev.csv
//! cargo run --release --example routing_eval -- --train clinc150/train_val.json:train --shots 10 --test clinc150/train_val.json:val
//! ```
//!
//! With `--features minilm`, `--embedder DIR` routes by words and vectors: the folder has all-MiniLM-L6-v2's `model.safetensors` and
//! `vocab.txt` (`cargo xtask backends minilm` prints where it puts them).
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
use adjutant::agent_core::{RouteDecision, RunContext};
use adjutant::agent_router::{EmbeddingStage, HierarchicalRouter, HybridRouter, RouteCard, RouterBuilder};

use data::Part;
use figures::{Answer, Figures};

const USAGE: &str = "routing_eval --train FILE[:SPLIT] --test FILE[:SPLIT] [--shots N] [--seeds N] [--embedder DIR]";

/// What was asked for.
struct Options {
    train: String,
    test: String,
    shots: Option<usize>,
    seeds: u64,
    embedder: Option<String>,
}

/// A router of either kind.
enum Routing {
    Words(HierarchicalRouter),
    Both(HybridRouter),
}

impl Routing {
    async fn decide(&self, request: &str, cx: &RunContext) -> RouteDecision {
        match self {
            Self::Words(router) => router.decide(request, cx.caller()),
            Self::Both(router) => router.decide(request, cx).await,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = read_options()?;
    let stage = options.embedder.as_deref().map(stage).transpose()?;
    let cx = RunContext::standalone(Caller::new("acme", "ann")?);
    let mut all = Vec::new();
    for seed in 0..options.seeds {
        let mut train = Part::read(&options.train, seed)?;
        if let Some(shots) = options.shots {
            train.keep_shots(shots, seed);
        }
        let test = Part::read(&options.test, seed)?.without(&train);
        let begun = Instant::now();
        let router = match &stage {
            None => Routing::Words(builder(&train).build()?),
            Some(stage) => Routing::Both(builder(&train).build_with(stage.clone(), &cx).await?),
        };
        let trained = begun.elapsed();
        let begun = Instant::now();
        let mut answers = Vec::new();
        for (request, right) in &test.requests {
            answers.push(answer(&router.decide(request, &cx).await, &train, right.as_deref()));
        }
        let micros = begun.elapsed().as_secs_f64() * 1e6 / answers.len().max(1) as f64;
        if options.seeds == 1 {
            println!("{} agents, {} requests", train.agents().len(), answers.len());
            println!("trained in {:.2} s, {micros:.1} us a request", trained.as_secs_f64());
        }
        all.push(Figures::of(&answers));
    }
    println!("{}", Figures::table(&all));
    Ok(())
}

#[cfg(feature = "minilm")]
fn stage(folder: &str) -> Result<EmbeddingStage, Box<dyn Error>> {
    // Room for all texts, so that each is embedded once over all seeds.
    let embedder = adjutant::embedder_minilm::MiniLmEmbedder::load(folder)?.with_cache_bytes(256 << 20);
    Ok(EmbeddingStage::new(embedder).with_limits(adjutant::Limits::none()))
}

#[cfg(not(feature = "minilm"))]
fn stage(_: &str) -> Result<EmbeddingStage, Box<dyn Error>> {
    Err("an embedder needs `--features minilm`".into())
}

fn read_options() -> Result<Options, Box<dyn Error>> {
    let (mut train, mut test, mut shots, mut seeds, mut embedder) = (None, None, None, 1, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match &*name {
            "--train" => train = Some(value),
            "--test" => test = Some(value),
            "--shots" => shots = Some(value.parse()?),
            "--seeds" => seeds = value.parse()?,
            "--embedder" => embedder = Some(value),
            _ => return Err(format!("{name} is unknown: {USAGE}").into()),
        }
    }
    Ok(Options { train: train.ok_or(USAGE)?, test: test.ok_or(USAGE)?, shots, seeds, embedder })
}

fn builder(train: &Part) -> RouterBuilder {
    let cards = train.agents().into_iter().map(|agent| {
        RouteCard::new(agent.name, agent.description).with_domain(agent.domain).with_examples(agent.examples)
    });
    let out_of_scope = train.requests.iter().filter(|(_, right)| right.is_none()).map(|(request, _)| request.clone());
    HierarchicalRouter::builder().cards(cards).out_of_scope(out_of_scope)
}

fn answer(decision: &RouteDecision, train: &Part, right: Option<&str>) -> Answer {
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
