//! Running both sides and taking their CPU time.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use agent_core::graph::{Graph, GraphState};
use agent_core::{Caller, Event, EventKind, Observer, RunOptions};
use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use crate::telemetry;

/// Something to run on our side: what is made once, and what is made for each run.
pub struct Prepared<S: GraphState, M, C> {
    pub graph: Graph<S>,
    /// Makes the state to begin with.
    pub make: M,
    /// What of the end has to be the same on both sides: numbers and sizes.
    pub came_to: C,
}

/// A [`Prepared`] of any state.
pub trait Ours {
    /// Runs it once. The state is made outside of the time.
    fn once(&self, runtime: &Runtime) -> anyhow::Result<Measured>;

    /// The run that took least.
    fn least(&self, runtime: &Runtime, rounds: usize) -> anyhow::Result<Measured> {
        let mut least = self.once(runtime)?;
        for _ in 1..rounds {
            let measured = self.once(runtime)?;
            if measured.milliseconds < least.milliseconds {
                least = measured;
            }
        }
        Ok(least)
    }
}

/// What a run of ours took and came to.
#[derive(Debug)]
pub struct Measured {
    /// Of the run.
    pub milliseconds: f64,
    /// Of letting its state go, which Python does before a run is over.
    pub let_go: f64,
    /// How many nodes have run, and what the state came to.
    pub came_to: Vec<usize>,
    pub events: usize,
    pub spans: usize,
}

impl<S: GraphState, M: Fn() -> S, C: Fn(&S) -> Vec<usize>> Ours for Prepared<S, M, C> {
    fn once(&self, runtime: &Runtime) -> anyhow::Result<Measured> {
        let (state, caller, told) = ((self.make)(), Caller::new("acme", "ann")?, Arc::new(Told::default()));
        let options = RunOptions::default().with_observer(Count(told.clone()));
        telemetry::take_spans();
        let began = cpu_milliseconds();
        let outcome = runtime.block_on(self.graph.run_with(state, caller, options));
        let milliseconds = cpu_milliseconds() - began;
        let spans = telemetry::take_spans();
        let report = outcome?.into_report().map_err(|_| anyhow::anyhow!("it waits"))?;
        let came_to = [told.nodes.load(Relaxed)].into_iter().chain((self.came_to)(&report.state)).collect();
        let began = cpu_milliseconds();
        drop(report);
        let let_go = cpu_milliseconds() - began;
        Ok(Measured { milliseconds, let_go, came_to, events: told.events.load(Relaxed), spans })
    }
}

/// What the events said.
#[derive(Default)]
struct Told {
    events: AtomicUsize,
    nodes: AtomicUsize,
}

/// Reads every event.
struct Count(Arc<Told>);

impl Observer for Count {
    fn observe(&self, event: &Event) {
        std::hint::black_box(event);
        self.0.events.fetch_add(1, Relaxed);
        self.0.nodes.fetch_add(usize::from(matches!(event.kind, EventKind::NodeFinished { .. })), Relaxed);
    }
}

/// The least milliseconds of LangGraph's side. It measures nothing unless it comes to the same.
pub fn peer(python: &str, scenario: &str, rounds: usize, came_to: &[usize]) -> anyhow::Result<f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/langgraph_side.py");
    let expected = serde_json::to_string(came_to)?;
    let mut command = Command::new(python);
    command.args([script, scenario, &rounds.to_string(), &expected]).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("{python} cannot be run"))?;
    anyhow::ensure!(output.status.success(), "LangGraph's side of {scenario} ended with {}", output.status);
    Ok(str::from_utf8(&output.stdout)?.trim().parse()?)
}

/// The CPU time of this process, as Python's is of its own.
fn cpu_milliseconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}
