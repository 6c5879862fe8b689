//! What is not done twice: whoever stops, copies or answers a run, whatever its journal and its policy do meanwhile.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    Action, AnswerValue, Begun, Call, CallKey, CallResult, Caller, Decision, Effect, Entry, FunctionSpec, Journal,
    JournalError, Limits, MainAgent, MemoryJournal, PendingKind, Policy, Report, Request, Resume, RunContext,
    RunOptions, RunState, Tool, async_trait,
};
use serde_json::{Value, json};
use testkit::{FnModel, Line, Recorder, RecordingAgent, RecordingTool, caller, elsewhere, paused, somebody};

fn boss() -> Caller {
    somebody("acme", "sam")
}

/// A journal that does not do its part.
enum Faulty {
    NeverBegins,
    NeverKeeps,
    Panics,
}

#[async_trait]
impl Journal for Faulty {
    async fn begin(&self, _: &CallKey) -> Result<Begun, JournalError> {
        match self {
            Self::NeverBegins => std::future::pending().await,
            Self::NeverKeeps | Self::Panics => Ok(Begun::Fresh),
        }
    }
    async fn finish(&self, _: &CallKey, _: &CallResult) -> Result<(), JournalError> {
        match self {
            Self::NeverBegins | Self::NeverKeeps => std::future::pending().await,
            Self::Panics => panic!("a bug of the host's"),
        }
    }
}

/// A model that makes one call, and then tells the result.
fn one_call(name: &'static str, arguments: Value) -> FnModel {
    FnModel::new(move |request| match request.conversation.entries().last() {
        Some(Entry::Agent(turn)) => Line::text(&turn.results()[0].to_model_value().to_string()),
        _ => Line::call(name, arguments.clone()),
    })
}

/// The codes of the first call of each turn, all of which failed.
fn codes(report: &Report) -> Vec<String> {
    let first = |entry: &Entry| match entry {
        Entry::Agent(turn) => Some(turn.results().first()?.failure().unwrap().code.to_string()),
        Entry::User(_) => None,
        _ => panic!("{entry:?}"),
    };
    report.conversation.entries().iter().filter_map(first).collect()
}

/// A desk that makes one call of `pay`.
fn paying(tool: impl Tool + 'static, journal: Arc<dyn Journal>) -> MainAgent {
    MainAgent::builder("desk", one_call("pay", json!({"eur": 5}))).tool(tool).journal(journal).build().unwrap()
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
        let in_a_second = move |spec: FunctionSpec| spec.with_effect(effect).with_timeout(Duration::from_secs(1));
        let tool = RecordingTool::new("pay").hanging().with_spec(in_a_second);
        let desk = MainAgent::builder("desk", model.clone()).tool(tool.clone()).build().unwrap();
        let report = paused(desk.run("Pay", caller())).unwrap().into_report().unwrap();
        (tool.inputs().len(), codes(&report))
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
        let recorder = Recorder::new();
        let desk = MainAgent::builder("desk", one_call("survey", json!({"of": "chairs"})))
            .sub_agent(survey.clone())
            .observer(recorder.clone());
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

#[test]
fn a_run_stopped_while_its_journal_keeps_a_result_repeats_nothing() {
    paused(async {
        // Nor loses the result that it had.
        let tool = RecordingTool::new("pay").returning(json!("paid"));
        let state = cancelled_after_a_while(&paying(tool.clone(), Arc::new(Faulty::NeverKeeps)), None).await;
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
        let state = cancelled_after_a_while(&desk(Arc::new(Faulty::NeverKeeps)), None).await;
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
    paused(async {
        let tool = RecordingTool::new("pay").returning(json!("paid"));
        let mut state = cancelled_after_a_while(&paying(tool.clone(), Arc::new(Faulty::NeverBegins)), None).await;
        for _ in 0..3 {
            let again = Resume::new(elsewhere(&state), caller());
            state = cancelled_after_a_while(&paying(tool.clone(), Arc::new(Faulty::NeverBegins)), Some(again)).await;
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
    paused(async {
        let tool = RecordingTool::new("pay").returning(json!("paid"));
        let failure = paying(tool.clone(), Arc::new(Faulty::Panics)).run("Pay", caller()).await.unwrap_err();
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
        assert_eq!((tool.inputs().len(), codes(&report)), (1, vec!["call.unknown_outcome".to_owned(); 2]));
    });
}

/// Denies every call, or panics at one.
struct Strict(&'static str);

#[async_trait]
impl Policy for Strict {
    async fn decide(&self, action: Action<'_>, _: &RunContext) -> Decision {
        match action {
            Action::Call { function, .. } if *function.name == *self.0 => panic!("a bug of the host's"),
            Action::Call { .. } if self.0.is_empty() => Decision::Deny("closed".into()),
            _ => Decision::Allow,
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
