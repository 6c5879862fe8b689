//! Adjutant's routers beside semantic-router: CPU time of a decision among 150 agents with 100 examples each.
//!
//! `peers-routing PYTHON [ROUNDS]` runs each side that often (5), semantic-router by this Python; the least time counts. The texts and
//! their vectors are made up, the same for both sides, and made before the clock starts: no embedding model runs. Both sides use one
//! thread. The exit code is 1 when a ratio is above [`MAX_RATIO`], or when either side is wrong about more than a tenth of the queries.

use std::collections::HashMap;
use std::process::{Command, ExitCode, Stdio};

use agent_core::{Caller, Embedder, Embeddings, ModelError, ModelErrorClass, ModelInfo, Price, RunContext};
use agent_router::{EmbeddingStage, HierarchicalRouter, RouteCard};
use anyhow::Context;
use async_trait::async_trait;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// How much of semantic-router's time ours may take.
const MAX_RATIO: f64 = 0.1;

const DEFAULT_ROUNDS: usize = 5;
const AGENTS: usize = 150;
const IN_DOMAIN: usize = 15;
const EXAMPLES: usize = 100;
const QUERIES: usize = 1_000;
const DIMENSIONS: usize = 384;

/// The texts of both sides.
#[derive(Serialize)]
struct Data {
    routes: Vec<(String, Vec<String>)>,
    queries: Vec<(String, String)>,
}

