//! Graphs at their limits: many tasks, budgets, edited states, work below that is stopped, observers that fail.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent_core::graph::{
    Answered, Branch, END, Goto, Graph, GraphOutcome, Next, START, branch, branch_graph, call, node, sub_graph,
};
use agent_core::{
    AgentError, AnswerValue, CallFailure, Event, EventKind, Limits, Observer, Resume, RunOptions, RunState, graph_state,
};
use serde_json::{Value, json};
use testkit::{RecordingTool, caller, elsewhere, paused, somebody};
use tokio_util::sync::CancellationToken;

graph_state! {
    #[derive(Debug, Default, PartialEq)]
    struct Work updated by WorkUpdate {
        seen: Vec<u64> => append,
        failed: Vec<String> => append,
        total: u64 => add,
    }
}

const EACH: Branch<u64> = Branch::new("each");

fn sam() -> agent_core::Caller {
    somebody("acme", "sam")
}

fn suspended(outcome: GraphOutcome<Work>) -> RunState {
    elsewhere(&outcome.into_suspended().unwrap())
}

fn done(outcome: GraphOutcome<Work>) -> Work {
    outcome.into_report().unwrap().state
}

/// A graph that gives so many tasks to a branch.
fn many(tasks: u64, runs: &Arc<AtomicU32>) -> Graph<Work> {
    let runs = runs.clone();
    let work = move |input: u64| {
        let runs = runs.clone();
        async move {
            tokio::task::yield_now().await;
            runs.fetch_add(1, Ordering::Relaxed);
            Ok::<_, AgentError>(WorkUpdate::default().seen(vec![input]).total(input))
        }
    };
    Graph::builder("many")
        .node(branch(EACH, work))
        .route(START, ["each"], move |_: &Work| (0..tasks).map(|task| EACH.with(task)).collect::<Goto>())
        .edge("each", END)
        .build()
        .unwrap()
}

#[test]
fn ten_thousand_tasks_are_taken_in_in_their_order() {
    let state = done(paused(many(10_000, &Arc::default()).run(Work::default(), caller())).unwrap());
    assert_eq!(state.seen, (0..10_000).collect::<Vec<_>>());
}

/// Ends a life after some nodes.
struct After(AtomicU32, CancellationToken);

impl Observer for After {
    fn observe(&self, event: &Event) {
        if matches!(event.kind, EventKind::NodeFinished { .. }) && self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1.cancel();
        }
    }
}

#[test]
fn a_step_that_is_drained_in_the_middle_goes_on_with_the_rest() {
    let runs = Arc::default();
    let graph = many(1_000, &runs);
    let drain = CancellationToken::new();
    let options = RunOptions::default().with_observer(After(300.into(), drain.clone())).with_drain(drain);
    let state = suspended(paused(graph.run_with(Work::default(), caller(), options)).unwrap());
    assert!(state.is_runnable() && (300..1_000).contains(&runs.load(Ordering::Relaxed)));
    let state = done(paused(graph.resume(Resume::new(state, sam()))).unwrap());
    assert_eq!((state.total, runs.load(Ordering::Relaxed)), (999 * 500, 1_000));
}

#[test]
fn equal_waits_of_tasks_are_answered_apart() {
    let ask = async |_: u64| Ok::<_, AgentError>(Next::wait(Answered::<u64>::question("How many?")));
    let told =
        async |answer: Answered<u64>, _: Arc<Work>| Ok::<_, AgentError>(WorkUpdate::default().seen(vec![answer.value]));
    let graph = Graph::builder("asking")
        .node(branch(EACH, ask).answered(told))
        .route(START, ["each"], |_: &Work| vec![EACH.with(0), EACH.with(1), EACH.with(2)])
        .edge("each", END)
        .build()
        .unwrap();
    let state = suspended(paused(graph.run(Work::default(), caller())).unwrap());
    let ids: Vec<_> = state.pending().iter().map(|pending| pending.id.clone()).collect();
    assert_eq!(ids.len(), 3);
    let state = suspended(
        paused(graph.resume(Resume::new(state, sam()).with_answer(&ids[2], AnswerValue::Value(3.into())))).unwrap(),
    );
    let rest = Resume::new(state, sam())
        .with_answer(&ids[0], AnswerValue::Value(1.into()))
        .with_answer(&ids[1], AnswerValue::Value(2.into()));
    assert_eq!(done(paused(graph.resume(rest)).unwrap()).seen, [1, 2, 3]);
}

