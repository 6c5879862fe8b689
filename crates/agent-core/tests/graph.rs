//! Graphs: what they come to, whatever the order in which their nodes are done, and however often they are suspended.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent_core::graph::{
    Answered, Approved, Branch, END, Goto, Graph, GraphBuilder, GraphOutcome, InvalidGraph, Next, START, agent, branch,
    branch_graph, call, node, sub_graph,
};
use agent_core::{
    AgentError, AnswerValue, CallError, Caller, MainAgent, Resume, RunContext, RunOptions, RunState, graph_state,
    sub_agent,
};
use testkit::{Line, ScriptedModel};
use tokio_util::sync::CancellationToken;

graph_state! {
    #[derive(Debug, Default, PartialEq)]
    struct Work updated by WorkUpdate {
        items: Vec<u64> => replace,
        seen: Vec<String> => append,
        total: u64 => add,
        by_name: BTreeMap<String, u64> => merge,
        last: Option<String> => replace,
        largest: u64 => by(larger),
    }
}

fn larger(kept: &mut u64, other: u64) {
    *kept = other.max(*kept);
}

fn caller() -> Caller {
    Caller::new("acme", "ann").unwrap()
}

/// Somebody else, since nobody approves his own request.
fn boss() -> Caller {
    Caller::new("acme", "bob").unwrap()
}

fn seen(name: &str) -> WorkUpdate {
    WorkUpdate::default().seen(vec![name.to_owned()])
}

/// A node that notes that it ran.
fn noting(name: &'static str) -> agent_core::graph::Node<Work> {
    node(name, move |_: Arc<Work>| async move { Ok::<_, AgentError>(seen(name)) })
}

async fn finish(graph: &Graph<Work>, state: Work) -> Work {
    graph.run(state, caller()).await.unwrap().into_report().unwrap().state
}

/// A state as another process reads it.
fn stored(outcome: GraphOutcome<Work>) -> RunState {
    let saved = serde_json::to_string(&outcome.into_suspended().unwrap()).unwrap();
    serde_json::from_str(&saved).unwrap()
}

#[tokio::test]
async fn writes_are_taken_in_by_their_reducers_in_the_order_of_nodes() {
    // The first node is the slowest.
    let slow = |name: &'static str, wait: u64| {
        node(name, move |_: Arc<Work>| async move {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let by_name = BTreeMap::from([("same".to_owned(), wait)]);
            Ok::<_, AgentError>(seen(name).total(wait).by_name(by_name).largest(wait))
        })
    };
    let graph = Graph::builder("order")
        .node(slow("a", 9))
        .node(slow("b", 5))
        .node(slow("c", 1))
        .edge(START, "c")
        .edge(START, "b")
        .edge(START, "a")
        .edge("a", END)
        .edge("b", END)
        .edge("c", END);
    let state = finish(&graph.build().unwrap(), Work::default()).await;
    assert_eq!(state.seen, ["a", "b", "c"]);
    assert_eq!((state.total, state.largest), (15, 9));
    assert_eq!(state.by_name, BTreeMap::from([("same".to_owned(), 1)]));
}

const SQUARE: Branch<u64> = Branch::new("square");

async fn square(item: u64) -> Result<WorkUpdate, AgentError> {
    tokio::task::yield_now().await;
    Ok(WorkUpdate::default().total(item * item).seen(vec![item.to_string()]))
}

fn squares() -> GraphBuilder<Work> {
    Graph::builder("squares")
        .node(branch(SQUARE, square).concurrency(2))
        .node(noting("reduce"))
        .route(START, [SQUARE.name(), "reduce"], |state: &Work| {
            let tasks: Goto = state.items.iter().map(|item| SQUARE.with(*item)).collect();
            if state.items.is_empty() { Goto::from("reduce") } else { tasks }
        })
        .chain(["square", "reduce", END])
}

