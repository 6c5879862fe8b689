//! Running both sides and taking their CPU time.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use agent_core::graph::{Graph, GraphState};
use agent_core::{Caller, Event, Observer, RunOptions};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

use crate::telemetry::Seen;

/// What LangGraph's side printed.
#[derive(Debug, Deserialize)]
pub struct Peer {
    pub scenario: String,
    pub milliseconds: f64,
    pub came_to: Vec<usize>,
}

/// What our side took and came to.
#[derive(Debug)]
pub struct Measured {
    pub milliseconds: f64,
    pub came_to: Vec<usize>,
    pub events: u64,
    pub spans: u64,
}

/// Runs LangGraph's side.
pub fn peers(python: &str, rounds: usize) -> anyhow::Result<Vec<Peer>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/langgraph_side.py");
    let output = Command::new(python).args([script, &rounds.to_string()]).stderr(Stdio::inherit()).output()?;
    anyhow::ensure!(output.status.success(), "LangGraph's side ended with {}", output.status);
    let lines = str::from_utf8(&output.stdout)?.lines();
    Ok(lines.map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Reads every event.
struct Count(Arc<AtomicU64>);

impl Observer for Count {
    fn observe(&self, event: &Event) {
        std::hint::black_box(event);
        self.0.fetch_add(1, Relaxed);
    }
}

/// Runs the graph so often, each time with a state of its own. The state is made, and let go, outside of the time.
pub async fn least<S: GraphState>(
    graph: &Graph<S>,
    rounds: usize,
    make: impl Fn() -> S,
    size: impl Fn(&S) -> Vec<usize>,
) -> anyhow::Result<Measured> {
    let mut least: Option<Measured> = None;
    for _ in 0..rounds.max(1) {
        let (state, caller, events) = (make(), Caller::new("acme", "ann")?, Arc::new(AtomicU64::new(0)));
        let options = RunOptions::default().with_observer(Count(events.clone()));
        Seen::take();
        let began = cpu_milliseconds();
        let outcome = graph.run_with(state, caller, options).await;
        let milliseconds = cpu_milliseconds() - began;
        let spans = Seen::take().spans;
        let report = outcome?.into_report().map_err(|_| anyhow::anyhow!("it waits"))?;
        let measured = Measured { milliseconds, came_to: size(&report.state), events: events.load(Relaxed), spans };
        if least.as_ref().is_none_or(|least| measured.milliseconds < least.milliseconds) {
            least = Some(measured);
        }
    }
    least.ok_or_else(|| anyhow::anyhow!("no round"))
}

/// The CPU time of this thread.
pub fn cpu_milliseconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}
