//! Whatever a model does, and whenever the run is stopped and goes on elsewhere: exactly one result for each call, in order; nothing
//! runs twice; nothing stays reserved; an end.
//!
//! 2,000 cases by default; `ADJUTANT_CASES` sets another number.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use agent_core::{
    AnswerValue, Approval, Bounds, CallError, CallResult, Chunk, Conversation, Dispatch, Effect, Entry, FinishReason,
    FunctionSpec, Lease, Limits, MainAgent, ModelErrorClass, PendingKind, Request, Resume, RunContext, RunOptions,
    RunOutcome, RunState, Schema, Spend, Tokens, Tool, ToolOutput, async_trait,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::{FnModel, Line, Recorder, RecordingAgent, caller, elsewhere, joined, paused, somebody};
use tokio_util::sync::CancellationToken;

/// What a model does in one answer.
#[derive(Debug, Clone)]
enum Answer {
    Text,
    Empty,
    OnlyReasoning,
    Calls(Vec<WantedCall>),
    /// Calls, then no end.
    Cut(Vec<WantedCall>),
    Fails(ModelErrorClass),
    FailsLate,
    Stray,
    SaysMoreAfterTheEnd,
    Panics,
    Hangs,
}

/// A call as a model wants it: of this function, with these arguments, under this id.
#[derive(Debug, Clone)]
struct WantedCall {
    name: &'static str,
    arguments: &'static str,
    id: &'static str,
}

const NAMES: &[&str] = &[
    "echo", "echo", "echo", "tell", "fail", "panic", "hang", "huge", "wait", "pay", "pay", "child", "survey", "night",
    "ghost", "",
];
const ARGUMENTS: &[&str] =
    &["{\"n\": 1}", "{\"n\": 2}", "{\"n\": 3}", "{\"request\": \"go\", \"n\": 4}", "", "{", "7", "{\"n\": \"x\"}"];
const IDS: &[&str] = &["", "a", "a", "b"];

fn calls() -> impl Strategy<Value = Vec<WantedCall>> {
    let pick = |list: &'static [&'static str]| (0..list.len()).prop_map(move |at| list[at]);
    let call =
        (pick(NAMES), pick(ARGUMENTS), pick(IDS)).prop_map(|(name, arguments, id)| WantedCall { name, arguments, id });
    proptest::collection::vec(call, 1..6)
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        3 => Just(Answer::Text),
        1 => Just(Answer::Empty),
        1 => Just(Answer::OnlyReasoning),
        9 => calls().prop_map(Answer::Calls),
        1 => calls().prop_map(Answer::Cut),
        1 => prop_oneof![Just(ModelErrorClass::Malformed), Just(ModelErrorClass::RateLimited), Just(ModelErrorClass::ContextOverflow)]
            .prop_map(Answer::Fails),
        1 => Just(Answer::FailsLate),
        1 => Just(Answer::Stray),
        1 => Just(Answer::SaysMoreAfterTheEnd),
        1 => Just(Answer::Panics),
        1 => Just(Answer::Hangs),
    ]
}

fn line(answer: &Answer) -> Line {
    let calling = |calls: &[WantedCall]| {
        calls
            .iter()
            .zip(0..)
            .fold(Line::silence(), |line, (call, index)| line.then_call(index, call.id, call.name, call.arguments))
    };
    match answer {
        Answer::Text => Line::text("so be it"),
        Answer::Empty => Line::silence().then_finish(FinishReason::Stop),
        Answer::OnlyReasoning => Line::silence().then(Chunk::Reasoning("hm".into())).then_finish(FinishReason::Stop),
        Answer::Calls(calls) => calling(calls).then_finish(FinishReason::Calls),
        Answer::Cut(calls) => calling(calls),
        Answer::Fails(class) => Line::fails(*class),
        Answer::FailsLate => Line::silence().then_text("I am").then_fails(ModelErrorClass::Stalled),
        Answer::Stray => Line::silence().then(Chunk::CallArguments { index: 9, text: "{}".into() }),
        Answer::SaysMoreAfterTheEnd => Line::text("over").then(Chunk::Text("and out".into())),
        Answer::Panics => Line::silence().then_panics(),
        Answer::Hangs => Line::silence().then_text("I am").then_hangs(),
    }
}

fn model(answers: Vec<Answer>) -> FnModel {
    let next = AtomicUsize::new(0);
    FnModel::new(move |_| answers.get(next.fetch_add(1, Ordering::Relaxed)).map_or_else(|| Line::text("the end"), line))
}