#[tokio::test]
async fn a_branch_runs_once_for_each_task_and_what_follows_once() {
    let graph = squares().build().unwrap();
    let state = finish(&graph, Work { items: (1..=5).collect(), ..Work::default() }).await;
    assert_eq!(state.total, 55);
    assert_eq!(state.seen, ["1", "2", "3", "4", "5", "reduce"]);
    assert_eq!(finish(&graph, Work::default()).await.seen, ["reduce"]);
}

#[tokio::test]
async fn joins_wait_for_all_and_deferred_nodes_for_everything() {
    let graph = Graph::builder("joins")
        .node(noting("short"))
        .node(noting("long"))
        .node(noting("longer"))
        .node(noting("joined"))
        .node(noting("last").deferred())
        .edge(START, "short")
        .chain([START, "long", "longer"])
        .edge(START, "last")
        .join(["short", "longer"], "joined")
        .edge("joined", END)
        .edge("last", END);
    let state = finish(&graph.build().unwrap(), Work::default()).await;
    assert_eq!(state.seen, ["short", "long", "longer", "joined", "last"]);
}

#[tokio::test]
async fn a_cycle_ends_by_its_route_or_at_the_limit() {
    let count = async |_: Arc<Work>| Ok::<_, AgentError>(WorkUpdate::default().total(1));
    let cycle = |end: u64| {
        let choose = move |state: &Work| if state.total < end { "count" } else { END };
        Graph::builder("cycle").node(node("count", count)).edge(START, "count").route("count", ["count", END], choose)
    };
    assert_eq!(finish(&cycle(7).build().unwrap(), Work::default()).await.total, 7);
    let failed = cycle(u64::MAX).steps(50).build().unwrap().run(Work::default(), caller()).await.unwrap_err();
    assert_eq!((failed.code().as_str(), &*failed.to_string()), ("graph.step_limit", "no end after 50 steps"));
}

#[tokio::test]
async fn a_node_goes_only_where_it_declared() {
    let jump = async |state: Arc<Work>| {
        let to = state.last.clone().unwrap_or_default();
        Ok::<_, AgentError>(Next::update(seen("jump")).and_goto(to))
    };
    let graph = Graph::builder("jumps")
        .node(node("jump", jump).may_go_to(["there", END]))
        .node(noting("there"))
        .node(noting("elsewhere"))
        .edge(START, "jump")
        .edge("jump", "elsewhere")
        .edge("there", END)
        .edge("elsewhere", END)
        .build()
        .unwrap();
    let to = |name: &str| Work { last: Some(name.to_owned()), ..Work::default() };
    assert_eq!(finish(&graph, to("there")).await.seen, ["jump", "there"]);
    assert_eq!(finish(&graph, to(END)).await.seen, ["jump"]);
    let failed = graph.run(to("elsewhere"), caller()).await.unwrap_err();
    assert_eq!(failed.to_string(), "`jump` went to `elsewhere`, which it had not declared");
}

#[tokio::test]
async fn two_writes_that_cannot_both_count_are_an_error() {
    let write = |name: &'static str| {
        node(
            name,
            move |_: Arc<Work>| async move { Ok::<_, AgentError>(WorkUpdate::default().last(Some(name.to_owned()))) },
        )
    };
    let graph = Graph::builder("conflict").node(write("a")).node(write("b").writes(["total"]));
    let both = graph.edge(START, "a").edge(START, "b").edge("a", END).edge("b", END).build().unwrap();
    let failed = both.run(Work::default(), caller()).await.unwrap_err();
    assert_eq!(failed.to_string(), "`b` wrote `last`, which it had not declared");
    let graph = Graph::builder("conflict").node(write("a")).node(write("b"));
    let both = graph.edge(START, "a").edge(START, "b").edge("a", END).edge("b", END).build().unwrap();
    let failed = both.run(Work::default(), caller()).await.unwrap_err();
    assert_eq!(failed.to_string(), "`a` and `b` both replaced `last` in step 0");
}

