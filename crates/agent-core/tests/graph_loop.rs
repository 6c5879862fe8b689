//! The Main Agent's loop, drawn as a graph by a host: it does and tells the same, whatever a model does.
//!
//! 1,000 scripts by default; `ADJUTANT_CASES` sets another number.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_core::graph::{Branch, END, Goto, Graph, GraphOutcome, Next, START, calls, node};
use agent_core::{
    AgentError, AnswerValue, Bounds, Call, CallResult, ChatRequest, Chunk, Conversation, Effect, Event, EventKind,
    FinishReason, MainAgent, ModelError, ModelErrorClass, PendingKind, Replied, Reply, Request, Resume, RunContext,
    RunOptions, RunOutcome, RunState, Spend, Toolbox, complete, graph_state,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::{FnModel, Line, Recorder, RecordingAgent, RecordingTool, caller, elsewhere, paused, somebody, story};

graph_state! {
    #[derive(Debug, Default)]
    struct Talk updated by TalkUpdate {
        conversation: Conversation => replace,
        turn: u32 => replace,
        attempts: u32 => replace,
        /// How many answers of this turn were empty.
        blanks: u32 => replace,
        /// What the model said last.
        reply: Option<Arc<Reply>> => replace,
        results: BTreeMap<u32, CallResult> => by(gathered),
        answer: Option<String> => replace,
    }
}

/// Results of one turn come together; nothing takes them all away.
fn gathered(results: &mut BTreeMap<u32, CallResult>, more: BTreeMap<u32, CallResult>) {
    if more.is_empty() {
        results.clear();
    }
    results.extend(more);
}

const CALLS: Branch<(u32, Call)> = Branch::new("calls");

/// Asks the model, and again where that may help.
async fn think(
    model: Arc<FnModel>,
    toolbox: Toolbox,
    state: Arc<Talk>,
    cx: RunContext,
) -> Result<Next<Talk>, AgentError> {
    let left = state.attempts - 1;
    let again = |blanks| Next::update(TalkUpdate::default().attempts(left).blanks(blanks)).and_goto("think");
    let empty = |message: &'static str| AgentError::from(ModelError::new(ModelErrorClass::Empty, message));
    let asked_again = (0..state.blanks)
        .fold(state.conversation.clone(), |conversation, _| conversation.say("The answer was empty. Answer again."));
    let request = ChatRequest::new(asked_again).with_functions(toolbox.specs());
    match complete(&*model, request, &cx).await {
        Ok(reply) if reply.is_blank() && reply.finish == FinishReason::Length => Err(empty("it may write too little")),
        Ok(reply) if reply.is_blank() && left == 0 => Err(empty("its answers were empty")),
        Ok(reply) if reply.is_blank() => Ok(again(state.blanks + 1)),
        Ok(reply) => Ok(Next::update(TalkUpdate::default().attempts(left).reply(Some(reply)))),
        Err(AgentError::Model(error))
            if left > 0 && matches!(error.class, ModelErrorClass::Malformed | ModelErrorClass::Empty) =>
        {
            Ok(again(state.blanks))
        }
        Err(error) => Err(error),
    }
}

/// The turn is closed with the results of its calls.
async fn settle(state: Arc<Talk>) -> Result<TalkUpdate, AgentError> {
    let reply = state.reply.clone().unwrap();
    let Replied::Calls(mut turn) = state.conversation.clone().reply(reply) else { panic!("there are calls") };
    for (place, result) in &state.results {
        turn.settle(*place as usize, result.clone()).unwrap();
    }
    let turns = state.turn + 1;
    if turns >= Bounds::default().turns {
        return Err(AgentError::TurnLimit { turns });
    }
    let update = TalkUpdate::default().conversation(turn.close().unwrap()).results(BTreeMap::new());
    Ok(update.turn(turns).blanks(0).attempts(Bounds::default().attempts))
}

async fn conclude(state: Arc<Talk>) -> Result<TalkUpdate, AgentError> {
    let reply = state.reply.clone().unwrap();
    let text = reply.joined_text();
    let answer = if text.is_empty() { reply.refusal().unwrap_or_default().to_owned() } else { text };
    let Replied::Final(conversation) = state.conversation.clone().reply(reply) else { panic!("there is no call") };
    Ok(TalkUpdate::default().conversation(conversation).answer(Some(answer)))
}

fn drawn(model: FnModel, toolbox: Toolbox) -> Graph<Talk> {
    let (model, tools) = (Arc::new(model), toolbox.clone());
    let think = move |state: Arc<Talk>, cx: RunContext| think(model.clone(), tools.clone(), state, cx);
    let result = |place, result| TalkUpdate::default().results(BTreeMap::from([(place, result)]));
    Graph::builder("desk")
        .node(node("think", think).may_go_to(["think"]))
        .node(calls(CALLS, toolbox, result))
        .node(node("settle", settle))
        .node(node("conclude", conclude))
        .edge(START, "think")
        .route("think", [CALLS.name(), "conclude"], |state: &Talk| {
            let calls = state.reply.iter().flat_map(|reply| (0..).zip(reply.each_call().cloned()));
            let calls: Vec<_> = calls.map(|call| CALLS.with(call)).collect();
            if calls.is_empty() { Goto::from("conclude") } else { calls.into() }
        })
        .chain([CALLS.name(), "settle", "think"])
        .edge("conclude", END)
        .build()
        .unwrap()
}

/// What a model does in one answer: text, calls of these functions, or some failure.
#[derive(Debug, Clone)]
enum Answer {
    Text,
    Refusal,
    Empty,
    CutShort,
    Calls(Vec<(&'static str, &'static str)>),
    Fails(ModelErrorClass),
    FailsLate,
    Panics,
}

fn answer() -> impl Strategy<Value = Answer> {
    let pick = |list: &'static [&'static str]| (0..list.len()).prop_map(move |at| list[at]);
    let names = &["echo", "echo", "tell", "panic", "hang", "huge", "wait", "pay", "child", "survey", "ghost"];
    let arguments = &["{\"n\": 1}", "{\"n\": 1}", "{\"request\": \"go\"}", "{", "7", ""];
    let calls = proptest::collection::vec((pick(names), pick(arguments)), 1..5);
    let class = prop_oneof![
        Just(ModelErrorClass::Malformed),
        Just(ModelErrorClass::Empty),
        Just(ModelErrorClass::RateLimited),
        Just(ModelErrorClass::ContentPolicy)
    ];
    prop_oneof![
        2 => Just(Answer::Text),
        1 => Just(Answer::Refusal),
        1 => Just(Answer::Empty),
        1 => Just(Answer::CutShort),
        9 => calls.prop_map(Answer::Calls),
        1 => class.prop_map(Answer::Fails),
        1 => Just(Answer::FailsLate),
        1 => Just(Answer::Panics),
    ]
}

