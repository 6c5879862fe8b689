//! Tools as nodes of graphs, and what is told of a graph's run while it goes on.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::sync::Arc;

use agent_core::graph::{END, Graph, GraphBuilder, GraphOutcome, START, call, node};
use agent_core::{
    Action, AgentError, AnswerValue, CallFailure, CallResult, Decision, Journal, MemoryJournal, PendingKind, Policy,
    Resume, RunContext, RunOptions, RunState, Tool, async_trait, graph_state,
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use testkit::{RecordingTool, caller, elsewhere, paused, somebody, story};
use tokio_util::sync::CancellationToken;

graph_state! {
    #[derive(Debug, Default, PartialEq)]
    struct Payment updated by PaymentUpdate {
        amount: u32 => replace,
        paid: Option<Value> => replace,
        refused: Option<String> => replace,
    }
}

/// A graph that pays by calling this tool.
fn paying(tool: impl Tool + 'static) -> GraphBuilder<Payment> {
    let into = |state: &Payment| json!({ "amount": state.amount });
    let back = |paid: Result<Value, CallFailure>| {
        Ok::<_, AgentError>(match paid {
            Ok(paid) => PaymentUpdate::default().paid(Some(paid)),
            Err(failure) => PaymentUpdate::default().refused(Some(format!("{}: {}", failure.code, failure.message))),
        })
    };
    Graph::builder("paying").node(call("pay", tool, into, back)).chain([START, "pay", END])
}

fn amount() -> Payment {
    Payment { amount: 429, ..Payment::default() }
}

fn done(outcome: GraphOutcome<Payment>) -> Payment {
    outcome.into_report().unwrap().state
}

/// What waits, as another process reads it.
fn waiting(outcome: GraphOutcome<Payment>) -> RunState {
    elsewhere(&outcome.into_suspended().unwrap())
}

#[test]
fn a_tool_gets_its_arguments_and_gives_its_result() {
    let check = |tool: RecordingTool, expected: &str| {
        let graph = paying(tool.clone()).build().unwrap();
        let state = done(paused(graph.run(amount(), caller())).unwrap());
        let said = state.refused.or(state.paid.map(|paid| paid.to_string()));
        assert_eq!(said.as_deref(), Some(expected));
        tool
    };
    let pay = || RecordingTool::new("pay");
    assert_eq!(check(pay(), "\"ok\"").inputs(), [json!({"amount": 429})]);
    check(pay().telling("no such account"), "call.failed: no such account");
    check(pay().panicking(), "call.panicked: the function failed");
    check(pay().hanging(), "call.timeout: the function did not answer in time; whether it had an effect is unknown");
    let strict = json!({"type": "object", "properties": {"amount": {"type": "integer", "maximum": 100}}});
    let strict = agent_core::Schema::from_value(strict).unwrap();
    let unfit = check(
        pay().with_spec(|mut spec| {
            spec.input = strict;
            spec
        }),
        "call.invalid_arguments: the arguments do not fit the schema: at /amount: 429 is greater than the maximum of 100",
    );
    assert_eq!(unfit.inputs().len(), 0);
}

#[test]
fn a_failure_may_fail_the_node() {
    let back = |paid: Result<Value, CallFailure>| Ok::<_, AgentError>(PaymentUpdate::default().paid(Some(paid?)));
    let tool = RecordingTool::new("pay").telling("no such account");
    let graph = Graph::builder("strict").node(call("pay", tool, |_: &Payment| json!({}), back));
    let graph = graph.chain([START, "pay", END]).build().unwrap();
    let failed = paused(graph.run(amount(), caller())).unwrap_err();
    assert_eq!((failed.code().as_str(), &*failed.to_string()), ("call.failed", "no such account"));
}

#[test]
fn a_call_waits_for_who_has_to_agree() {
    let tool = RecordingTool::new("pay").needing_approval();
    let graph = paying(tool.clone()).build().unwrap();
    let resume = |state: &RunState, value: AnswerValue| {
        let resume = Resume::new(state.clone(), somebody("acme", "sam"));
        paused(graph.resume(resume.with_answer(&state.pending()[0].id, value))).unwrap()
    };
    let state = waiting(paused(graph.run(amount(), caller())).unwrap());
    let PendingKind::Approval { what, proposed, .. } = &state.pending()[0].kind else { panic!("it needs approval") };
    assert_eq!((&**what, &**proposed), ("pay", &json!({"amount": 429})));
    assert_eq!(tool.inputs().len(), 0);
    let refused = done(resume(&state, AnswerValue::Deny("too much".to_owned())));
    assert_eq!(refused.refused.as_deref(), Some("call.denied: not allowed: too much"));
    let paid = done(resume(&state, AnswerValue::ApproveWith(json!({"amount": 400}))));
    assert_eq!((paid.paid, tool.inputs()), (Some(json!("ok")), vec![json!({"amount": 400})]));

    let question = PendingKind::question("Which account?");
    let graph = paying(RecordingTool::new("pay").waiting(question)).build().unwrap();
    let state = waiting(paused(graph.run(amount(), caller())).unwrap());
    let answer =
        Resume::new(state.clone(), caller()).with_answer(&state.pending()[0].id, AnswerValue::Value("savings".into()));
    assert_eq!(done(paused(graph.resume(answer)).unwrap()).paid, Some(json!("savings")));
}

/// Denies what it is asked for, and lets nobody but the boss answer.
struct Strict;

#[async_trait]
impl Policy for Strict {
    async fn decide(&self, action: Action<'_>, _: &RunContext) -> Decision {
        match action {
            Action::Call { arguments, .. } if arguments["amount"] == 429 => Decision::Deny("too much".to_owned()),
            Action::Call { approved_by: [], .. } => Decision::Ask("it is money".to_owned()),
            _ => Decision::Allow,
        }
    }

    fn may_answer(&self, _: &agent_core::Pending, by: &agent_core::Caller) -> bool {
        by.user.as_str() == "boss"
    }
}

#[test]
fn the_graphs_policy_decides() {
    let tool = RecordingTool::new("pay");
    let graph = paying(tool.clone()).policy(Strict).build().unwrap();
    let denied = done(paused(graph.run(amount(), caller())).unwrap());
    assert_eq!(denied.refused.as_deref(), Some("call.denied: not allowed: too much"));
    let little = Payment { amount: 4, ..Payment::default() };
    let state = waiting(paused(graph.run(little, caller())).unwrap());
    let by = |user: &str| {
        let resume = Resume::new(state.clone(), somebody("acme", user));
        paused(graph.resume(resume.with_answer(&state.pending()[0].id, AnswerValue::Approve)))
    };
    assert_eq!(by("sam").unwrap_err().code().as_str(), "resume.not_allowed");
    assert_eq!((done(by("boss").unwrap()).paid, tool.inputs().len()), (Some(json!("ok")), 1));
}

/// Stops the run while the tool works, and gives what goes on from there.
fn stopped_while(tool: &RecordingTool, graph: &Graph<Payment>) -> RunState {
    paused(async {
        let stop = CancellationToken::new();
        let running = graph.run_with(amount(), caller(), RunOptions::default().with_cancellation(stop.clone()));
        let stopping = async {
            while tool.inputs().is_empty() {
                tokio::task::yield_now().await;
            }
            stop.cancel();
        };
        let (failed, ()) = tokio::join!(running, stopping);
        let failed = failed.unwrap_err();
        assert_eq!(failed.code().as_str(), "run.cancelled");
        elsewhere(&failed.state.unwrap())
    })
}

#[test]
fn a_call_that_was_stopped_is_made_again_only_if_that_does_no_harm() {
    // Nobody knows whether it happened, but a person.
    let tool = RecordingTool::new("pay").hanging();
    let graph = paying(tool.clone()).build().unwrap();
    let state = stopped_while(&tool, &graph);
    let asked = waiting(paused(graph.resume(Resume::new(state, caller()))).unwrap());
    assert_eq!(asked.pending()[0].kind.name(), "unknown_outcome");
    let it_did = Resume::new(asked.clone(), somebody("acme", "sam"))
        .with_answer(&asked.pending()[0].id, AnswerValue::Value(json!("paid")));
    assert_eq!(done(paused(graph.resume(it_did)).unwrap()).paid, Some(json!("paid")));
    assert_eq!(tool.inputs().len(), 1);

    // The tool itself knows.
    let tool = RecordingTool::new("pay").hanging().reconciling(CallResult::done(json!("was paid")));
    let graph = paying(tool.clone()).build().unwrap();
    let state = stopped_while(&tool, &graph);
    assert_eq!(done(paused(graph.resume(Resume::new(state, caller()))).unwrap()).paid, Some(json!("was paid")));

    // It does no harm.
    let tool = RecordingTool::new("pay").returning_after_polls(5, json!("ok"));
    let tool = tool.with_spec(|spec| spec.with_effect(agent_core::Effect::ReadOnly));
    let graph = paying(tool.clone()).build().unwrap();
    let state = stopped_while(&tool, &graph);
    assert_eq!(done(paused(graph.resume(Resume::new(state, caller()))).unwrap()).paid, Some(json!("ok")));
    assert_eq!(tool.inputs().len(), 2);
}

#[test]
fn copies_of_a_run_call_once() {
    let tool = RecordingTool::new("pay").needing_approval();
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::new());
    let graph = || paying(tool.clone()).journal(journal.clone()).build().unwrap();
    let state = waiting(paused(graph().run(amount(), caller())).unwrap());
    for _ in 0..2 {
        let resume = Resume::new(state.clone(), somebody("acme", "sam"));
        let resume = resume.with_answer(&state.pending()[0].id, AnswerValue::Approve);
        assert_eq!(done(paused(graph().resume(resume)).unwrap()).paid, Some(json!("ok")));
    }
    assert_eq!(tool.inputs().len(), 1);
}