/// A graph that asks twice in one step, beside a node that completes at once.
fn asking(runs: Arc<AtomicU32>) -> GraphBuilder<Work> {
    let counted = move |_: Arc<Work>| {
        let runs = runs.clone();
        async move {
            runs.fetch_add(1, Ordering::Relaxed);
            Ok::<_, AgentError>(seen("beside"))
        }
    };
    let ask = async |_: Arc<Work>| {
        Ok::<_, AgentError>(Next::update(seen("asked")).and_wait(Answered::<u64>::question("How many?")))
    };
    let told = async |answer: Answered<u64>, _: Arc<Work>| {
        Ok::<_, AgentError>(WorkUpdate::default().total(answer.value).seen(vec!["told".into()]))
    };
    let approve = async |_: Arc<Work>| Ok::<_, AgentError>(Next::wait(Approved::request("pay", 429, "it is much")));
    let approved = async |by: Approved, _: Arc<Work>| Ok::<_, AgentError>(seen(&format!("approved by {}", by.by.user)));
    Graph::builder("asking")
        .node(node("beside", counted))
        .node(node("ask", ask).answered(told))
        .node(node("approve", approve).answered(approved))
        .node(noting("after"))
        .edge(START, "beside")
        .edge(START, "ask")
        .edge(START, "approve")
        .join(["beside", "ask", "approve"], "after")
        .edge("after", END)
}

#[tokio::test]
async fn answers_go_to_handlers_and_nothing_runs_twice() {
    let runs = Arc::new(AtomicU32::new(0));
    let graph = asking(runs.clone()).build().unwrap();
    let state = stored(graph.run(Work::default(), caller()).await.unwrap());
    assert_eq!(state.pending().len(), 2);
    let [how_many, pay] = [0, 1].map(|index| state.pending()[index].id.clone());
    let wrong = Resume::new(state.clone(), boss()).with_answer(&how_many, AnswerValue::Value("many".into()));
    assert_eq!(graph.resume(wrong).await.unwrap_err().code().as_str(), "resume.invalid_value");
    let one = Resume::new(state, boss()).with_answer(&pay, AnswerValue::Approve);
    let state = stored(graph.resume(one).await.unwrap());
    assert_eq!(state.pending().iter().map(|pending| &pending.id).collect::<Vec<_>>(), [&how_many]);
    let again = Resume::new(state.clone(), boss()).with_answer(&pay, AnswerValue::Approve);
    assert_eq!(graph.resume(again).await.unwrap_err().code().as_str(), "resume.already_answered");
    let other = Resume::new(state, boss()).with_answer(&how_many, AnswerValue::Value(3.into()));
    let report = graph.resume(other).await.unwrap().into_report().unwrap();
    assert_eq!(report.state.seen, ["beside", "asked", "told", "approved by bob", "after"]);
    assert_eq!((report.state.total, runs.load(Ordering::Relaxed)), (3, 1));
}

#[tokio::test]
async fn a_refusal_fails_the_node_and_a_state_of_another_version_is_refused() {
    let graph = asking(Arc::default()).build().unwrap();
    let state = stored(graph.run(Work::default(), caller()).await.unwrap());
    let pay = state.pending()[1].id.clone();
    let own = Resume::new(state.clone(), caller()).with_answer(&pay, AnswerValue::Approve);
    assert_eq!(graph.resume(own).await.unwrap_err().code().as_str(), "resume.not_allowed");
    let denied = Resume::new(state.clone(), boss()).with_answer(&pay, AnswerValue::Deny("too much".into()));
    assert_eq!(graph.resume(denied.clone()).await.unwrap_err().to_string(), "not allowed: too much");
    let other = asking(Arc::default()).version("2".parse().unwrap()).build().unwrap();
    assert_eq!(other.resume(denied).await.unwrap_err().code().as_str(), "state.other_version");
}

