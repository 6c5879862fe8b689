//! Runs that are stopped in the middle or fail, and the states from which they go on: nothing is lost, and nothing is done twice.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use agent_core::{
    AnswerValue, Begun, Call, CallKey, CallResult, Caller, Effect, Entry, FunctionSpec, Journal, JournalError,
    MainAgent, MemoryJournal, ModelErrorClass, PendingKind, Request, Resume, RunOptions, RunOutcome, RunState,
    async_trait,
};
use serde_json::json;
use testkit::{FnModel, Line, RecordingTool, caller, elsewhere, paused, somebody, yield_once};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn boss() -> Caller {
    somebody("acme", "sam")
}

/// The same tree in every life of a run, with models that think of something else in each life.
struct Tree {
    outer: RecordingTool,
    inner: RecordingTool,
    lookup: RecordingTool,
    life: Arc<AtomicU32>,
}

impl Tree {
    fn new() -> Self {
        let read = |spec: FunctionSpec| spec.with_effect(Effect::ReadOnly);
        Self {
            outer: RecordingTool::new("outer").returning_after_polls(2, json!("outer")),
            inner: RecordingTool::new("inner").returning_after_polls(3, json!("inner")),
            lookup: RecordingTool::new("lookup").with_spec(read).returning_after_polls(1, json!("seen")),
            life: Arc::default(),
        }
    }

    /// The agents as another process builds them: with a journal that knows nothing.
    fn desk(&self) -> MainAgent {
        let life = self.life.clone();
        let child = FnModel::new(move |request| {
            let called = match request.conversation.entries().last() {
                Some(Entry::Agent(turn)) => turn.reply().each_call().next(),
                _ => None,
            };
            // In a later life it looks first, so that its effect would come at another place.
            let next = match called.map(|call| &*call.name) {
                None if life.load(Ordering::Relaxed) > 0 => Line::call("lookup", json!({})),
                None | Some("lookup") => Line::call("inner", json!({"n": 1})),
                Some(_) => Line::text("it is done"),
            };
            next.yielding()
        });
        let child =
            MainAgent::builder("child", child).tool(self.inner.clone()).tool(self.lookup.clone()).build().unwrap();
        let model = FnModel::new(|request| match request.conversation.entries().len() {
            1 => Line::calls([Call::new("outer", json!({})), Call::new("child", json!({"request": "Go"}))]).yielding(),
            _ => Line::text("all is done").yielding(),
        });
        MainAgent::builder("desk", model)
            .tool(self.outer.clone())
            .sub_agent(child)
            .journal(Yielding(MemoryJournal::new()))
            .build()
            .unwrap()
    }
}

/// A journal that is far away: it is pending before and after it has done its part.
struct Yielding(MemoryJournal);

#[async_trait]
impl Journal for Yielding {
    async fn begin(&self, key: &CallKey) -> Result<Begun, JournalError> {
        yield_once().await;
        let begun = self.0.begin(key).await;
        yield_once().await;
        begun
    }
    async fn finish(&self, key: &CallKey, result: &CallResult) -> Result<(), JournalError> {
        yield_once().await;
        self.0.finish(key, result).await?;
        yield_once().await;
        Ok(())
    }
}

/// Polls `future` that often, then does `then`, and waits for the end.
async fn interrupted<T>(future: impl Future<Output = T>, polls: usize, then: impl FnOnce()) -> T {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
    then();
    future.await
}

/// Answers everything that is waited for, and goes on until the end.
async fn conclude(tree: &Tree, mut state: RunState) -> (RunOutcome, usize) {
    let mut asked = 0;
    loop {
        let mut resume = Resume::new(elsewhere(&state), boss());
        for pending in state.pending() {
            assert!(matches!(pending.kind, PendingKind::UnknownOutcome { .. }), "{pending}");
            resume = resume.with_answer(&pending.id, AnswerValue::Value(json!("it had happened")));
            asked += 1;
        }
        match tree.desk().resume(resume).await.unwrap() {
            RunOutcome::Suspended(waiting) => state = waiting.state,
            completed => return (completed, asked),
        }
    }
}

#[test]
fn a_run_stopped_after_any_poll_goes_on_elsewhere_and_repeats_nothing() {
    paused(async {
        let (mut polls, mut asked) = (0, 0);
        loop {
            let tree = Tree::new();
            let token = CancellationToken::new();
            let options = RunOptions::default().with_cancellation(token.clone());
            let desk = tree.desk();
            let run = desk.run(Request::new("Go").with_options(options), caller());
            let failure = match interrupted(run, polls, || token.cancel()).await {
                Ok(outcome) => {
                    assert_eq!(outcome.to_string(), "all is done");
                    break;
                }
                Err(failure) => failure,
            };
            assert_eq!(failure.code().as_str(), "run.cancelled");
            tree.life.fetch_add(1, Ordering::Relaxed);
            let begun = (tree.outer.inputs().len(), tree.inner.inputs().len());
            let unknown = begun.0 + begun.1 - tree.outer.completed() - tree.inner.completed();

            let (outcome, answered) = conclude(&tree, failure.state.unwrap()).await;
            assert_eq!(outcome.to_string(), "all is done", "after {polls} polls");
            assert_eq!(answered, unknown, "what was in flight after {polls} polls is asked about, and nothing else");
            assert_eq!((tree.outer.inputs().len(), tree.inner.inputs().len()), (1, 1), "after {polls} polls");
            let spent = outcome.into_report().unwrap().spent;
            assert_eq!(spent.tool_calls as usize, 3 + tree.lookup.inputs().len(), "after {polls} polls");
            asked += answered;
            polls += 1;
            assert!(polls < 1_000, "the run does not end");
        }
        assert!(polls > 15 && asked >= 3, "pending {polls} times, asked {asked} times");
    });
}