#[test]
fn a_run_tells_what_it_does() {
    let note = node("note", async |_: Arc<Payment>, cx: RunContext| {
        cx.emit("noted", json!({"by": "note"}));
        Ok::<_, AgentError>(PaymentUpdate::default().amount(4))
    });
    let back = |paid: Result<Value, CallFailure>| Ok::<_, AgentError>(PaymentUpdate::default().paid(Some(paid?)));
    let pay = call("pay", RecordingTool::new("pay"), |state: &Payment| json!({"amount": state.amount}), back);
    let graph = Graph::builder("telling").node(note).node(pay).chain([START, "note", "pay", END]).tell_state();
    let graph = graph.build().unwrap();
    let told = paused(async {
        let mut handle = graph.start(amount(), caller());
        let told: Vec<_> = handle.events().unwrap().collect().await;
        assert_eq!(done(handle.join().await.unwrap()).amount, 4);
        story(told)
    });
    assert_eq!(
        told,
        [
            "/ started telling",
            "/ state before step 1: {\"amount\":4,\"paid\":null,\"refused\":null}",
            "/ state before step 2: {\"amount\":4,\"paid\":\"ok\",\"refused\":null}",
            "/ finished: completed",
            "/0.0 node note, step 0, task 0",
            "/0.0 noted {\"by\":\"note\"}",
            "/0.0 note wrote {\"amount\":4}",
            "/1.0 node pay, step 1, task 0",
            "/1.0 pay wrote {\"paid\":\"ok\"}",
            "/1.0/0.0 call pay {\"amount\":4}",
            "/1.0/0.0 result of pay: \"ok\"",
        ]
    );
}

#[test]
fn dropping_the_handle_stops_the_graph() {
    let tool = RecordingTool::new("pay").hanging();
    let graph = paying(tool.clone()).build().unwrap();
    paused(async {
        let mut handle = graph.start(amount(), caller());
        let events = handle.events().unwrap();
        while tool.inputs().is_empty() {
            tokio::task::yield_now().await;
        }
        handle.cancel();
        let failed = handle.join().await.unwrap_err();
        assert_eq!(failed.code().as_str(), "run.cancelled");
        let state = elsewhere(&failed.state.unwrap());
        drop(events);
        let resumed = graph.start_resume(Resume::new(state, caller())).join().await.unwrap();
        assert_eq!(waiting(resumed).pending()[0].kind.name(), "unknown_outcome");
    });
}
