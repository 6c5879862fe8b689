//! Stopping: by dropping, by a token, by a handle, by the clock.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use agent_core::{
    AgentCard, AgentError, Begin, Call, CallError, Effect, FunctionSpec, Lease, Limits, MainAgent, MemoryJournal,
    Outcome, PendingKind, Request, Resume, RunContext, RunOptions, Schema, SubAgent, Tokens, async_trait,
};
use serde_json::json;
use testkit::{FnModel, Line, RecordingAgent, RecordingTool, caller, paused, somebody};

/// A Sub-Agent that shows its lease to the test, and then does what its child does.
struct Spy {
    child: MainAgent,
    leases: Arc<Mutex<Vec<Lease>>>,
    cancelled: Arc<Mutex<Vec<tokio_util::sync::CancellationToken>>>,
}

#[async_trait]
impl SubAgent for Spy {
    fn card(&self) -> &AgentCard {
        self.child.card()
    }
    async fn run(&self, begin: Begin, cx: &RunContext) -> Result<Outcome, AgentError> {
        self.leases.lock().unwrap().push(cx.lease().clone());
        self.cancelled.lock().unwrap().push(cx.cancellation().clone());
        SubAgent::run(&self.child, begin, cx).await
    }
}

/// What one run of the tree touches: two tools with effects, one of them in a child, and a model that yields between its chunks.
struct Tree {
    desk: MainAgent,
    outer: RecordingTool,
    inner: RecordingTool,
    leases: Arc<Mutex<Vec<Lease>>>,
    cancelled: Arc<Mutex<Vec<tokio_util::sync::CancellationToken>>>,
}

fn tree(journal: Arc<MemoryJournal>) -> Tree {
    let calling = |name: &'static str, arguments: serde_json::Value| {
        FnModel::new(move |request| match request.conversation.entries().len() {
            1 => Line::call(name, arguments.clone()).yielding(),
            _ => Line::text("it is done").yielding(),
        })
    };
    let outer = RecordingTool::new("outer").returning_after_polls(2, json!("outer"));
    let inner = RecordingTool::new("inner").returning_after_polls(3, json!("inner"));
    let child = MainAgent::builder("child", calling("inner", json!({"n": 1}))).tool(inner.clone()).build().unwrap();
    let (leases, cancelled) = (Arc::default(), Arc::default());
    let spy = Spy { child, leases: Arc::clone(&leases), cancelled: Arc::clone(&cancelled) };
    let model = FnModel::new(|request| match request.conversation.entries().len() {
        1 => Line::calls([Call::new("outer", json!({})), Call::new("child", json!({"request": "Go"}))]).yielding(),
        _ => Line::text("all is done").yielding(),
    });
    let desk = MainAgent::builder("desk", model)
        .tool(outer.clone())
        .sub_agent(spy)
        .journal(journal)
        .limits(Limits::none().with_tokens(Tokens(100_000)))
        .build()
        .unwrap();
    Tree { desk, outer, inner, leases, cancelled }
}

/// Polls `future` at most `polls` times. `Some` when it is done.
fn poll_some<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut task = Context::from_waker(Waker::noop());
    (0..polls).find_map(|_| match future.as_mut().poll(&mut task) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    })
}

#[test]
fn a_run_dropped_after_any_poll_leaves_no_reservation_and_no_child() {
    paused(async {
        let mut polls = 0;
        loop {
            let tree = tree(Arc::default());
            let done = poll_some(tree.desk.run("Go", caller()), polls);
            if let Some(outcome) = done {
                assert_eq!(outcome.unwrap().to_string(), "all is done");
                break;
            }
            let begun = (tree.outer.inputs().len(), tree.inner.inputs().len());
            for lease in tree.leases.lock().unwrap().iter() {
                assert_eq!(lease.reserved(), agent_core::Spend::ZERO, "after {polls} polls");
            }
            assert!(tree.cancelled.lock().unwrap().iter().all(|token| token.is_cancelled()), "after {polls} polls");
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!((tree.outer.inputs().len(), tree.inner.inputs().len()), begun, "nothing goes on by itself");
            polls += 1;
            assert!(polls < 1_000, "the run does not end");
        }
        assert!(polls > 15, "the run was pending {polls} times");
    });
}