/// The answers one after the other, then an end.
fn model(answers: Vec<Answer>) -> FnModel {
    let next = AtomicUsize::new(0);
    FnModel::new(move |_| {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let call = |slot: usize, (name, arguments): &(&str, &str)| {
            let unique =
                arguments.replace('1', &(10 * at + slot + 100).to_string()).replace("go", &format!("go {at}.{slot}"));
            Call::from_text(*name, unique)
        };
        match answers.get(at) {
            None | Some(Answer::Text) => Line::text("so be it"),
            Some(Answer::Refusal) => Line::refusal("I will not"),
            Some(Answer::Empty) => Line::silence().then_finish(FinishReason::Stop),
            Some(Answer::CutShort) => {
                Line::silence().then(Chunk::Reasoning("hm".into())).then_finish(FinishReason::Length)
            }
            Some(Answer::Calls(wanted)) => Line::calls(wanted.iter().enumerate().map(|(slot, one)| call(slot, one))),
            Some(Answer::Fails(class)) => Line::fails(*class),
            Some(Answer::FailsLate) => Line::silence().then_text("I am").then_fails(ModelErrorClass::Stalled),
            Some(Answer::Panics) => Line::silence().then_panics(),
        }
    })
}

fn tools() -> Vec<RecordingTool> {
    let tool = |name: &str| {
        RecordingTool::new(name).with_spec(|mut spec| {
            let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
            spec.input = agent_core::Schema::from_value(schema).unwrap();
            spec.with_effect(Effect::AtMostOnce)
        })
    };
    vec![
        tool("echo").returning_after_polls(2, json!({"n": 1})),
        tool("tell").telling("not today"),
        tool("panic").panicking(),
        tool("hang").hanging(),
        tool("huge").returning(Value::from("x".repeat(300 * 1024))),
        tool("wait").waiting(PendingKind::question("Which?")),
        tool("pay").needing_approval(),
    ]
}

fn child() -> RecordingAgent {
    RecordingAgent::new("child", [])
}