/// What all tools of one case have seen.
#[derive(Default)]
struct Seen {
    keys: Mutex<Vec<String>>,
    leases: Mutex<Vec<Lease>>,
}

/// A tool that does what its name says, and returns what it was called with.
struct Named {
    spec: FunctionSpec,
    seen: Arc<Seen>,
}

impl Named {
    fn new(name: &'static str, seen: &Arc<Seen>) -> Self {
        static INPUT: LazyLock<Schema> = LazyLock::new(|| {
            let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
            Schema::from_value(schema).unwrap()
        });
        let spec = FunctionSpec::new(name, "", INPUT.clone()).with_effect(Effect::AtMostOnce);
        let spec = if name == "pay" { spec.with_approval(Approval::Needed) } else { spec };
        Self { spec, seen: seen.clone() }
    }
}

#[async_trait]
impl Tool for Named {
    fn spec(&self) -> &FunctionSpec {
        &self.spec
    }

    async fn call(&self, input: &Value, cx: &RunContext) -> Result<ToolOutput, CallError> {
        self.seen.keys.lock().unwrap().push(cx.idempotency_key());
        self.seen.leases.lock().unwrap().push(cx.lease().clone());
        match &*self.spec.name {
            "tell" => Err(CallError::tell("no luck")),
            "fail" => Err(std::io::Error::other("down").into()),
            "panic" => panic!("told to"),
            "hang" => std::future::pending().await,
            "huge" => Ok(ToolOutput::Done(json!("x".repeat(4_000)))),
            "wait" => Ok(ToolOutput::Waits(PendingKind::question("Well?"))),
            _ => {
                let delay = input["n"].as_u64().unwrap_or_default() % 3;
                tokio::time::sleep(Duration::from_millis(delay)).await;
                Ok(ToolOutput::Done(json!({"called": &*self.spec.name, "n": input["n"]})))
            }
        }
    }
}

fn agent(name: &str, model: &FnModel, seen: &Arc<Seen>) -> agent_core::MainAgentBuilder {
    let bounds = Bounds::default().with_turns(6).with_result_bytes(2_000).with_tool_timeout(Duration::from_secs(2));
    let builder = MainAgent::builder(name, model.clone()).bounds(bounds);
    let survey =
        RecordingAgent::new("survey", [("one", PendingKind::question("One?")), ("two", PendingKind::question("Two?"))]);
    let night = RecordingAgent::new("night", []).with_card(|card| card.with_dispatch(Dispatch::Durable));
    ["echo", "tell", "fail", "panic", "hang", "huge", "wait", "pay"]
        .into_iter()
        .fold(builder, |builder, tool| builder.tool(Named::new(tool, seen)))
        .sub_agent(survey)
        .sub_agent(night)
}

/// Each result stands at its own call: what echoes says so, and the rest failed with a code of the function's own.
fn check_pairs(conversation: &Conversation) {
    for entry in conversation.entries() {
        let Entry::Agent(turn) = entry else { continue };
        assert_eq!(turn.reply().each_call().count(), turn.results().len());
        for (call, result) in turn.exchanges() {
            if let Some(called) = result.value().and_then(|value| value.get("called")) {
                assert_eq!(called, &*call.name);
                let arguments = call.arguments.parse().unwrap();
                // A person may have approved `pay` with 2 instead.
                let n = &result.value().unwrap()["n"];
                assert!(*n == arguments["n"] || (&*call.name == "pay" && *n == 2), "{call:?} {result:?}");
            }
            let code = result.failure().map(|failure| failure.code.as_str().to_owned());
            match (&*call.name, code.as_deref()) {
                ("" | "ghost", code) => {
                    assert!(matches!(code, Some("call.unknown_function" | "call.fan_out")), "{code:?}")
                }
                ("echo" | "pay" | "wait" | "survey" | "night", None) | ("child", _) => {}
                // It was stopped in flight, and a person knew what became of it.
                (_, None) if *result == CallResult::done(json!("an answer")) => {}
                (_, Some(_)) => {}
                (name, None) => panic!("{name} has a value: {result:?}"),
            }
        }
    }
}

