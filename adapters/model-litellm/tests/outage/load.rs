//! Requests at fixed times, whether or not earlier ones are done, while a server is killed and restarted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_core::{AgentError, AttemptEnd, Attempted, EventKind, MainAgent, RunOutcome};
use agent_router::{BreakerState, Targets};
use testkit::caller;

use super::server::{Server, text};

/// The names of the servers, which are the names of their models too.
pub(crate) const PRIMARY: &str = "primary";
pub(crate) const SECONDARY: &str = "secondary";

/// How many requests a second, for how long.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) rate: u32,
    pub(crate) time: Duration,
}

/// The primary is killed at the beginning of each outage, and restarted at its end. In twentieths of the time.
pub(crate) const PHASES: [(&str, u32, u32); 5] =
    [("before", 0, 5), ("outage", 5, 10), ("after", 10, 13), ("brief outage", 13, 14), ("after", 14, 20)];

impl Load {
    pub(crate) fn at(self, twentieths: u32) -> Duration {
        self.time * twentieths / 20
    }
}

/// What came of one request.
pub(crate) struct Ran {
    /// When it was due, since the beginning.
    pub(crate) at: Duration,
    /// From when it was due to its end.
    pub(crate) took: Duration,
    pub(crate) end: End,
    /// How many attempts failed after something of them was to be read.
    pub(crate) cut: usize,
    pub(crate) attempts: Vec<Attempted>,
}

pub(crate) enum End {
    /// The whole answer of one server.
    Answered,
    /// Something else that was said to be an answer: a part of one, or parts of two.
    Wrong(String),
    /// It failed, with this code.
    Failed(String),
    /// It failed with something else than a model's typed failure.
    Untyped(String),
}

impl Ran {
    /// How many calls this model got.
    pub(crate) fn calls(&self, model: &str) -> u64 {
        let of_model = self.attempts.iter().filter(|attempt| &*attempt.model == model);
        of_model.map(|attempt| u64::from(attempt.calls)).sum()
    }

    /// How many calls of this model failed.
    pub(crate) fn failed_calls(&self, model: &str) -> usize {
        let failed = |attempt: &&Attempted| &*attempt.model == model && attempt.end != AttemptEnd::Answered;
        self.attempts.iter().filter(failed).count()
    }
}

/// What happened when, since the beginning.
pub(crate) type Timeline = Arc<Mutex<Vec<(Duration, String)>>>;

/// Sends requests to `agent` while `primary` goes down and up, and looks at the breakers of `targets`.
pub(crate) async fn run(
    load: Load,
    agent: &MainAgent,
    primary: Server,
    targets: Option<Targets>,
) -> (Vec<Ran>, Vec<(Duration, String)>) {
    let timeline = Timeline::default();
    let began = Instant::now() + Duration::from_millis(50);
    let director = std::thread::spawn({
        let timeline = timeline.clone();
        move || direct(load, primary, began, &timeline)
    });
    let watcher = tokio::spawn(watch(targets, began, timeline.clone()));
    let count = load.rate * u32::try_from(load.time.as_secs()).unwrap();
    let mut running = Vec::new();
    for number in 0..count {
        let at = load.time * number / count;
        tokio::time::sleep_until((began + at).into()).await;
        running.push(tokio::spawn(one(agent.clone(), began, at)));
    }
    let mut ran = Vec::new();
    let ended = tokio::task::spawn_blocking(|| director.join().unwrap());
    let primary = ended.await.unwrap();
    for one in running {
        ran.push(one.await.unwrap());
    }
    watcher.abort();
    drop(primary);
    let mut timeline = std::mem::take(&mut *timeline.lock().unwrap());
    timeline.sort();
    (ran, timeline)
}

/// Asks so many times, one after the other: servers and pools are warm then.
pub(crate) async fn warm_up(agent: &MainAgent, times: u32) {
    for _ in 0..times {
        one(agent.clone(), Instant::now(), Duration::ZERO).await;
    }
}

/// Kills and restarts the primary, and gives it back, alive.
fn direct(load: Load, mut primary: Server, began: Instant, timeline: &Timeline) -> Server {
    let wait_until = |at: Duration| std::thread::sleep((began + at).saturating_duration_since(Instant::now()));
    let note = |what: &str| timeline.lock().unwrap().push((began.elapsed(), what.to_owned()));
    for (_, begins, ends) in PHASES.iter().filter(|(name, ..)| name.contains("outage")) {
        wait_until(load.at(*begins));
        let under_way = primary.kill();
        note(&format!("the primary is killed, with about {under_way} answers under way"));
        wait_until(load.at(*ends));
        primary.restart();
        note("the primary is back");
    }
    primary
}

/// Notes each change of a breaker that it sees. Half open is often too short for that.
async fn watch(targets: Option<Targets>, began: Instant, timeline: Timeline) {
    let Some(targets) = targets else { return };
    let mut known: BTreeMap<Arc<str>, (BreakerState, u64)> = BTreeMap::new();
    loop {
        for state in targets.states() {
            let now = (state.breaker, state.open_for_ms);
            let before = known.insert(state.key.model.clone(), now).unwrap_or((BreakerState::Closed, 0));
            if before.0 != now.0 || before.1 < now.1 {
                let line = format!("breaker of {}: {:?} -> {:?}", state.key.model, before.0, now.0);
                let line = if now.1 > 0 { format!("{line}, for {} ms", now.1) } else { line };
                timeline.lock().unwrap().push((began.elapsed(), line));
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn one(agent: MainAgent, began: Instant, at: Duration) -> Ran {
    let mut handle = agent.start("How is all?", caller());
    let mut events = handle.events().unwrap();
    let (mut cut, mut is_heard) = (0, false);
    while let Some(event) = events.next().await {
        match event.kind {
            EventKind::ModelStarted { .. } => is_heard = false,
            EventKind::Delta { .. } => is_heard = true,
            EventKind::ModelFailed(_) => cut += usize::from(is_heard),
            _ => {}
        }
    }
    let ended = handle.join().await;
    let took = (began + at).elapsed();
    let (end, attempts) = match ended {
        Ok(RunOutcome::Completed(report)) => {
            let said = report.text().into_owned();
            let is_whole = [PRIMARY, SECONDARY].iter().any(|name| said == text(name));
            let end = if is_whole { End::Answered } else { End::Wrong(said) };
            (end, report.provenance.attempts)
        }
        Ok(RunOutcome::Suspended(_)) => (End::Untyped("suspended".into()), Vec::new()),
        Err(failure) => {
            let code = failure.code().to_string();
            let is_typed = matches!(failure.error, AgentError::Model(_));
            (if is_typed { End::Failed(code) } else { End::Untyped(code) }, failure.attempts)
        }
    };
    Ran { at, took, end, cut, attempts }
}