fn survey() -> RecordingAgent {
    RecordingAgent::new("survey", [("how", PendingKind::question("How was it?"))])
}

/// What a run came to and told, for comparison.
#[derive(Debug, PartialEq)]
struct Seen {
    ended: Result<(String, Conversation), String>,
    spent: Spend,
    /// What was told of models, in order; of calls; and of what waits.
    told: [Vec<String>; 2],
}

/// What concerns models and calls of what was told in one life, without the places, which differ.
fn noted(events: Vec<Event>, told: &mut [Vec<String>; 2]) {
    let mut kinds: [Vec<Event>; 2] = Default::default();
    for event in events {
        match &event.kind {
            EventKind::ModelStarted { .. }
            | EventKind::Delta { .. }
            | EventKind::ModelFinished(_)
            | EventKind::ModelFailed(_) => {
                kinds[0].push(event);
            }
            EventKind::CallStarted { .. }
            | EventKind::CallFinished { .. }
            | EventKind::PolicyDecided { .. }
            | EventKind::Waiting { .. }
            | EventKind::Answered { .. } => kinds[1].push(event),
            _ => {}
        }
    }
    for (told, events) in told.iter_mut().zip(kinds) {
        told.extend(story(events).into_iter().map(|line| line.split_once(' ').unwrap().1.to_owned()));
    }
}

/// Goes on with everything that waits.
fn answers(state: &RunState) -> Resume {
    let state: RunState = elsewhere(state);
    state.pending().iter().fold(Resume::new(state.clone(), somebody("acme", "sam")), |resume, pending| {
        let value = match &pending.kind {
            PendingKind::Approval { .. } => AnswerValue::Approve,
            _ => AnswerValue::Value(json!("the second")),
        };
        resume.with_answer(&pending.id, value)
    })
}

async fn as_main_agent(script: Vec<Answer>) -> Seen {
    let bounds = Bounds::default().with_identical_calls(u32::MAX);
    let desk = MainAgent::builder("desk", model(script)).bounds(bounds).sub_agent(child()).sub_agent(survey());
    let desk = tools().into_iter().fold(desk, agent_core::MainAgentBuilder::tool).build().unwrap();
    let mut told = Default::default();
    let mut state = None;
    loop {
        let recorder = Recorder::new();
        let options = RunOptions::default().with_observer(recorder.clone());
        let outcome = match &state {
            None => desk.run(Request::new("Go").with_options(options), caller()).await,
            Some(state) => desk.resume(answers(state).with_options(options)).await,
        };
        noted(recorder.events(), &mut told);
        let (ended, spent) = match outcome {
            Ok(RunOutcome::Suspended(suspended)) => {
                state = Some(suspended.state);
                continue;
            }
            Ok(RunOutcome::Completed(report)) => {
                (Ok((report.output.as_str().unwrap().to_owned(), report.conversation)), report.spent)
            }
            Err(failure) => (Err(failure.code().to_string()), failure.spent),
        };
        return Seen { ended, spent, told };
    }
}

async fn as_graph(script: Vec<Answer>) -> Seen {
    let toolbox = tools().into_iter().fold(Toolbox::new(), Toolbox::tool).sub_agent(child()).sub_agent(survey());
    let graph = drawn(model(script), toolbox);
    let mut told = Default::default();
    let mut state = None;
    loop {
        let recorder = Recorder::new();
        let options = RunOptions::default().with_observer(recorder.clone());
        let outcome = match &state {
            None => {
                let conversation = Conversation::new().say("Go");
                let talk = Talk { conversation, attempts: Bounds::default().attempts, ..Talk::default() };
                graph.run_with(talk, caller(), options).await
            }
            Some(state) => graph.resume(answers(state).with_options(options)).await,
        };
        noted(recorder.events(), &mut told);
        let (ended, spent) = match outcome {
            Ok(GraphOutcome::Suspended(suspended)) => {
                state = Some(*suspended);
                continue;
            }
            Ok(GraphOutcome::Completed(report)) => {
                (Ok((report.state.answer.unwrap(), report.state.conversation)), report.spent)
            }
            Err(failed) => (Err(failed.code().to_string()), failed.spent),
        };
        return Seen { ended, spent, told };
    }
}

fn cases() -> u32 {
    std::env::var("ADJUTANT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_loop_as_a_graph_does_and_tells_the_same(script in proptest::collection::vec(answer(), 1..8)) {
        prop_assert_eq!(paused(as_main_agent(script.clone())), paused(as_graph(script)));
    }
}