fn answers_to(state: &RunState, seed: u64) -> Resume {
    let resume = Resume::new(state.clone(), somebody("acme", "sam"));
    let count = state.pending().len() as u64;
    // Some of what waits, at least one.
    let chosen = state
        .pending()
        .iter()
        .zip(0..)
        .filter(|(_, index)| (seed >> (index % 60)) & 1 == 1 || *index == seed % count.max(1));
    chosen.fold(resume, |resume, (pending, index)| {
        let value = match (&pending.kind, (seed >> ((index + 7) % 60)) % 3) {
            (_, 0) => AnswerValue::Deny("no".into()),
            (PendingKind::Approval { .. }, 1) => AnswerValue::ApproveWith(json!({"n": 2})),
            (PendingKind::Approval { .. }, _) => AnswerValue::Approve,
            (PendingKind::DurableCall { .. }, _) => {
                AnswerValue::Returned { result: CallResult::done(json!("counted")), spent: Spend::ZERO }
            }
            _ => AnswerValue::Value(json!("an answer")),
        };
        resume.with_answer(&pending.id, value)
    })
}

async fn check(main: Vec<Answer>, child: Vec<Answer>, limits: Limits, seed: u64) {
    let seen = Arc::new(Seen::default());
    let models = (model(main), model(child));
    // As another process builds it, with a journal that knows nothing.
    let desk = || {
        let child = agent("child", &models.1, &seen).build().unwrap();
        agent("desk", &models.0, &seen).sub_agent(child).build().unwrap()
    };
    let recorder = Recorder::new();
    let options = |life: u32| {
        let options = RunOptions::default().with_observer(recorder.clone());
        // In every third life or so the run is stopped, at any of the moments at which something happens.
        match seed.rotate_right(life * 11) % 12 {
            stop @ 0..4 => options.with_cancellation(cancelled_after(Duration::from_millis(stop))),
            _ => options,
        }
    };
    let mut outcome = desk().run(Request::new("Go").with_options(options(0).with_limits(limits)), caller()).await;
    for life in 1.. {
        assert!(life < 100, "the run never ends");
        let (saved, conversation) = match outcome {
            Ok(RunOutcome::Suspended(waiting)) => (waiting.state, waiting.conversation),
            Ok(RunOutcome::Completed(report)) => {
                check_pairs(&report.conversation);
                assert!(
                    matches!(report.conversation.entries().last(), Some(Entry::Agent(turn)) if turn.results().is_empty())
                );
                break;
            }
            Err(failure) => {
                check_pairs(&failure.conversation);
                let code = failure.code();
                assert!(!code.as_str().starts_with("resume.") && !code.as_str().starts_with("state."), "{failure:?}");
                match failure.state {
                    Some(state) if code.as_str() == "run.cancelled" => (state, failure.conversation),
                    _ => break,
                }
            }
        };
        check_pairs(&conversation);
        let state = elsewhere(&saved);
        assert_eq!(state, saved);
        outcome = desk().resume(answers_to(&state, seed.rotate_left(life)).with_options(options(life))).await;
    }
    let keys = seen.keys.lock().unwrap();
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len(), "a call was made twice: {keys:?}");
    assert!(seen.leases.lock().unwrap().iter().all(|lease| lease.reserved() == Spend::ZERO));
    let events = joined(recorder.events());
    let last = events.iter().rfind(|event| event.path().depth() == 0).unwrap();
    assert!(matches!(last.kind, agent_core::EventKind::Finished(_) | agent_core::EventKind::Failed(_)));
}

/// A token that is cancelled at that time.
fn cancelled_after(time: Duration) -> CancellationToken {
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        stop.cancel();
    });
    token
}

fn cases() -> u32 {
    std::env::var("ADJUTANT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000)
}

/// Two halves, which run side by side.
#[test]
fn every_call_has_exactly_one_result_whatever_the_model_does() {
    check_cases(cases().div_ceil(2));
}

#[test]
fn every_call_has_exactly_one_result_whatever_the_model_does_second_half() {
    check_cases(cases() / 2);
}

fn check_cases(cases: u32) {
    quiet_panics();
    let answers = || proptest::collection::vec(answer(), 0..7);
    let limits = prop_oneof![
        3 => Just(Limits::none()),
        1 => (0..400u64).prop_map(|tokens| Limits::none().with_tokens(Tokens(tokens))),
        1 => (0..8u32).prop_map(|calls| Limits::none().with_tool_calls(calls)),
    ];
    let limits = limits.prop_map(|limits| limits.with_time(Duration::from_secs(20)));
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let strategy = (answers(), answers(), limits, any::<u64>());
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let ran = runner.run(&strategy, |(main, child, limits, seed)| {
        paused(check(main, child, limits, seed));
        Ok(())
    });
    ran.unwrap();
}

/// The scripts panic on purpose, thousands of times: only other panics are printed.
fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|text| text == "told to" || text == "the script says so") {
                print(info);
            }
        }));
    });
}
