//! Memory of many runs of Adjutant at once, with every event of them unread.

use std::collections::HashMap;
use std::sync::Arc;

use agent_core::{
    CallError, CallPath, CallPosition, Caller, ChatModel, ChatRequest, Entry, Event, EventKind, EventStream, MainAgent,
    ModelError, ModelInfo, ModelStream, RunContext, RunHandle, RunId, async_trait, tool, with,
};
use anyhow::{Context as _, ensure};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::Barrier;

use crate::adjutant_replies;

/// The most by which the process may grow.
pub const MAX_BYTES: usize = 100_000_000;

const RUNS: usize = 10_000;

/// Calls of a run: one a turn. The turn after them is the answer's.
const CALLS: u32 = 3;

const STEP: &str = "step";

/// Several pieces, so that their deltas have to be joined while nobody reads.
const ANSWER: [&str; 3] = ["All ", "steps are ", "done."];

/// Starts all runs, waits until each has ended, and only then reads their events, of which none may be missing. Prints what the
/// process grew by. `false` when that passes the bound.
pub fn measure() -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let agent = agent()?;
    let caller = Caller::new("acme", "ann")?;
    let (grown, events) = runtime.block_on(async {
        let before = resident("VmRSS")?;
        let runs = finished_runs(&agent, &caller).await?;
        let grown = resident("VmHWM")?.saturating_sub(before);
        anyhow::Ok((grown, ensure_complete(runs).await?))
    })?;
    println!(
        "memory: {RUNS} runs of {CALLS} calls in flight together, {events} events, all unread, none lost: \
         peak RSS grew by {:.1} MB, {:.2} kB a run (bound {:.0} MB)",
        grown as f64 / 1e6,
        grown as f64 / 1e3 / RUNS as f64,
        MAX_BYTES as f64 / 1e6
    );
    if grown > MAX_BYTES {
        println!("OVER THE BOUND: memory");
    }
    Ok(grown <= MAX_BYTES)
}

/// A field of `/proc/self/status` that is a size, in bytes.
fn resident(field: &str) -> anyhow::Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let size = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.strip_suffix("kB"));
    let kib: usize = size.with_context(|| format!("/proc/self/status has no {field}"))?.trim().parse()?;
    Ok(kib * 1024)
}

/// A run that has ended, and its events.
struct Finished {
    handle: RunHandle,
    events: EventStream,
}

/// Starts all runs and waits until each has ended. Handles and events are kept.
async fn finished_runs(agent: &MainAgent, caller: &Caller) -> anyhow::Result<Vec<Finished>> {
    let start = |_| {
        let mut handle = agent.start("Take all steps.", caller.clone());
        let events = handle.events().context("the events were taken")?;
        Ok(Finished { handle, events })
    };
    let runs = (0..RUNS).map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let metrics = Handle::current().metrics();
    while metrics.num_alive_tasks() > 0 {
        tokio::task::yield_now().await;
    }
    Ok(runs)
}

/// Reads the events of all runs and checks that none is missing. Gives their number.
async fn ensure_complete(runs: Vec<Finished>) -> anyhow::Result<usize> {
    let expected = expected_events();
    let mut count = 0;
    for Finished { handle, mut events } in runs {
        let report = handle.join().await?.into_report().map_err(|_| anyhow::anyhow!("a run was suspended"))?;
        ensure!(report.text() == ANSWER.concat(), "a run answered {:?}", report.text());
        let mut seen = Vec::with_capacity(expected.len());
        while let Some(event) = events.next().await {
            seen.push(Seen::of(event, report.run_id)?);
        }
        ensure!(seen == expected, "the events of a run were {seen:?}, not {expected:?}");
        count += seen.len();
    }
    Ok(count)
}

/// What is checked of an event.
#[derive(Debug, PartialEq)]
struct Seen {
    path: CallPath,
    n: u64,
    what: What,
}

#[derive(Debug, PartialEq)]
enum What {
    Started,
    TurnStarted(u32),
    ModelStarted,
    Delta(String),
    ModelFinished,
    CallStarted,
    CallFinished(Option<serde_json::Value>),
    Finished,
}

impl Seen {
    fn of(event: Event, run: RunId) -> anyhow::Result<Self> {
        ensure!(event.identity().run_id == run, "an event of another run came: {event:?}");
        let path = event.path().clone();
        let what = match event.kind {
            EventKind::Started { resumed: false, .. } => What::Started,
            EventKind::TurnStarted { turn } => What::TurnStarted(turn),
            EventKind::ModelStarted { .. } => What::ModelStarted,
            EventKind::Delta { offset: 0, text, .. } => What::Delta(text),
            EventKind::ModelFinished { .. } => What::ModelFinished,
            EventKind::CallStarted { .. } => What::CallStarted,
            EventKind::CallFinished { result, .. } => What::CallFinished(result.value().cloned()),
            EventKind::Finished { .. } => What::Finished,
            other => anyhow::bail!("an event came that no run should have: {other:?}"),
        };
        Ok(Self { path, n: event.n, what })
    }
}

/// Every event of a run, numbered from zero along each path. Deltas are joined.
fn expected_events() -> Vec<Seen> {
    let mut numbers: HashMap<CallPath, u64> = HashMap::new();
    let mut events = Vec::new();
    let mut expect = |path: &CallPath, what| {
        let n = numbers.entry(path.clone()).or_default();
        events.push(Seen { path: path.clone(), n: *n, what });
        *n += 1;
    };
    let root = CallPath::root();
    expect(&root, What::Started);
    for turn in 0..=CALLS {
        expect(&root, What::TurnStarted(turn));
        expect(&root, What::ModelStarted);
        if turn == CALLS {
            expect(&root, What::Delta(ANSWER.concat()));
        }
        expect(&root, What::ModelFinished);
        if turn < CALLS {
            let call = root.child(CallPosition { turn, slot: 0 });
            expect(&call, What::CallStarted);
            expect(&call, What::CallFinished(Some(turn.into())));
        }
    }
    expect(&root, What::Finished);
    events
}

fn agent() -> anyhow::Result<MainAgent> {
    let agent = MainAgent::builder("stepper", Steps(adjutant_replies::info()))
        .instructions("You take steps.")
        .tool(tool(STEP, "Takes a step", with(Barrier::new(RUNS), step)));
    Ok(agent.build()?)
}

/// A model that takes one step a turn, then answers.
struct Steps(ModelInfo);

#[async_trait]
impl ChatModel for Steps {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    async fn stream(&self, request: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
        let taken = request.conversation.entries().iter().filter(|entry| matches!(entry, Entry::Agent(_))).count();
        Ok(if taken < CALLS as usize {
            adjutant_replies::call(STEP, serde_json::json!({ "step": taken }).to_string())
        } else {
            adjutant_replies::answer(ANSWER.map(str::to_owned))
        })
    }
}

#[derive(Deserialize, JsonSchema)]
struct StepArgs {
    /// The number of the step, from zero.
    step: u32,
}

/// Takes a step together with all other runs: none goes on before each is in this call.
async fn step(all: Arc<Barrier>, args: StepArgs) -> Result<u32, CallError> {
    all.wait().await;
    Ok(args.step)
}
