//! Adjutant beside rig: what a run costs when models and tools answer at once, and the memory of many runs of Adjutant.
//!
//! - `peers-rig [BLOCKS]` times that many blocks of 100 runs per side (100), then measures memory in a process of its own.
//! - `peers-rig memory` only measures memory.
//!
//! The exit code is 1 when a bound is passed: [`MAX_RATIO`] for the scenarios that prompt, [`memory::MAX_BYTES`].
//! `PEERS_LEVEL` (`off`, `info`, ...) limits telemetry; unset, all is on.

mod adjutant_replies;
mod adjutant_side;
mod harness;
mod memory;
mod rig_side;
mod scenario;
mod telemetry;

use std::process::{Command, ExitCode};

use harness::{Comparison, Expected, side};
use scenario::Work;

/// What a run may cost of what it costs on rig.
const MAX_RATIO: f64 = 0.15;

const DEFAULT_BLOCKS: usize = 100;

/// The argument that asks for the memory of Adjutant alone.
const MEMORY: &str = "memory";

fn main() -> anyhow::Result<ExitCode> {
    let level = std::env::var("PEERS_LEVEL").ok().map(|level| level.parse()).transpose()?;
    telemetry::install(level)?;
    let within_bounds = match std::env::args().nth(1).as_deref() {
        Some(MEMORY) => memory::measure()?,
        Some(blocks) => compare_all(blocks.parse()?)? & measure_memory_apart()?,
        None => compare_all(DEFAULT_BLOCKS)? & measure_memory_apart()?,
    };
    Ok(if within_bounds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the table of all scenarios. `false` when one passes its bound.
fn compare_all(blocks: usize) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let one_tool = Expected { answer: scenario::ONE_TOOL_ANSWER, work: Work::ONE_TOOL };
    let delegation = Expected { answer: scenario::DELEGATION_ANSWER, work: Work::DELEGATION };
    let comparisons = [
        Comparison {
            scenario: "one_tool_loop",
            expected: one_tool,
            baseline: side("rig", rig_side::one_tool_loop()?),
            measured: side("adjutant", adjutant_side::one_tool_loop()?),
            bound: Some(MAX_RATIO),
        },
        Comparison {
            scenario: "delegation",
            expected: delegation,
            baseline: side("rig", rig_side::delegation()?),
            measured: side("adjutant", adjutant_side::delegation()?),
            bound: Some(MAX_RATIO),
        },
        // The same runs over the streaming APIs, for information.
        Comparison {
            scenario: "one_tool_loop_stream",
            expected: one_tool,
            baseline: side("rig", rig_side::one_tool_loop_streamed()?),
            measured: side("adjutant", adjutant_side::one_tool_loop_streamed()?),
            bound: None,
        },
        Comparison {
            scenario: "delegation_stream",
            expected: delegation,
            baseline: side("rig", rig_side::delegation_streamed()?),
            measured: side("adjutant", adjutant_side::delegation_streamed()?),
            bound: None,
        },
    ];
    harness::print_header();
    let over: Vec<_> = comparisons.iter().filter(|comparison| !comparison.is_within_bound(&runtime, blocks)).collect();
    for comparison in &over {
        println!("OVER THE BOUND: {} costs more than {MAX_RATIO} of what it costs on rig", comparison.scenario);
    }
    Ok(over.is_empty())
}

/// Measures memory in a process that has run nothing else. `false` when it passes its bound.
fn measure_memory_apart() -> anyhow::Result<bool> {
    Ok(Command::new(std::env::current_exe()?).arg(MEMORY).status()?.success())
}