fn back(result: Result<Value, CallFailure>) -> Result<WorkUpdate, AgentError> {
    Ok(match result {
        Ok(_) => WorkUpdate::default().total(1),
        Err(failure) => WorkUpdate::default().failed(vec![failure.code.to_string()]),
    })
}

#[test]
fn calls_stay_within_the_budget() {
    let tool = RecordingTool::new("pay");
    let pay = |name: &'static str| call(name, tool.clone(), |_: &Work| json!({}), back);
    let graph = Graph::builder("budget").limits(Limits::none().with_tool_calls(2));
    let graph = graph.node(pay("a")).node(pay("b")).node(pay("c")).chain([START, "a", "b", "c", END]).build().unwrap();
    let state = done(paused(graph.run(Work::default(), caller())).unwrap());
    assert_eq!((state.total, state.failed, tool.inputs().len()), (2, vec!["budget.exceeded".to_owned()], 2));
}

/// A tool within a graph within a branch.
fn deep(tool: RecordingTool) -> Graph<Work> {
    let pay = call("pay", tool, |state: &Work| json!({ "n": state.total }), back);
    let inner = Graph::builder("inner").node(pay).chain([START, "pay", END]).build().unwrap();
    let up = |state: Work| WorkUpdate::default().total(state.total).failed(state.failed);
    let middle = sub_graph("inner", inner, |state: &Work| state.clone(), up);
    let middle = Graph::builder("middle").node(middle).chain([START, "inner", END]).build().unwrap();
    let up = |state: Work| WorkUpdate::default().seen(vec![state.total]).failed(state.failed);
    Graph::builder("deep")
        .node(branch_graph(EACH, middle, |input: u64| Work { total: input, ..Work::default() }, up))
        .route(START, ["each"], |_: &Work| vec![EACH.with(10), EACH.with(20)])
        .edge("each", END)
        .build()
        .unwrap()
}

#[test]
fn a_call_deep_below_waits_for_approval_and_is_made_once() {
    let tool = RecordingTool::new("pay").needing_approval();
    let graph = deep(tool.clone());
    let state = suspended(paused(graph.run(Work::default(), caller())).unwrap());
    let [first, second] = [0, 1].map(|at| state.pending()[at].id.clone());
    let wrong = Resume::new(state.clone(), sam()).with_answer(&first, AnswerValue::Value(json!("yes")));
    assert_eq!(paused(graph.resume(wrong)).unwrap_err().code().as_str(), "resume.wrong_kind");
    let own = Resume::new(state.clone(), caller()).with_answer(&first, AnswerValue::Approve);
    assert_eq!(paused(graph.resume(own)).unwrap_err().code().as_str(), "resume.not_allowed");
    let one = Resume::new(state, sam()).with_answer(&first, AnswerValue::Deny("no".to_owned()));
    let state = suspended(paused(graph.resume(one)).unwrap());
    let other = Resume::new(state, sam()).with_answer(&second, AnswerValue::Approve);
    let state = done(paused(graph.resume(other)).unwrap());
    assert_eq!((state.seen, state.failed), (vec![20, 41], vec!["call.denied".to_owned()]));
    assert_eq!(tool.inputs(), [json!({"n": 20})]);
}

#[test]
fn a_call_deep_below_that_is_stopped_asks_whether_it_happened() {
    let tool = RecordingTool::new("pay").hanging();
    let graph = deep(tool.clone());
    let state: RunState = paused(async {
        let stop = CancellationToken::new();
        let running = graph.run_with(Work::default(), caller(), RunOptions::default().with_cancellation(stop.clone()));
        let stopping = async {
            while tool.inputs().len() < 2 {
                tokio::task::yield_now().await;
            }
            stop.cancel();
        };
        elsewhere(&tokio::join!(running, stopping).0.unwrap_err().state.unwrap())
    });
    let asked = suspended(paused(graph.resume(Resume::new(state, caller()))).unwrap());
    assert_eq!(asked.pending().iter().map(|pending| pending.kind.name()).collect::<Vec<_>>(), ["unknown_outcome"; 2]);
    let answers = asked.pending().iter().fold(Resume::new(asked.clone(), sam()), |resume, pending| {
        resume.with_answer(&pending.id, AnswerValue::Value(json!("paid")))
    });
    assert_eq!(done(paused(graph.resume(answers)).unwrap()).seen, [21, 41]);
    assert_eq!(tool.inputs().len(), 2);
}