#[test]
fn a_nested_agent_stopped_by_the_deadline_goes_on_where_it_was() {
    let tree = Tree::new();
    paused(async {
        let late = RecordingTool::new("late").returning_after(Duration::from_secs(60), json!("late"));
        let model = FnModel::new(|request| match request.conversation.entries().len() {
            1 => Line::call("inner", json!({})),
            2 => Line::call("late", json!({})),
            _ => Line::text("done"),
        });
        let desk = |journal: Arc<dyn Journal>| {
            let child = MainAgent::builder("child", model.clone()).tool(tree.inner.clone()).tool(late.clone());
            let outer = FnModel::new(|request| match request.conversation.entries().len() {
                1 => Line::call("child", json!({"request": "Go"})),
                _ => Line::text("all is done"),
            });
            MainAgent::builder("desk", outer).sub_agent(child.build().unwrap()).journal(journal).build().unwrap()
        };
        let deadline = RunOptions::default().with_deadline(Instant::now() + Duration::from_secs(30));
        let request = Request::new("Go").with_options(deadline);
        let failure = desk(Arc::new(MemoryJournal::new())).run(request, caller()).await.unwrap_err();
        assert_eq!(failure.code().as_str(), "run.deadline");
        let state = failure.state.unwrap();
        // The deadline was this life's; what the limits allow is another matter.
        assert_eq!(state.time_left(), Some(Duration::from_secs(570)));
        let waiting = desk(Arc::new(MemoryJournal::new())).resume(Resume::new(elsewhere(&state), caller())).await;
        let waiting = waiting.unwrap().into_suspended().unwrap().state;
        assert!(
            matches!(&waiting.pending()[0].kind, PendingKind::UnknownOutcome { function, .. } if &**function == "late")
        );
        assert_eq!(tree.inner.inputs().len(), 1);
    });
}

#[test]
fn a_failed_run_can_be_tried_again_as_often_as_it_fails() {
    paused(async {
        let healthy = Arc::new(AtomicU32::new(0));
        let model = {
            let healthy = healthy.clone();
            FnModel::new(move |_| match healthy.load(Ordering::Relaxed) {
                0 => Line::fails(ModelErrorClass::Unavailable),
                1 => Line::text(""),
                _ => Line::text("at last"),
            })
        };
        let desk = MainAgent::builder("desk", model).build().unwrap();
        let mut failure = desk.run("Go", caller()).await.unwrap_err();
        for life in 0..10 {
            healthy.store(life % 2, Ordering::Relaxed);
            assert!(failure.retryable());
            failure = desk.resume(Resume::new(failure.state.unwrap(), caller())).await.unwrap_err();
            assert_eq!(failure.code().as_str(), if life % 2 == 0 { "model.unavailable" } else { "model.empty" });
        }
        healthy.store(2, Ordering::Relaxed);
        let outcome = desk.resume(Resume::new(failure.state.unwrap(), caller())).await.unwrap();
        assert_eq!(outcome.to_string(), "at last");
    });
}

#[test]
fn an_answer_that_never_fitted_can_be_asked_for_again() {
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[expect(dead_code, reason = "for its schema")]
    struct Count {
        n: u32,
    }
    let answers = Arc::new(AtomicU32::new(0));
    let model = {
        let answers = answers.clone();
        FnModel::new(move |_| match answers.fetch_add(1, Ordering::Relaxed) {
            0..3 => Line::text("none"),
            _ => Line::text("{\"n\": 3}"),
        })
    };
    let desk = MainAgent::builder("desk", model).answer::<Count>().build().unwrap();
    let failure = paused(desk.run("Go", caller())).unwrap_err();
    assert_eq!(failure.code().as_str(), "run.bad_answer");
    let outcome = paused(desk.resume(Resume::new(elsewhere(&failure.state.unwrap()), caller()))).unwrap();
    assert_eq!(outcome.to_string(), "{\"n\":3}");
}

#[test]
fn a_run_that_was_too_long_for_its_model_can_be_tried_with_another() {
    let small = FnModel::new(|_| Line::fails(ModelErrorClass::ContextOverflow));
    let failure = paused(MainAgent::builder("desk", small).build().unwrap().run("Go", caller())).unwrap_err();
    assert_eq!(failure.code().as_str(), "context.does_not_fit");
    let large = MainAgent::builder("desk", FnModel::new(|_| Line::text("done"))).build().unwrap();
    let resume = Resume::new(elsewhere(&failure.state.unwrap()), caller());
    assert_eq!(paused(large.resume(resume)).unwrap().to_string(), "done");
}