#[tokio::test]
async fn sub_graphs_have_their_own_state_and_wait_through_their_parents() {
    let inner = asking(Arc::default()).build().unwrap();
    let back = |state: Work| WorkUpdate::default().total(state.total).seen(state.seen);
    const EACH: Branch<u64> = Branch::new("each");
    let graph = Graph::builder("outer")
        .node(sub_graph("squares", squares().build().unwrap(), |state: &Work| state.clone(), back))
        .node(branch_graph(EACH, inner, |_: u64| Work::default(), back))
        .edge(START, "squares")
        .route("squares", ["each"], |_: &Work| vec![EACH.with(1), EACH.with(2)])
        .edge("each", END)
        .build()
        .unwrap();
    let state = graph.run(Work { items: vec![2], ..Work::default() }, caller()).await.unwrap();
    let mut state = stored(state);
    assert_eq!(state.pending().len(), 4);
    let report = loop {
        let pending = &state.pending()[0];
        let value =
            if pending.kind.name() == "approval" { AnswerValue::Approve } else { AnswerValue::Value(10.into()) };
        let id = pending.id.clone();
        match graph.resume(Resume::new(state, boss()).with_answer(&id, value)).await.unwrap() {
            GraphOutcome::Completed(report) => break report,
            suspended => state = stored(suspended),
        }
    };
    assert_eq!(report.state.total, 24);
    assert_eq!(report.state.seen.len(), 2 + 2 * 5);
}

#[tokio::test]
async fn graphs_nest_as_deep_as_they_can_be_saved() {
    let around = |graph: Graph<Work>| {
        let back = |state: Work| WorkUpdate::default().total(state.total);
        Graph::builder("around")
            .node(sub_graph("below", graph, |_: &Work| Work::default(), back))
            .chain([START, "below", END])
    };
    let ask = async |_: Arc<Work>| Ok::<_, AgentError>(Next::wait(Answered::<u64>::question("How many?")));
    let told =
        async |answer: Answered<u64>, _: Arc<Work>| Ok::<_, AgentError>(WorkUpdate::default().total(answer.value));
    let asking =
        Graph::builder("asking").node(node("ask", ask).answered(told)).chain([START, "ask", END]).build().unwrap();
    let nested = (0..11).fold(asking, |graph, _| around(graph).build().unwrap());
    let state = stored(nested.run(Work::default(), caller()).await.unwrap());
    let how_many = state.pending()[0].id.clone();
    let resume = Resume::new(state, boss()).with_answer(&how_many, AnswerValue::Value(7.into()));
    assert_eq!(nested.resume(resume).await.unwrap().into_report().unwrap().state.total, 7);
    let refused = around(nested).build().unwrap_err();
    assert_eq!(refused.to_string(), "in `around` more than 12 graphs are within each other");
}

#[tokio::test]
async fn a_graph_is_a_sub_agent_and_an_agent_a_node() {
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Items {
        items: Vec<u64>,
    }
    let begin = |input: Items| Work { items: input.items, ..Work::default() };
    let squares = squares().build().unwrap().into_sub_agent("Adds squares", begin, |state: Work| state.total);
    let model = ScriptedModel::new([Line::call("squares", serde_json::json!({"items": [3, 4]})), Line::text("25")]);
    let desk = MainAgent::builder("desk", model).sub_agent(squares).build().unwrap();
    assert_eq!(desk.run("3 and 4?", caller()).await.unwrap().to_string(), "25");

    let double = sub_agent("double", "Doubles", async |input: Items| Ok::<_, CallError>(input.items[0] * 2));
    let into = |state: &Work| serde_json::json!({"items": state.items});
    let graph = Graph::builder("with_agent")
        .node(agent("double", double, into, |total: u64| WorkUpdate::default().total(total)))
        .chain([START, "double", END])
        .build()
        .unwrap();
    assert_eq!(finish(&graph, Work { items: vec![21], ..Work::default() }).await.total, 42);
}

#[tokio::test]
async fn retries_are_off_and_draw_on_the_runs_attempts() {
    let check = async |retries: u32, attempts: u32, expected: u32| {
        let runs = Arc::new(AtomicU32::new(0));
        let counted = runs.clone();
        let fail = move |_: Arc<Work>| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Err::<WorkUpdate, _>(AgentError::tell("not now")) }
        };
        let graph = Graph::builder("retries").attempts(attempts).node(node("fail", fail).retries(retries));
        let graph = graph.chain([START, "fail", END]).build().unwrap();
        assert_eq!(graph.run(Work::default(), caller()).await.unwrap_err().to_string(), "not now");
        assert_eq!(runs.load(Ordering::Relaxed), expected);
    };
    check(0, 9, 1).await;
    check(2, 9, 3).await;
    check(5, 2, 3).await;
    check(5, 0, 1).await;
}