#[test]
fn a_node_that_is_out_of_time_keeps_what_its_call_began() {
    let tool = RecordingTool::new("pay").hanging();
    let pay = call("pay", tool.clone(), |_: &Work| json!({}), back).timeout(Duration::from_secs(1)).retries(5);
    let graph = Graph::builder("late").attempts(5).node(pay).chain([START, "pay", END]).build().unwrap();
    let failed = paused(graph.run(Work::default(), caller())).unwrap_err();
    assert_eq!((failed.to_string().as_str(), tool.inputs().len()), ("`pay` took too long", 1));
    let asked = suspended(paused(graph.resume(Resume::new(elsewhere(&failed.state.unwrap()), caller()))).unwrap());
    assert_eq!(asked.pending()[0].kind.name(), "unknown_outcome");
}

#[test]
fn edited_states_are_refused() {
    let ask = async |_: Arc<Work>| Ok::<_, AgentError>(Next::wait(Answered::<u64>::question("How many?")));
    let told = async |_: Answered<u64>, _: Arc<Work>| Ok::<_, AgentError>(());
    let graph =
        Graph::builder("asking").node(node("ask", ask).answered(told)).chain([START, "ask", END]).build().unwrap();
    let state = serde_json::to_value(suspended(paused(graph.run(Work::default(), caller())).unwrap())).unwrap();
    let answered = |state: RunState| {
        let how_many = state.pending()[0].id.clone();
        Resume::new(state, sam()).with_answer(&how_many, AnswerValue::Value(1.into()))
    };
    let check = |change: fn(&mut Value), expected: &str| {
        let mut edited = state.clone();
        change(&mut edited["suspension"]["state"]["body"]);
        let edited: RunState = serde_json::from_value(edited).unwrap();
        assert_eq!(paused(graph.resume(answered(edited))).unwrap_err().code().as_str(), expected);
    };
    check(|body| body["tasks"][0]["node"] = json!("gone"), "state.unreadable");
    check(|body| body["step"] = json!("first"), "state.unreadable");
    check(|body| body["state"]["total"] = json!([]), "state.unreadable");
    check(|body| body["arrived"] = json!([["ask"]]), "state.unreadable");
    check(|body| *body = json!(null), "state.unreadable");
    check(
        |body| body["tasks"][0] = json!({"node": "ask", "ordinal": 0, "slot": "done", "update": {"totl": 1}}),
        "state.unreadable",
    );
    check(
        |body| {
            body["tasks"][0] =
                json!({"node": "ask", "ordinal": 0, "slot": "done", "update": {}, "goto": [{"node": "ask"}]})
        },
        "state.unreadable",
    );
    // The graph of another name.
    let other =
        Graph::builder("other").node(node("ask", ask).answered(told)).chain([START, "ask", END]).build().unwrap();
    let state: RunState = serde_json::from_value(state).unwrap();
    assert_eq!(paused(other.resume(answered(state))).unwrap_err().code().as_str(), "state.other_agent");
}

struct Failing;

impl Observer for Failing {
    fn observe(&self, event: &Event) {
        assert!(!matches!(event.kind, EventKind::NodeFinished { .. }), "on purpose");
    }
}

#[test]
fn an_observer_that_panics_costs_no_run() {
    let options = RunOptions::default().with_observer(Failing);
    let ended = paused(many(3, &Arc::default()).run_with(Work::default(), caller(), options));
    assert_eq!(done(ended.unwrap()).seen, [0, 1, 2]);
}

#[test]
fn the_end_beside_nodes_ends_one_way() {
    let both = async |_: Arc<Work>| Ok::<_, AgentError>(Next::goto(Goto::from(END).and("on").and("on")));
    let on = async |_: Arc<Work>| Ok::<_, AgentError>(WorkUpdate::default().total(1));
    let graph = Graph::builder("ends").node(node("both", both).may_go_to(["on", END])).node(node("on", on));
    let graph = graph.edge(START, "both").edge("on", END).build().unwrap();
    assert_eq!(done(paused(graph.run(Work::default(), caller())).unwrap()).total, 1);
}