#[test]
fn with_the_journal_an_earlier_state_that_is_resumed_after_any_drop_repeats_no_effect() {
    paused(async {
        // The earlier state: everything is still to be done, but a person has to be asked first.
        let gate = || RecordingAgent::new("gate", [("go", PendingKind::question("Go?"))]);
        let mut polls = 0;
        loop {
            let journal = Arc::new(MemoryJournal::new());
            let Tree { desk: tree_desk, outer, inner, .. } = tree(journal.clone());
            let model = FnModel::new(|request| match request.conversation.entries().len() {
                1 => Line::call("gate", json!({})),
                2 => Line::call("desk", json!({"request": "Go"})),
                _ => Line::text("over"),
            });
            let main = MainAgent::builder("main", model)
                .sub_agent(gate())
                .sub_agent(tree_desk)
                .journal(journal)
                .build()
                .unwrap();
            let state = main.run("Go", caller()).await.unwrap().into_suspended().unwrap().state;
            let resume = || {
                let go = agent_core::AnswerValue::Value(json!("yes"));
                Resume::new(state.clone(), caller()).with_answer(&state.pending()[0].id, go)
            };
            let finished = poll_some(main.resume(resume()), polls).is_some();
            let (begun, ended) = ([outer.inputs().len(), inner.inputs().len()], [outer.completed(), inner.completed()]);
            // The same state once more, as after a crash. Whatever is unknown, somebody says that it happened.
            let mut outcome = main.resume(resume()).await.unwrap();
            while let agent_core::RunOutcome::Suspended(waiting) = outcome {
                let sam = somebody("acme", "sam");
                let answers =
                    waiting.state.pending().iter().fold(Resume::new(waiting.state.clone(), sam), |resume, pending| {
                        assert!(matches!(pending.kind, PendingKind::UnknownOutcome { .. }), "{pending:?}");
                        resume.with_answer(&pending.id, agent_core::AnswerValue::Value(json!("it happened")))
                    });
                outcome = main.resume(answers).await.unwrap();
            }
            assert_eq!(outcome.to_string(), "over");
            for (tool, begun, ended) in [(&outer, begun[0], ended[0]), (&inner, begun[1], ended[1])] {
                assert!(tool.inputs().len() <= 1, "an effect was repeated after {polls} polls");
                assert!(ended <= begun && begun <= 1);
            }
            if finished {
                break;
            }
            polls += 1;
            assert!(polls < 1_000);
        }
    });
}

#[test]
fn a_cancelled_run_tells_what_it_had_done() {
    let quick = RecordingTool::new("quick").returning(json!("done"));
    let hanging = RecordingTool::new("hanging").hanging();
    let calls = ["quick", "hanging"].map(|name| Call::new(name, json!({})));
    let desk = MainAgent::builder("desk", FnModel::new(move |_| Line::calls(calls.clone())))
        .tool(quick)
        .tool(hanging.clone())
        .build()
        .unwrap();
    paused(async {
        let handle = desk.start("Go", caller());
        tokio::time::sleep(Duration::from_secs(1)).await;
        handle.cancel();
        let failure = handle.join().await.unwrap_err();
        assert_eq!(failure.code().as_str(), "run.cancelled");
        let text = format!("{:?}", failure.conversation);
        assert!(text.contains("\"done\"") && text.contains("the call was not finished: cancelled"), "{text}");
        assert_eq!((failure.spent.tool_calls, hanging.completed()), (2, 0));
        // The conversation is valid: the next message can be said.
        let again = MainAgent::builder("desk", FnModel::new(|_| Line::text("Hello again"))).build().unwrap();
        let request = Request::new("Hello?").with_conversation(failure.conversation);
        assert_eq!(again.run(request, caller()).await.unwrap().to_string(), "Hello again");
    });
}