#[tokio::test]
async fn what_asked_a_model_is_not_run_again() {
    let model = Arc::new(ScriptedModel::new([Line::text("one"), Line::text("two")]));
    let asked = model.clone();
    let ask = move |_: Arc<Work>, cx: RunContext| {
        let model = model.clone();
        async move {
            agent_core::complete(&*model, agent_core::ChatRequest::default(), &cx).await?;
            Err::<WorkUpdate, _>(AgentError::tell("not now"))
        }
    };
    let graph = Graph::builder("retries").attempts(9).node(node("ask", ask).retries(9)).chain([START, "ask", END]);
    let failed = graph.build().unwrap().run(Work::default(), caller()).await.unwrap_err();
    assert_eq!((failed.to_string().as_str(), asked.requests().len()), ("not now", 1));
}

#[tokio::test(start_paused = true)]
async fn times_of_agents_and_of_new_limits_hold() {
    let hanging = || MainAgent::builder("desk", ScriptedModel::new([(); 2].map(|()| Line::silence().then_hangs())));
    let limits = |seconds| agent_core::Limits::none().with_time(Duration::from_secs(seconds));
    let note = |said: String| WorkUpdate::default().seen(vec![said]);
    let into = |_: &Work| serde_json::json!({"request": "hello"});
    let graph = |desk: agent_core::MainAgentBuilder| {
        let ask = agent("ask", desk.build().unwrap(), into, note);
        Graph::builder("timed").limits(limits(20)).node(ask).chain([START, "ask", END]).build().unwrap()
    };
    let failed = graph(hanging().limits(limits(5))).run(Work::default(), caller()).await.unwrap_err();
    assert_eq!(failed.to_string(), "`ask` took too long");

    // Twenty seconds are over; of thirty there are ten.
    let graph = graph(hanging());
    let failed = graph.run(Work::default(), caller()).await.unwrap_err();
    assert_eq!(failed.code().as_str(), "run.deadline");
    let began = tokio::time::Instant::now();
    let longer = RunOptions::default().with_limits(limits(30));
    let resume = Resume::new(failed.state.unwrap(), boss()).with_options(longer);
    assert_eq!(graph.resume(resume).await.unwrap_err().code().as_str(), "run.deadline");
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn an_agents_own_wait_is_told_with_its_answer() {
    let survey = testkit::RecordingAgent::new("survey", [("how", agent_core::PendingKind::question("How was it?"))]);
    let heard = |heard: serde_json::Value| seen(&heard.to_string());
    let ask = agent("ask", survey, |_: &Work| serde_json::json!({}), heard);
    let graph = Graph::builder("telling").node(ask).chain([START, "ask", END]).build().unwrap();
    let recorder = testkit::Recorder::new();
    let options = || RunOptions::default().with_observer(recorder.clone());
    let state = stored(graph.run_with(Work::default(), caller(), options()).await.unwrap());
    let how = state.pending()[0].id.clone();
    let resume = Resume::new(state, boss()).with_answer(&how, AnswerValue::Value("well".into()));
    graph.resume(resume.with_options(options())).await.unwrap().into_report().unwrap();
    let told = testkit::story(recorder.events());
    let of_wait = |line: &&String| line.contains("waits") || line.contains("answered");
    let told: Vec<_> = told.iter().filter(of_wait).collect();
    assert_eq!(told, ["/0.0 waits: how question", "/0.0 answered how with value"]);
}

#[tokio::test]
async fn a_graph_keeps_the_rules_of_sub_agents() {
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Items {
        items: Vec<u64>,
    }
    let make = || {
        let into = |input: Items| Work { items: input.items, ..Work::default() };
        asking(Arc::default()).build().unwrap().into_sub_agent("Asks", into, |state: Work| state.seen)
    };
    testkit::conformance::sub_agent_from(make, serde_json::json!({"items": [1]})).await;
}

#[tokio::test]
async fn a_failure_keeps_what_is_done_and_goes_on_from_there() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let fail_once = move |_: Arc<Work>| {
        let before = counted.fetch_add(1, Ordering::Relaxed);
        async move { if before == 0 { Err(AgentError::tell("not now")) } else { Ok(seen("mended")) } }
    };
    let graph = Graph::builder("failing").node(noting("fine")).node(node("fail", fail_once));
    let graph = graph.edge(START, "fine").edge(START, "fail").edge("fine", END).edge("fail", END).build().unwrap();
    let failed = graph.run(Work::default(), caller()).await.unwrap_err();
    let report = graph.resume(Resume::new(failed.state.unwrap(), boss())).await.unwrap().into_report().unwrap();
    assert_eq!(report.state.seen, ["fine", "mended"]);
    assert_eq!(runs.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn timeouts_panics_and_stops_are_told_apart() {
    let hang = |_: Arc<Work>| async { std::future::pending::<Result<WorkUpdate, AgentError>>().await };
    let hanging = |timeout: Option<u64>| {
        let mut hang = node("hang", hang);
        if let Some(timeout) = timeout {
            hang = hang.timeout(Duration::from_millis(timeout));
        }
        Graph::builder("hanging").node(hang).chain([START, "hang", END]).build().unwrap()
    };
    let failed = hanging(Some(5)).run(Work::default(), caller()).await.unwrap_err();
    assert_eq!(failed.to_string(), "`hang` took too long");
    let options = RunOptions::default().with_deadline(tokio::time::Instant::now() + Duration::from_secs(1));
    let failed = hanging(None).run_with(Work::default(), caller(), options).await.unwrap_err();
    assert_eq!(failed.code().as_str(), "run.deadline");
    assert!(failed.state.unwrap().is_runnable());
    let panics = node("panics", async |_: Arc<Work>, _: RunContext| {
        let never: Result<WorkUpdate, AgentError> = Ok(WorkUpdate::default());
        assert!(never.is_err(), "on purpose");
        never
    });
    let graph = Graph::builder("panicking").node(panics).chain([START, "panics", END]).build().unwrap();
    assert_eq!(graph.run(Work::default(), caller()).await.unwrap_err().code().as_str(), "run.panicked");
}

#[test]
fn what_is_wrong_with_a_graph_is_told_when_it_is_built() {
    #[track_caller]
    fn check(graph: GraphBuilder<Work>, expected: &str) {
        let found: InvalidGraph = graph.build().unwrap_err();
        assert_eq!(found.to_string(), expected);
    }
    let graph = || Graph::builder("graph").node(noting("a")).node(noting("b"));
    let whole = || graph().chain([START, "a", "b", END]);
    check(whole().node(noting("a")), "there are two nodes `a`");
    check(whole().node(noting("end")), "a node cannot be named `end`");
    check(whole().edge("a", "c"), "the edge from `a` to `c` names the node `c`, which is none; the nodes are: a, b");
    check(whole().edge("c", "a"), "the edge from `c` to `a` names the node `c`, which is none; the nodes are: a, b");
    check(graph(), "nothing leads from the start");
    check(graph().chain([START, "a", END]).edge("b", END), "no way leads from the start to `b`");
    check(graph().chain([START, "a", END]).edge("a", "b"), "no way leads from `b` to the end");
    check(whole().join(["a"], "b"), "the join before `b` waits for fewer than two different nodes");
    check(whole().in_flight(0), "`graph` has a limit of zero");
    check(
        whole().node(noting("c").writes(["nothing"])).chain(["a", "c", END]),
        "the node `c` writes `nothing`, which is no field; the fields are: items, seen, total, by_name, last, largest",
    );
    check(
        whole().node(branch(SQUARE, square)).chain(["a", "square", END]),
        "the edge from `a` to `square` leads to the branch `square`, which runs only for a task that a route or a node gives it",
    );
    check(
        whole().route("a", ["c"], |_: &Work| "c"),
        "the route from `a` names the node `c`, which is none; the nodes are: a, b",
    );
    check(whole().join(["a", "b"], "c"), "the join before `c` names the node `c`, which is none; the nodes are: a, b");
    check(
        whole().node(noting("c").may_go_to(["d"])).chain(["a", "c", END]),
        "the node `c` names the node `d`, which is none; the nodes are: a, b, c",
    );
    check(
        whole().node(branch(SQUARE, square).deferred()).route("a", ["square"], |_: &Work| SQUARE.with(1)),
        "`square` is deferred, and runs for no tasks",
    );
    check(whole().node(noting("c").concurrency(0)).chain(["a", "c", END]), "`c` has a limit of zero");
    let nameless = testkit::RecordingTool::new("no name");
    let back = |_: Result<u64, agent_core::CallFailure>| Ok::<_, AgentError>(());
    check(
        whole().node(call("c", nameless, |_: &Work| serde_json::json!({}), back)).chain(["a", "c", END]),
        "`c` calls what cannot be called: name is \"no name\", expected 1 to 64 letters, digits, `_` or `-`",
    );
    let writer = |name: &'static str| noting(name).writes(["last"]);
    let parallel = Graph::builder("graph").node(writer("a")).node(writer("b")).node(writer("c"));
    let parallel = parallel.edge(START, "a").edge("a", "b").edge("a", "c").edge("b", END).edge("c", END);
    check(parallel, "`b` and `c` run in one step and both replace `last`");
}

#[test]
fn a_graph_can_be_drawn() {
    let graph = asking(Arc::default()).build().unwrap();
    let expected = "flowchart TD\n    after --> end([end])\n    start([start]) --> beside\n    start([start]) --> ask\n    start([start]) --> approve\n    beside ==> after\n    ask ==> after\n    approve ==> after\n";
    assert_eq!(graph.to_mermaid(), expected);
}

#[tokio::test]
async fn a_run_that_is_stopped_or_drained_goes_on_where_it_was() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let model = ScriptedModel::new([Line::text("one"), Line::silence().then_hangs(), Line::text("two")]);
    let desk = |model: ScriptedModel| MainAgent::builder("desk", model).build().unwrap();
    let count = move |_: Arc<Work>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, AgentError>(seen("beside")) }
    };
    let note = |said: String| WorkUpdate::default().seen(vec![said]);
    let desk = desk(model);
    let graph = Graph::builder("stopping")
        .node(agent("first", desk.clone(), |_: &Work| serde_json::json!({"request": "hello"}), note))
        .node(agent("second", desk, |_: &Work| serde_json::json!({"request": "hello again"}), note))
        .node(node("beside", count))
        .chain([START, "first", "second", END])
        .edge("first", "beside")
        .edge("beside", END)
        .build()
        .unwrap();
    let stop = CancellationToken::new();
    let options = RunOptions::default().with_cancellation(stop.clone());
    let stopping = async {
        while runs.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(graph.run_with(Work::default(), caller(), options), stopping);
    let failed = ended.unwrap_err();
    assert_eq!(failed.code().as_str(), "run.cancelled");
    let state: RunState = serde_json::from_str(&serde_json::to_string(&failed.state.unwrap()).unwrap()).unwrap();
    let drain = CancellationToken::new();
    drain.cancel();
    let drained = graph.resume(Resume::new(state, boss()).with_options(RunOptions::default().with_drain(drain))).await;
    let state = stored(drained.unwrap());
    assert!(state.is_runnable());
    let report = graph.resume(Resume::new(state, boss())).await.unwrap().into_report().unwrap();
    assert_eq!(report.state.seen, ["one", "two", "beside"]);
    assert_eq!((runs.load(Ordering::Relaxed), report.spent.model_calls), (1, 3));
}
