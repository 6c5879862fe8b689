//! Runs that are stopped in the middle, and the states from which they go on: nothing is lost, and nothing is done twice.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use agent_core::{
    AnswerValue, Begun, Call, CallKey, CallResult, Caller, Effect, Journal, JournalError, Limits, MainAgent,
    MemoryJournal, ModelErrorClass, PendingKind, Request, Resume, RunOptions, RunOutcome, RunState, async_trait,
};
use serde_json::json;
use testkit::{FnModel, Line, Recorder, RecordingAgent, RecordingTool, caller, paused, somebody};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn boss() -> Caller {
    somebody("acme", "sam")
}

fn elsewhere(state: &RunState) -> RunState {
    serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap()
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
        let read = |spec: agent_core::FunctionSpec| spec.with_effect(Effect::ReadOnly);
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
                Some(agent_core::Entry::Agent(turn)) => turn.reply().each_call().next(),
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

/// Is pending once, and wakes at once.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|task| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        task.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
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

/// A desk whose model makes one call, and then tells the result.
fn paying(tool: impl agent_core::Tool + 'static, journal: Arc<dyn Journal>) -> MainAgent {
    let model = FnModel::new(|request| match request.conversation.entries().last() {
        Some(agent_core::Entry::Agent(turn)) => Line::text(&turn.results()[0].to_model_value().to_string()),
        _ => Line::call("pay", json!({"eur": 5})),
    });
    MainAgent::builder("desk", model).tool(tool).journal(journal).build().unwrap()
}

async fn cancelled_after_a_while(desk: &MainAgent, resume: Option<Resume>) -> RunState {
    let run = match resume {
        Some(resume) => desk.start_resume(resume),
        None => desk.start("Pay", caller()),
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    run.cancel();
    run.join().await.unwrap_err().state.unwrap()
}

async fn asked(desk: &MainAgent, state: &RunState) -> RunState {
    let waiting = desk.resume(Resume::new(elsewhere(state), caller())).await.unwrap().into_suspended().unwrap().state;
    assert!(matches!(waiting.pending()[0].kind, PendingKind::UnknownOutcome { .. }));
    waiting
}

#[test]
fn consent_to_repeat_a_call_is_for_one_time() {
    paused(async {
        let tool = RecordingTool::new("pay").hanging();
        let desk = paying(tool.clone(), Arc::new(MemoryJournal::new()));
        let mut state = cancelled_after_a_while(&desk, None).await;
        for calls in 1..4 {
            state = asked(&desk, &state).await;
            assert_eq!(tool.inputs().len(), calls);
            let yes = Resume::new(state.clone(), boss()).with_answer(&state.pending()[0].id, AnswerValue::Approve);
            state = cancelled_after_a_while(&desk, Some(yes)).await;
        }
        let state = asked(&desk, &state).await;
        assert_eq!((tool.inputs().len(), state.lease().spent.tool_calls), (4, 4));
    });
}

#[test]
fn a_call_whose_result_has_come_meanwhile_is_not_repeated() {
    paused(async {
        let tool = RecordingTool::new("pay").needing_approval().returning_after(Duration::from_secs(9), json!("paid"));
        let desk = paying(tool.clone(), Arc::new(MemoryJournal::new()));
        let state = desk.run("Pay", caller()).await.unwrap().into_suspended().unwrap().state;
        let approved = || Resume::new(state.clone(), boss()).with_answer(&state.pending()[0].id, AnswerValue::Approve);
        let (one, other) = tokio::join!(desk.resume(approved()), desk.resume(approved()));
        assert_eq!(one.unwrap().to_string(), "\"paid\"");
        let waiting = other.unwrap().into_suspended().unwrap().state;
        for answer in [AnswerValue::Approve, AnswerValue::Deny("no".into()), AnswerValue::Value(json!("lost"))] {
            let resume = Resume::new(waiting.clone(), boss()).with_answer(&waiting.pending()[0].id, answer);
            assert_eq!(desk.resume(resume).await.unwrap().to_string(), "\"paid\"");
        }
        assert_eq!(tool.inputs().len(), 1);
    });
}

#[test]
fn a_call_that_began_was_counted_then_and_a_full_budget_hides_nothing() {
    paused(async {
        let tool = RecordingTool::new("pay").hanging().reconciling(CallResult::done(json!("it was paid")));
        let desk = paying(tool.clone(), Arc::new(MemoryJournal::new()));
        let limits = RunOptions::default().with_limits(Limits::none().with_tool_calls(1));
        let run = desk.start(Request::new("Pay").with_options(limits), caller());
        tokio::time::sleep(Duration::from_secs(1)).await;
        run.cancel();
        let state = run.join().await.unwrap_err().state.unwrap();
        let report = desk.resume(Resume::new(state, caller())).await.unwrap().into_report().unwrap();
        assert_eq!((report.text().as_ref(), report.spent.tool_calls), ("\"it was paid\"", 1));
    });
}

#[test]
fn a_timed_out_effect_is_not_made_again_on_the_models_retry() {
    let model = FnModel::new(|request| match request.conversation.entries().len() {
        1..4 => Line::call("pay", json!({"eur": 5})),
        _ => Line::text("gave up"),
    });
    let calls = |effect: Effect| {
        let in_a_second =
            move |spec: agent_core::FunctionSpec| spec.with_effect(effect).with_timeout(Duration::from_secs(1));
        let tool = RecordingTool::new("pay").hanging().with_spec(in_a_second);
        let desk = MainAgent::builder("desk", model.clone()).tool(tool.clone()).build().unwrap();
        let report = paused(desk.run("Pay", caller())).unwrap().into_report().unwrap();
        let codes: Vec<String> = report
            .conversation
            .entries()
            .iter()
            .filter_map(|entry| if let agent_core::Entry::Agent(turn) = entry { turn.results().first() } else { None })
            .map(|result| result.failure().unwrap().code.to_string())
            .collect();
        (tool.inputs().len(), codes)
    };
    let unknown = "call.unknown_outcome";
    assert_eq!(calls(Effect::AtMostOnce), (1, vec!["call.timeout".into(), unknown.into(), unknown.into()]));
    assert_eq!(calls(Effect::Idempotent), (3, vec!["call.timeout".into(); 3]));
}

#[test]
fn a_user_written_agent_with_effects_goes_on_once_whoever_copies_its_state() {
    paused(async {
        let survey = RecordingAgent::new(
            "survey",
            [("colour", PendingKind::question("Which colour?")), ("size", PendingKind::question("Which size?"))],
        );
        let model = FnModel::new(|request| match request.conversation.entries().last() {
            Some(agent_core::Entry::Agent(turn)) => Line::text(&turn.results()[0].to_model_value().to_string()),
            _ => Line::call("survey", json!({"of": "chairs"})),
        });
        let recorder = Recorder::new();
        let desk = MainAgent::builder("desk", model).sub_agent(survey.clone()).observer(recorder.clone());
        let desk = desk.build().unwrap();
        let first = desk.run("Go", caller()).await.unwrap().into_suspended().unwrap().state;
        let answered = |state: &RunState, name: &str, value: &str| {
            let pending = state.pending().iter().find(|pending| &*pending.id.name == name).unwrap();
            Resume::new(elsewhere(state), boss()).with_answer(&pending.id, AnswerValue::Value(json!(value)))
        };
        // Three copies of the first state: the agent went on once, and all three are where it left.
        let mut seconds = Vec::new();
        for (name, value) in [("colour", "red"), ("colour", "blue"), ("size", "XL")] {
            let outcome = desk.resume(answered(&first, name, value)).await.unwrap();
            seconds.push(outcome.into_suspended().unwrap().state);
        }
        assert_eq!(survey.lives().len(), 2);
        for _ in 0..2 {
            let outcome = desk.resume(answered(&seconds[0], "size", "XL")).await.unwrap();
            assert_eq!(outcome.to_string(), "{\"colour\":\"red\",\"size\":\"XL\"}");
        }
        assert_eq!(survey.lives().len(), 3);
        // The copy whose own answer was not among those that the agent went on with has it still.
        let third = Resume::new(elsewhere(&seconds[2]), boss());
        assert_eq!(desk.resume(third).await.unwrap().to_string(), "{\"colour\":\"red\",\"size\":\"XL\"}");
        let count = |kind: &str| {
            recorder.events().iter().filter(|event| serde_json::to_value(event).unwrap()["event"] == kind).count()
        };
        assert_eq!(count("waiting"), 2, "each wait is told when it comes up");
        assert!(count("answered") >= 2);
    });
}

/// A journal that begins everything, and never comes to keep anything.
struct Slow;

#[async_trait]
impl Journal for Slow {
    async fn begin(&self, _: &CallKey) -> Result<Begun, JournalError> {
        Ok(Begun::Fresh)
    }
    async fn finish(&self, _: &CallKey, _: &CallResult) -> Result<(), JournalError> {
        std::future::pending().await
    }
}

#[test]
fn a_run_stopped_while_its_journal_keeps_a_result_repeats_nothing() {
    paused(async {
        // Nor loses the result that it had.
        let tool = RecordingTool::new("pay").returning(json!("paid"));
        let state = cancelled_after_a_while(&paying(tool.clone(), Arc::new(Slow)), None).await;
        let desk = paying(tool.clone(), Arc::new(MemoryJournal::new()));
        let report = desk.resume(Resume::new(elsewhere(&state), caller())).await.unwrap().into_report().unwrap();
        assert_eq!((report.text().as_ref(), tool.inputs().len(), report.spent.tool_calls), ("\"paid\"", 1, 1));

        let survey = RecordingAgent::new("survey", [("colour", PendingKind::question("Which colour?"))]);
        let desk = |journal: Arc<dyn Journal>| {
            let model = FnModel::new(|request| match request.conversation.entries().len() {
                1 => Line::call("survey", json!({"of": "chairs"})),
                _ => Line::text("done"),
            });
            MainAgent::builder("desk", model).sub_agent(survey.clone()).journal(journal).build().unwrap()
        };
        let state = cancelled_after_a_while(&desk(Arc::new(Slow)), None).await;
        let [pending] = state.pending() else { panic!("{:?}", state.pending()) };
        let answer = AnswerValue::Value(json!("red"));
        let resume = Resume::new(elsewhere(&state), boss()).with_answer(&pending.id, answer);
        let outcome = desk(Arc::new(MemoryJournal::new())).resume(resume).await.unwrap();
        assert_eq!((outcome.to_string().as_str(), survey.lives().len()), ("done", 2));
    });
}

#[test]
fn an_agent_that_timed_out_with_an_effect_in_flight_is_not_called_again() {
    let tool = RecordingTool::new("pay").hanging();
    let child = MainAgent::builder("child", FnModel::new(|_| Line::call("pay", json!({"eur": 5}))));
    let child = child.tool(tool.clone()).limits(Limits::none().with_time(Duration::from_secs(5))).build().unwrap();
    let model = FnModel::new(|request| match request.conversation.entries().len() {
        1..3 => Line::call("child", json!({"request": "Pay"})),
        _ => Line::text("gave up"),
    });
    let desk = MainAgent::builder("desk", model).sub_agent(child).build().unwrap();
    assert_eq!(paused(desk.run("Pay", caller())).unwrap().to_string(), "gave up");
    assert_eq!(tool.inputs().len(), 1);
}

#[test]
fn a_run_stopped_while_its_journal_begins_a_call_counts_it_once() {
    /// Never comes to begin anything.
    struct Unreachable;

    #[async_trait]
    impl Journal for Unreachable {
        async fn begin(&self, _: &CallKey) -> Result<Begun, JournalError> {
            std::future::pending().await
        }
        async fn finish(&self, _: &CallKey, _: &CallResult) -> Result<(), JournalError> {
            Ok(())
        }
    }
    paused(async {
        let tool = RecordingTool::new("pay").returning(json!("paid"));
        let mut state = cancelled_after_a_while(&paying(tool.clone(), Arc::new(Unreachable)), None).await;
        for _ in 0..3 {
            let again = Resume::new(elsewhere(&state), caller());
            state = cancelled_after_a_while(&paying(tool.clone(), Arc::new(Unreachable)), Some(again)).await;
        }
        let limits = RunOptions::default().with_limits(Limits::none().with_tool_calls(1));
        let resume = Resume::new(elsewhere(&state), caller()).with_options(limits);
        let report =
            paying(tool.clone(), Arc::new(MemoryJournal::new())).resume(resume).await.unwrap().into_report().unwrap();
        assert_eq!((report.text().as_ref(), tool.inputs().len(), report.spent.tool_calls), ("\"paid\"", 1, 1));
    });
}

#[test]
fn a_journal_that_panics_loses_no_result() {
    /// Has a bug.
    struct Panics;

    #[async_trait]
    impl Journal for Panics {
        async fn begin(&self, _: &CallKey) -> Result<Begun, JournalError> {
            Ok(Begun::Fresh)
        }
        async fn finish(&self, _: &CallKey, _: &CallResult) -> Result<(), JournalError> {
            panic!("a bug of the host's")
        }
    }
    paused(async {
        let tool = RecordingTool::new("pay").returning(json!("paid"));
        let failure = paying(tool.clone(), Arc::new(Panics)).run("Pay", caller()).await.unwrap_err();
        assert_eq!(failure.code().as_str(), "run.panicked");
        let resume = Resume::new(elsewhere(&failure.state.unwrap()), caller());
        let outcome = paying(tool.clone(), Arc::new(MemoryJournal::new())).resume(resume).await.unwrap();
        assert_eq!((outcome.to_string().as_str(), tool.inputs().len()), ("\"paid\"", 1));
    });
}

#[test]
fn a_call_that_nobody_knows_of_and_that_is_not_to_be_repeated_is_not_made_under_other_words() {
    paused(async {
        let tool = RecordingTool::new("pay").hanging();
        let model = FnModel::new(|request| match request.conversation.entries().len() {
            1 => Line::calls([Call::from_text("pay", "{\"eur\":5, \"to\": \"ann\"}")]),
            2 => Line::calls([Call::from_text("pay", "{ \"to\":\"ann\",\"eur\": 5 }")]),
            _ => Line::text("gave up"),
        });
        let desk = MainAgent::builder("desk", model).tool(tool.clone()).build().unwrap();
        let state = cancelled_after_a_while(&desk, None).await;
        let state = asked(&desk, &state).await;
        let no = AnswerValue::Deny("leave it".into());
        let resume = Resume::new(state.clone(), boss()).with_answer(&state.pending()[0].id, no);
        let report = desk.resume(resume).await.unwrap().into_report().unwrap();
        let codes: Vec<_> = report
            .conversation
            .entries()
            .iter()
            .filter_map(|entry| if let agent_core::Entry::Agent(turn) = entry { turn.results().first() } else { None })
            .map(|result| result.failure().unwrap().code.to_string())
            .collect();
        assert_eq!((tool.inputs().len(), codes), (1, vec!["call.unknown_outcome".to_owned(); 2]));
    });
}

/// Denies every call, or panics at one.
struct Strict(&'static str);

#[async_trait]
impl agent_core::Policy for Strict {
    async fn decide(&self, action: agent_core::Action<'_>, _: &agent_core::RunContext) -> agent_core::Decision {
        match action {
            agent_core::Action::Call { function, .. } if *function.name == *self.0 => panic!("a bug of the host's"),
            agent_core::Action::Call { .. } if self.0.is_empty() => agent_core::Decision::Deny("closed".into()),
            _ => agent_core::Decision::Allow,
        }
    }
}

#[test]
fn a_call_that_began_is_asked_about_before_a_policy_judges_it_anew() {
    paused(async {
        let tool = RecordingTool::new("pay").hanging();
        let state = cancelled_after_a_while(&paying(tool.clone(), Arc::new(MemoryJournal::new())), None).await;
        let model = FnModel::new(|_| Line::text("over"));
        let closed = MainAgent::builder("desk", model).tool(tool.clone()).policy(Strict("")).build().unwrap();
        asked(&closed, &state).await;
        assert_eq!(tool.inputs().len(), 1);
    });
}

#[test]
fn a_policy_that_panics_below_a_nested_agent_ends_the_run() {
    let calling = |name: &'static str| FnModel::new(move |_| Line::call(name, json!({"request": "Go"})));
    let child = MainAgent::builder("child", calling("pay")).tool(RecordingTool::new("pay")).build().unwrap();
    let desk = MainAgent::builder("desk", calling("child")).sub_agent(child).policy(Strict("pay")).build().unwrap();
    let failure = paused(desk.run("Go", caller())).unwrap_err();
    assert_eq!(failure.code().as_str(), "run.panicked");
    assert!(failure.state.is_some());
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
