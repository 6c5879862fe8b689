//! The saved form of graphs: every file here was written once and has to be read, resumed and written back for ever. See `golden.rs`.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;

use agent_core::graph::{
    Answered, Branch, END, Goto, Graph, Next, Node, START, agent, branch, branch_graph, call, node, sub_graph,
};
use agent_core::{
    AgentError, AnswerValue, CallFailure, Limits, PendingKind, Resume, RunOptions, RunState, Tokens, graph_state,
};
use serde_json::{Value, json};
use testkit::{RecordingAgent, RecordingTool, caller, paused, somebody};
use tokio_util::sync::CancellationToken;

graph_state! {
    #[derive(Debug, Default)]
    struct Notes updated by NotesUpdate {
        log: Vec<String> => append,
        last: Option<String> => replace,
    }
}

fn noted(line: impl Into<String>) -> NotesUpdate {
    NotesUpdate::default().log(vec![line.into()])
}

fn noting(name: &'static str) -> Node<Notes> {
    node(name, move |_: Arc<Notes>| async move { Ok::<_, AgentError>(noted(name)) })
}

/// Asks twice, and writes each time.
fn asking(name: &'static str) -> Node<Notes> {
    let ask = move |_: Arc<Notes>| async move {
        Ok::<_, AgentError>(Next::update(noted("asked")).and_wait(Answered::<String>::question("Which?")))
    };
    let answered = async |answer: Answered<String>, _: Arc<Notes>| {
        let next = Next::update(noted(answer.value.clone()));
        let again = answer.value == "first";
        Ok::<_, AgentError>(if again { next.and_wait(Answered::<String>::question("Which else?")) } else { next })
    };
    node(name, ask).answered(answered)
}

const EACH: Branch<u32> = Branch::new("each");
const BELOW: Branch<u32> = Branch::new("below");

/// A graph in which all that a task can be stands side by side.
fn graph() -> Graph<Notes> {
    let inner = || Graph::builder("inner").node(asking("ask")).chain([START, "ask", END]).build().unwrap();
    let survey = RecordingAgent::new("survey", [("how", PendingKind::question("How was it?"))])
        .with_card(|card| card.with_limits(Limits::none().with_tokens(Tokens(1_000))));
    let jump = async |_: Arc<Notes>| Ok::<_, AgentError>(Next::update(noted("jump")).and_goto("there"));
    let square = async |input: u32| Ok::<_, AgentError>(noted(format!("{}", input * input)));
    let paid = |paid: Result<Value, CallFailure>| Ok::<_, AgentError>(noted(format!("paid: {}", paid?)));
    let pay = RecordingTool::new("pay").needing_approval();
    let heard = |heard: Value| noted(format!("heard: {heard}"));
    let back = |state: Notes| NotesUpdate::default().log(state.log);
    let begins = ["plain", "jump", "ask", "sub", "survey", "pay", "last"];
    let graph = Graph::builder("golden")
        .version("3".parse().unwrap())
        .attempts(2)
        .node(noting("plain"))
        .node(node("jump", jump).may_go_to(["there"]))
        .node(asking("ask"))
        .node(sub_graph("sub", inner(), |_: &Notes| Notes::default(), back))
        .node(agent("survey", survey, |_: &Notes| json!({"request": "ask"}), heard))
        .node(call("pay", pay, |_: &Notes| json!({"amount": 4}), paid))
        .node(noting("there"))
        .node(noting("joined"))
        .node(branch(EACH, square))
        .node(branch_graph(BELOW, inner(), |_: u32| Notes::default(), back))
        .node(noting("last").deferred())
        .join(["plain", "there"], "joined")
        .route("joined", [EACH.name(), BELOW.name()], |_: &Notes| {
            Goto::from(EACH.with(3)).and(EACH.with(4)).and(BELOW.with(5))
        });
    let graph = begins.into_iter().fold(graph, |graph, begin| graph.edge(START, begin));
    let ends = ["ask", "sub", "survey", "pay", "each", "below", "last"];
    ends.into_iter().fold(graph, |graph, end| graph.edge(end, END)).build().unwrap()
}

fn answered(state: &RunState, only: impl Fn(&str) -> bool) -> Resume {
    let pending = state.pending().iter().filter(|pending| only(pending.kind.name()));
    pending.fold(Resume::new(state.clone(), somebody("acme", "sam")), |resume, pending| {
        let value = match &pending.kind {
            PendingKind::Approval { .. } => AnswerValue::Approve,
            PendingKind::Question { question, .. } if &**question == "Which?" => AnswerValue::Value(json!("first")),
            _ => AnswerValue::Value(json!("second")),
        };
        resume.with_answer(&pending.id, value)
    })
}

/// Reads the state in a file, checks that it is written back as it was, and goes on to the end.
#[track_caller]
fn check(name: &str, write: impl FnOnce() -> RunState, expected: &[&str]) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    if !file.exists() && std::env::var_os("ADJUTANT_WRITE_FIXTURES").is_some() {
        std::fs::write(&file, format!("{:#}\n", serde_json::to_value(write()).unwrap())).unwrap();
    }
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(&file).expect(name)).unwrap();
    let mut state: RunState = serde_json::from_value(saved.clone()).unwrap();
    assert_eq!(serde_json::to_value(&state).unwrap(), saved, "{name} is written back as it was");
    let state = loop {
        match paused(graph().resume(answered(&state, |_| true))).unwrap().into_report() {
            Ok(report) => break report.state,
            Err(suspended) => state = *suspended,
        }
    };
    assert_eq!(state.log, expected, "{name}");
}

fn begun(options: RunOptions) -> RunState {
    paused(graph().run_with(Notes::default(), caller(), options)).unwrap().into_suspended().unwrap()
}

fn resumed(resume: Resume) -> RunState {
    paused(graph().resume(resume)).unwrap().into_suspended().unwrap()
}

const FIRST_STEP: [&str; 9] =
    ["plain", "jump", "asked", "first", "second", "asked", "first", "second", "heard: {\"how\":\"second\"}"];

fn expected() -> Vec<&'static str> {
    let rest = ["paid: \"ok\"", "there", "joined", "9", "16", "asked", "first", "second", "last"];
    FIRST_STEP.into_iter().chain(rest).collect()
}

#[test]
fn everything_waits_side_by_side() {
    check("graph_run_state_v1_waiting.json", || begun(RunOptions::default()), &expected());
}

#[test]
fn some_answers_have_come() {
    let write = || resumed(answered(&begun(RunOptions::default()), |kind| kind == "question"));
    check("graph_run_state_v1_answered.json", write, &expected());
}

#[test]
fn nothing_has_begun() {
    let drained = || {
        let drain = CancellationToken::new();
        drain.cancel();
        RunOptions::default().with_drain(drain)
    };
    check("graph_run_state_v1_ready.json", || begun(drained()), &expected());
}

#[test]
fn branches_are_under_way() {
    let write = || {
        let mut state = begun(RunOptions::default());
        for _ in 0..2 {
            state = resumed(answered(&state, |_| true));
        }
        state
    };
    check("graph_run_state_v1_branches.json", write, &expected());
}
