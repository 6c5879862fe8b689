//! Adjutant's graph beside LangGraph: CPU time of LangGraph's own benchmark set, and what a step costs as the state grows.
//!
//! - `peers-langgraph PYTHON [ROUNDS]` runs LangGraph by this Python, and both sides that many times (20); the least time counts.
//! - `peers-langgraph growth` only measures steps.
//!
//! Events are read by an observer and spans by a subscriber, all of them. The exit code is 1 when a ratio is below [`MIN_RATIO`], or a
//! step of a large state costs more than [`growth::MAX_RATIO`] of one of a small state.

mod fanout;
mod growth;
mod harness;
mod react;
mod sequential;
mod telemetry;
mod wide_dict;

use std::process::ExitCode;

use harness::{Measured, Peer};

/// How many times what LangGraph costs more at least.
const MIN_RATIO: f64 = 50.0;

const DEFAULT_ROUNDS: usize = 20;

fn main() -> anyhow::Result<ExitCode> {
    telemetry::install(None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut arguments = std::env::args().skip(1);
    let python = arguments.next().ok_or_else(|| anyhow::anyhow!("which Python has LangGraph?"))?;
    let is_flat = runtime.block_on(growth::measure())?;
    if python == "growth" {
        return Ok(if is_flat { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let rounds = arguments.next().map(|rounds| rounds.parse()).transpose()?.unwrap_or(DEFAULT_ROUNDS);
    let ours = runtime.block_on(async {
        anyhow::Ok([
            ("fanout_to_subgraph", fanout::measure(rounds).await?),
            ("react_agent", react::measure(rounds).await?),
            ("sequential", sequential::measure(rounds).await?),
            ("wide_dict", wide_dict::measure(rounds).await?),
        ])
    })?;
    let peers = harness::peers(&python, rounds)?;
    Ok(if compare(&ours, &peers)? && is_flat { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the table. `false` when a ratio is too small.
fn compare(ours: &[(&str, Measured)], peers: &[Peer]) -> anyhow::Result<bool> {
    println!(
        "\n{:20} {:>12} {:>12} {:>8} {:>8} {:>8}",
        "scenario", "LangGraph ms", "Adjutant ms", "times", "events", "spans"
    );
    let mut is_fast = true;
    for (scenario, measured) in ours {
        let peer = peers.iter().find(|peer| peer.scenario == *scenario);
        let peer = peer.ok_or_else(|| anyhow::anyhow!("LangGraph did not run {scenario}"))?;
        anyhow::ensure!(peer.came_to == measured.came_to, "{scenario}: {:?} and {:?}", peer.came_to, measured.came_to);
        let ratio = peer.milliseconds / measured.milliseconds;
        is_fast &= ratio >= MIN_RATIO;
        println!(
            "{scenario:20} {:12.2} {:12.4} {ratio:8.0} {:8} {:8}",
            peer.milliseconds, measured.milliseconds, measured.events, measured.spans
        );
    }
    println!("at least {MIN_RATIO} times");
    Ok(is_fast)
}
