//! Adjutant's graph beside LangGraph: CPU time of LangGraph's own benchmark set, and what a step costs as the state grows.
//!
//! - `peers-langgraph PYTHON [ROUNDS]` measures steps, and runs each of both sides that often (20), LangGraph by this Python; the least
//!   time counts. Both sides have to run as many nodes and come to the same state before anything is measured.
//! - `peers-langgraph growth` only measures steps.
//! - `peers-langgraph alone SCENARIO [ROUNDS]` only runs our side of one scenario, for a profiler.
//!
//! LangGraph's agent stands beside three of ours: one of plain messages, one that goes through the SDK's ports, and the same with a
//! journal of its calls, as it is unless a host says that a tool only reads.
//!
//! Events are read by an observer and spans by a subscriber, all of them. The exit code is 1 when a ratio is below [`MIN_RATIO`], or a
//! step of a large state costs more than [`growth::MAX_RATIO`] of one of a small state.

mod fanout;
mod growth;
mod harness;
mod react;
mod react_plain;
mod sequential;
mod telemetry;
mod wide_dict;

use std::process::ExitCode;

use agent_core::Effect;
use anyhow::Context;
use tokio::runtime::Runtime;

use harness::Ours;

/// How many times of ours LangGraph takes at least.
const MIN_RATIO: f64 = 50.0;

const DEFAULT_ROUNDS: usize = 20;

/// One of our sides, and the scenario of LangGraph's that it stands beside.
struct Pair {
    name: &'static str,
    peer: &'static str,
    prepare: fn() -> anyhow::Result<Box<dyn Ours>>,
}

fn main() -> anyhow::Result<ExitCode> {
    telemetry::install()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let holds = match words.as_slice() {
        ["growth"] => growth::measure(&runtime)?,
        ["alone", scenario] => alone(&runtime, scenario, DEFAULT_ROUNDS)?,
        ["alone", scenario, rounds] => alone(&runtime, scenario, rounds.parse()?)?,
        [python] => growth::measure(&runtime)? & compare(&runtime, python, DEFAULT_ROUNDS)?,
        [python, rounds] => growth::measure(&runtime)? & compare(&runtime, python, rounds.parse()?)?,
        _ => anyhow::bail!("usage: peers-langgraph PYTHON [ROUNDS] | growth | alone SCENARIO [ROUNDS]"),
    };
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The four of LangGraph's set, its agent beside three of ours.
const PAIRS: &[Pair] = &[
    Pair { name: "fanout_to_subgraph", peer: "fanout_to_subgraph", prepare: fanout::prepare },
    Pair { name: "react_plain", peer: "react_agent", prepare: react_plain::prepare },
    Pair { name: "react_ports", peer: "react_agent", prepare: || react::prepare(Effect::ReadOnly) },
    Pair { name: "react_journal", peer: "react_agent", prepare: || react::prepare(Effect::Unspecified) },
    Pair { name: "sequential", peer: "sequential", prepare: sequential::prepare },
    Pair { name: "wide_dict", peer: "wide_dict", prepare: wide_dict::prepare },
];

/// Prints the table of both sides. `false` when a ratio is too small.
fn compare(runtime: &Runtime, python: &str, rounds: usize) -> anyhow::Result<bool> {
    println!(
        "\n{:20} {:>12} {:>12} {:>7} {:>7} {:>7} {:>7} {:>7}",
        "least CPU time", "LangGraph ms", "Adjutant ms", "times", "bound", "nodes", "events", "spans"
    );
    let mut is_fast = true;
    for Pair { name, peer, prepare } in PAIRS {
        let ours = prepare()?;
        let expected = ours.once(runtime)?.came_to;
        let theirs = harness::peer(python, peer, rounds, &expected)?;
        let measured = ours.least(runtime, rounds)?;
        let milliseconds = measured.milliseconds + measured.let_go;
        let ratio = theirs / milliseconds;
        let verdict = if ratio >= MIN_RATIO { "" } else { "   BELOW" };
        let nodes = expected.first().context("the nodes that ran come first")?;
        println!(
            "{name:20} {theirs:12.2} {milliseconds:12.4} {ratio:7.0} {MIN_RATIO:7} {nodes:7} {:7} {:7}{verdict}",
            measured.events, measured.spans
        );
        is_fast &= ratio >= MIN_RATIO;
    }
    Ok(is_fast)
}

/// Runs one of our sides so often.
fn alone(runtime: &Runtime, name: &str, rounds: usize) -> anyhow::Result<bool> {
    let pair = PAIRS.iter().find(|pair| pair.name == name).context("there is no such scenario")?;
    println!("{:?}", (pair.prepare)()?.least(runtime, rounds)?);
    Ok(true)
}