#[test]
fn a_token_of_the_host_cancels_an_inline_run() {
    let desk = MainAgent::builder("desk", FnModel::new(|_| Line::silence().then_hangs())).build().unwrap();
    paused(async {
        let token = tokio_util::sync::CancellationToken::new();
        let request = Request::new("Go").with_options(RunOptions::default().with_cancellation(token.clone()));
        let run = desk.run(request, caller());
        let cancel = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            token.cancel();
        };
        let (outcome, ()) = futures_util::future::join(run, cancel).await;
        assert_eq!(outcome.unwrap_err().code().as_str(), "run.cancelled");
        let request = Request::new("Go").with_options(RunOptions::default().with_cancellation(token));
        assert_eq!(desk.run(request, caller()).await.unwrap_err().spent.model_calls, 0, "cancelled before it began");
    });
}

#[test]
fn dropping_the_handle_cancels_the_run() {
    let hanging = RecordingTool::new("hanging").hanging();
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = stopped.clone();
    let watch = Watch {
        spec: FunctionSpec::new("watch", "Outlives its call", Schema::object()).with_effect(Effect::ReadOnly),
        stopped: flag,
    };
    let calls = ["hanging", "watch"].map(|name| Call::new(name, json!({})));
    let desk = MainAgent::builder("desk", FnModel::new(move |_| Line::calls(calls.clone())))
        .tool(hanging.clone())
        .tool(watch)
        .build()
        .unwrap();
    paused(async {
        let handle = desk.start("Go", caller());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!stopped.load(Ordering::SeqCst));
        drop(handle);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(stopped.load(Ordering::SeqCst), "what was spawned hears of it");
        assert_eq!(hanging.completed(), 0);
    });
}

/// A tool that leaves a task behind, which ends when the run does.
struct Watch {
    spec: FunctionSpec,
    stopped: Arc<AtomicBool>,
}

#[async_trait]
impl agent_core::Tool for Watch {
    fn spec(&self) -> &FunctionSpec {
        &self.spec
    }
    async fn call(&self, _: &serde_json::Value, cx: &RunContext) -> Result<agent_core::ToolOutput, CallError> {
        let (token, stopped) = (cx.cancellation().clone(), self.stopped.clone());
        tokio::spawn(async move {
            token.cancelled().await;
            stopped.store(true, Ordering::SeqCst);
        });
        Ok(agent_core::ToolOutput::Done(json!("watching")))
    }
}

#[test]
fn a_thread_that_looks_later_hears_that_its_call_is_over() {
    /// Leaves its context behind, and never asks for a token.
    struct Leaves(Arc<Mutex<Option<RunContext>>>, agent_core::FunctionSpec);

    #[async_trait]
    impl agent_core::Tool for Leaves {
        fn spec(&self) -> &FunctionSpec {
            &self.1
        }
        async fn call(&self, _: &serde_json::Value, cx: &RunContext) -> Result<agent_core::ToolOutput, CallError> {
            *self.0.lock().unwrap() = Some(cx.clone());
            std::future::pending().await
        }
    }
    for timeout in [Duration::from_secs(5), Duration::from_secs(3_600)] {
        let left = Arc::new(Mutex::new(None));
        let spec = FunctionSpec::new("t", "Leaves its context", Schema::object()).with_timeout(timeout);
        let model = FnModel::new(|request| match request.conversation.entries().len() {
            1 => Line::call("t", json!({})),
            _ => Line::text("done"),
        });
        let desk = MainAgent::builder("desk", model).tool(Leaves(left.clone(), spec)).build().unwrap();
        let ended = paused(desk.run("Go", caller()));
        assert_eq!(ended.is_ok(), timeout.as_secs() == 5);
        let cx = left.lock().unwrap().take().unwrap();
        assert!(cx.is_cancelled() && cx.cancellation().is_cancelled());
    }
}
