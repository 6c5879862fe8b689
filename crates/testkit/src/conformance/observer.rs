//! The suite for [`Observer`].

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_core::{
    AgentError, Answer, AnswerValue, CallPath, CallPosition, CallResult, DeltaPart, ErrorCode, Event, EventKind, Level,
    ModelFailed, ModelFinished, Observer, Origin, PendingKind, Provenance, Reply, ResultStatus, RunContext, Spend,
    Tokens, Verdict,
};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::support::ends;
use crate::caller;

/// What observing an event may take on average. Far more than it should, since test builds are slow and machines are busy.
const QUICK: Duration = Duration::from_millis(5);

/// How often each event is observed.
const ROUNDS: usize = 5;

/// Checks an [`Observer`]: `observer(observer).await`.
///
/// - It observes events of every kind without a panic.
/// - It returns quickly: within 5 milliseconds on average.
/// - Several threads can call it at once.
///
/// # Panics
///
/// When a rule is broken.
pub async fn observer(observer: impl Observer + 'static) {
    let observer: Arc<dyn Observer> = Arc::new(observer);
    let events = Arc::new(events());
    for event in events.iter() {
        it_observes(&*observer, event).await;
    }
    it_returns_quickly(&*observer, &events);
    several_threads_can_call_it(&observer, &events).await;
}

async fn it_observes(observer: &dyn Observer, event: &Event) {
    ends(&format!("observing {:?}", event.kind), async { observer.observe(event) }).await;
}

fn it_returns_quickly(observer: &dyn Observer, events: &[Event]) {
    let began = Instant::now();
    for _ in 0..ROUNDS {
        events.iter().for_each(|event| observer.observe(event));
    }
    let count = u32::try_from(ROUNDS * events.len()).unwrap_or(u32::MAX);
    let average = began.elapsed() / count;
    assert!(average <= QUICK, "observing returns quickly: within {QUICK:?} on average; it took {average:?}");
}

async fn several_threads_can_call_it(observer: &Arc<dyn Observer>, events: &Arc<Vec<Event>>) {
    let observe = |_| {
        let (observer, events) = (observer.clone(), events.clone());
        // Threads of the runtime's, as a run's are: an observer may hand its work on to a task.
        spawn_blocking(move || (0..ROUNDS).for_each(|_| events.iter().for_each(|event| observer.observe(event))))
    };
    let threads: Vec<_> = (0..8).map(observe).collect();
    for thread in threads {
        let observed = async { thread.await.unwrap_or_else(|error| resume_unwind(error.into_panic())) };
        ends("observing in several threads at once", observed).await;
    }
}

/// Events of every kind, as two agents of a run would emit them.
fn events() -> Vec<Event> {
    let cx = RunContext::standalone(caller());
    let call = CallPath::root().child(CallPosition { turn: 0, slot: 1 });
    let paths = [CallPath::root(), call];
    let kinds = paths.into_iter().flat_map(|path| kinds(&cx).into_iter().map(move |kind| (path.clone(), kind)));
    kinds
        .zip(0..)
        .map(|((path, kind), n)| Event::new(Arc::new(Origin::new(path, cx.identity().clone())), n, kind))
        .collect()
}

fn kinds(cx: &RunContext) -> Vec<EventKind> {
    let pending = cx.pending("approval-1", PendingKind::question("Which order?"));
    let answer = Answer::new(pending.id.clone(), caller(), AnswerValue::Value(json!("A-1042")));
    let (code, spent) = (ErrorCode::new("model.unavailable"), Spend::model_call(Tokens(120)));
    let mut provenance = Provenance::default();
    provenance.levels = vec![Level::Model, Level::Rule];
    let delta = |part| EventKind::Delta { part, offset: 0, text: "Grüße 🦀\n".into() };
    let result = |result| EventKind::CallFinished { function: "lookup".into(), result };
    vec![
        EventKind::Started { agent: "desk".into(), resumed: false },
        EventKind::Answered { answer: answer.into() },
        EventKind::TurnStarted { turn: 0 },
        EventKind::Fitted { before: Tokens(200), after: Tokens(100) },
        EventKind::ModelStarted { model: "conformance".into(), step: Some("primary".into()) },
        EventKind::StepSkipped { step: "primary".into(), code: Box::new(ErrorCode::new("step.cooling")) },
        delta(DeltaPart::Reasoning),
        delta(DeltaPart::Text),
        delta(DeltaPart::Refusal),
        EventKind::ModelFinished(Box::new(ModelFinished::new(Reply::text("It is on its way.").into(), spent))),
        EventKind::ModelFailed(Box::new(ModelFailed::new("conformance".into(), code.clone(), spent))),
        EventKind::Repaired { problem: "The answer was empty.".into() },
        EventKind::CallStarted { function: "lookup".into(), arguments: r#"{"order": "A-1042"}"#.into() },
        result(CallResult::done(json!({"state": "shipped"}))),
        result(CallResult::done(json!("x".repeat(100_000)))),
        result(CallResult::failed(code.clone(), "there is no order A-1043")),
        EventKind::PolicyDecided { on: "refund".into(), verdict: Verdict::Deny, reason: "not today".into() },
        EventKind::Waiting { pending: pending.into() },
        EventKind::Recovered { code: Box::new(code.clone()), fallback_path: "model>rule".into() },
        EventKind::Custom { name: "progress".into(), data: json!({"percent": 40}).into() },
        EventKind::suspended(1, spent),
        EventKind::finished(provenance, ResultStatus::Completed, spent),
        EventKind::failed(&AgentError::Cancelled, spent),
    ]
}
