//! What a step costs as the state grows, of which it changes a little.

use std::sync::Arc;

use agent_core::graph::{END, Graph, START, node};
use agent_core::{AgentError, graph_state};
use tokio::runtime::Runtime;

use crate::harness::{Ours, Prepared};

/// What a step of the largest state may cost of one of the smallest.
pub const MAX_RATIO: f64 = 1.5;

const STEPS: u64 = 1_000;

const ROUNDS: usize = 20;

const SIZES: [usize; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];

graph_state! {
    struct Growing updated by GrowingUpdate {
        /// What no step changes.
        large: Vec<String> => append,
        steps: u64 => add,
    }
}

async fn count(_: Arc<Growing>) -> Result<GrowingUpdate, AgentError> {
    Ok(GrowingUpdate::default().steps(1))
}

/// Prints the curve. `false` when it rises.
pub fn measure(runtime: &Runtime) -> anyhow::Result<bool> {
    let graph = Graph::builder("growing")
        .node(node("count", count))
        .edge(START, "count")
        .route("count", ["count", END], |state: &Growing| if state.steps < STEPS { "count" } else { END })
        .build()?;
    println!("{:>12} {:>16}", "state, bytes", "step, us of CPU");
    let mut curve = Vec::new();
    for size in SIZES {
        let make = || Growing { large: vec!["x".repeat(100); size / 100], steps: 0 };
        let came_to = |state: &Growing| vec![state.large.len()];
        let measured = Prepared { graph: graph.clone(), make, came_to }.least(runtime, ROUNDS)?;
        let microseconds = measured.milliseconds * 1e3 / STEPS as f64;
        println!("{size:12} {microseconds:16.3}");
        curve.push(microseconds);
    }
    let ratio = curve.last().unwrap_or(&0.0) / curve.first().unwrap_or(&1.0);
    let is_flat = ratio <= MAX_RATIO;
    println!("largest of smallest: {ratio:.2}, at most {MAX_RATIO}{}", if is_flat { "" } else { "   EXCEEDED" });
    Ok(is_flat)
}