/// What a side took, and how often it was right.
#[derive(Debug, Deserialize)]
struct Measured {
    microseconds: f64,
    right: usize,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (python, rounds) = match &arguments[..] {
        [python] => (python, DEFAULT_ROUNDS),
        [python, rounds] => (python, rounds.parse()?),
        _ => anyhow::bail!("usage: peers-routing PYTHON [ROUNDS]"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (data, vectors) = made();
    let peer = peer(python, rounds, &data, &vectors)?;
    let by_words = by_words(rounds, &data)?;
    let by_both = runtime.block_on(by_both(rounds, &data, vectors))?;
    println!(
        "{:34} {:>12} {:>7} {:>7} {:>10}",
        "a decision among 150 agents", "CPU time, us", "ratio", "bound", "right, %"
    );
    let mut holds = true;
    for (name, measured) in [
        ("semantic-router 1.1.1, vectors", &peer),
        ("Adjutant, words", &by_words),
        ("Adjutant, words and vectors", &by_both),
    ] {
        let ratio = measured.microseconds / peer.microseconds;
        let is_ours = !std::ptr::eq(measured, &peer);
        let bound = if is_ours { format!("{MAX_RATIO:.2}") } else { String::new() };
        let right = 100.0 * measured.right as f64 / data.queries.len() as f64;
        println!("{name:34} {:>12.1} {ratio:>7.3} {bound:>7} {right:>10.1}", measured.microseconds);
        holds &= right >= 90.0 && (!is_ours || ratio <= MAX_RATIO);
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Requests with words of their agent, of its domain and of everybody, and vectors around the agent's own.
fn made() -> (Data, HashMap<String, Vec<f32>>) {
    let mut random = fastrand::Rng::with_seed(7);
    let words: Vec<String> =
        (0..4_000).map(|_| (0..random.usize(3..9)).map(|_| random.lowercase()).collect()).collect();
    let centers: Vec<Vec<f32>> = (0..AGENTS).map(|_| noise(&mut random, 1.0)).collect();
    let mut vectors = HashMap::new();
    let mut text = |agent: usize| loop {
        let word = |random: &mut fastrand::Rng| match random.u8(..3) {
            0 => random.usize(..500),
            1 => 500 + agent / IN_DOMAIN * 60 + random.usize(..60),
            _ => 1_200 + agent * 12 + random.usize(..12),
        };
        let text = (0..random.usize(5..12)).map(|_| words[word(&mut random)].as_str()).collect::<Vec<_>>().join(" ");
        if !vectors.contains_key(&text) {
            let values = centers[agent].iter().zip(noise(&mut random, 1.2)).map(|(center, noise)| center + noise);
            vectors.insert(text.clone(), unit(values.collect()));
            break text;
        }
    };
    let name = |agent: usize| format!("agent-{agent}");
    let routes = (0..AGENTS).map(|agent| (name(agent), (0..EXAMPLES).map(|_| text(agent)).collect())).collect();
    let queries = (0..QUERIES).map(|at| (text(at % AGENTS), name(at % AGENTS))).collect();
    (Data { routes, queries }, vectors)
}

fn noise(random: &mut fastrand::Rng, length: f32) -> Vec<f32> {
    let values = (0..DIMENSIONS).map(|_| (0..4).map(|_| random.f32() - 0.5).sum()).collect();
    unit(values).into_iter().map(|value| value * length).collect()
}

fn unit(values: Vec<f32>) -> Vec<f32> {
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.into_iter().map(|value| value / length).collect()
}

fn peer(python: &str, rounds: usize, data: &Data, vectors: &HashMap<String, Vec<f32>>) -> anyhow::Result<Measured> {
    let folder = tempfile::tempdir()?;
    let texts = data.routes.iter().flat_map(|(_, texts)| texts).chain(data.queries.iter().map(|(text, _)| text));
    let values = texts.filter_map(|text| vectors.get(text)).flatten();
    std::fs::write(
        folder.path().join("vectors.bin"),
        values.flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>(),
    )?;
    std::fs::write(folder.path().join("data.json"), serde_json::to_vec(data)?)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/semantic_router_side.py");
    let mut command = Command::new(python);
    command.arg(script).arg(folder.path()).arg(rounds.to_string()).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("{command:?}"))?;
    anyhow::ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    serde_json::from_slice(&output.stdout).context("semantic-router's side printed something else")
}

fn cards(data: &Data) -> impl Iterator<Item = RouteCard> {
    data.routes.iter().enumerate().map(|(agent, (name, texts))| {
        RouteCard::new(name.clone(), "")
            .with_domain([format!("domain-{}", agent / IN_DOMAIN)])
            .with_examples(texts.clone())
    })
}

fn by_words(rounds: usize, data: &Data) -> anyhow::Result<Measured> {
    let caller = Caller::new("acme", "ann")?;
    let router = HierarchicalRouter::builder().cards(cards(data)).build()?;
    let mut least = Measured { microseconds: f64::INFINITY, right: 0 };
    for _ in 0..rounds {
        let began = cpu_microseconds();
        let right = data.queries.iter().filter(|(text, agent)| {
            router.decide(text, &caller).candidates.first().is_some_and(|best| *best.agent == **agent)
        });
        let right = right.count();
        let microseconds = (cpu_microseconds() - began) / data.queries.len() as f64;
        least = Measured { microseconds: microseconds.min(least.microseconds), right };
    }
    Ok(least)
}

async fn by_both(rounds: usize, data: &Data, vectors: HashMap<String, Vec<f32>>) -> anyhow::Result<Measured> {
    let cx = RunContext::standalone(Caller::new("acme", "ann")?);
    let info = ModelInfo::new("peers", "precomputed").with_price(Price::FREE);
    let stage = EmbeddingStage::new(Precomputed { vectors, info });
    let router = HierarchicalRouter::builder().cards(cards(data)).build_with(stage, &cx).await?;
    let mut least = Measured { microseconds: f64::INFINITY, right: 0 };
    for _ in 0..rounds {
        let (began, mut right) = (cpu_microseconds(), 0);
        for (text, agent) in &data.queries {
            let decision = router.decide(text, &cx).await;
            right += usize::from(decision.candidates.first().is_some_and(|best| *best.agent == **agent));
        }
        let microseconds = (cpu_microseconds() - began) / data.queries.len() as f64;
        least = Measured { microseconds: microseconds.min(least.microseconds), right };
    }
    Ok(least)
}

/// An embedding model that knows the texts of the data, and no others.
struct Precomputed {
    vectors: HashMap<String, Vec<f32>>,
    info: ModelInfo,
}

#[async_trait]
impl Embedder for Precomputed {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn embed(&self, texts: &[&str], _: &RunContext) -> Result<Embeddings, ModelError> {
        // The names of agents are embedded as well: as something else than any of the texts.
        let vectors =
            texts.iter().map(|text| self.vectors.get(*text).cloned().unwrap_or_else(|| vec![1.0; DIMENSIONS]));
        let invalid = |_| ModelError::new(ModelErrorClass::Malformed, "a vector is not valid");
        Embeddings::from_vectors(vectors).map_err(invalid)
    }
}

fn cpu_microseconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}
