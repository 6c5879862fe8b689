//! When an agent cannot do its task: rules answer, a person does, or the run fails with a type.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use agent_core::{
    AgentError, AnswerValue, Conversation, Limits, MainAgent, ModelErrorClass, PendingKind, Recovered, Recovery,
    Request, Resume, RunContext, RunOptions, async_trait,
};
use serde_json::json;
use testkit::{FnModel, Line, Recorder, RecordingTool, ScriptedModel, caller, paused, somebody, story};

#[derive(Clone)]
struct Decides(Recovered, Arc<Mutex<Vec<String>>>);

fn decides(recovered: Recovered) -> Decides {
    Decides(recovered, Arc::default())
}

#[async_trait]
impl Recovery for Decides {
    async fn recover(&self, error: &AgentError, conversation: &Conversation, _: &RunContext) -> Recovered {
        self.1.lock().unwrap().push(format!("{} after {}", error.code(), conversation.entries().len()));
        self.0.clone()
    }
}

fn failing(recovery: Decides) -> MainAgent {
    let model = ScriptedModel::new([Line::call("t", json!({})), Line::fails(ModelErrorClass::Unavailable)]);
    MainAgent::builder("desk", model).tool(RecordingTool::new("t")).recovery(recovery).build().unwrap()
}

#[test]
fn rules_answer_and_say_that_they_did() {
    let recovery = decides(Recovered::Answer(json!("Please call us.")));
    let recorder = Recorder::new();
    let options = RunOptions::default().with_observer(recorder.clone());
    let outcome = paused(failing(recovery.clone()).run(Request::new("Go").with_options(options), caller())).unwrap();
    let report = outcome.into_report().unwrap();
    assert_eq!((report.text().as_ref(), report.provenance.fallback_path().as_str()), ("Please call us.", "model>rule"));
    assert_eq!(report.conversation.entries().len(), 3);
    assert_eq!(*recovery.1.lock().unwrap(), ["model.unavailable after 2"]);
    assert!(story(recorder.events()).contains(&"/ recovered from model.unavailable by model>rule".to_owned()));
}

#[test]
fn a_person_answers_refuses_or_edits() {
    let desk = || failing(decides(Recovered::Ask(PendingKind::question("What shall I say?"))));
    paused(async {
        let desk = desk();
        let waiting = desk.run("Go", caller()).await.unwrap().into_suspended().unwrap();
        let state: agent_core::RunState = testkit::elsewhere(&waiting.state);
        let resume =
            |value| Resume::new(state.clone(), somebody("acme", "sam")).with_answer(&state.pending()[0].id, value);
        let report =
            desk.resume(resume(AnswerValue::Value(json!("It is fine.")))).await.unwrap().into_report().unwrap();
        assert_eq!(
            (report.text().as_ref(), report.provenance.fallback_path().as_str()),
            ("It is fine.", "model>human")
        );
        let failure = desk.resume(resume(AnswerValue::Deny("not my job".into()))).await.unwrap_err();
        assert_eq!(failure.code().as_str(), "policy.denied");
    });
}

#[test]
fn every_failure_of_the_task_is_asked_about_and_no_other() {
    let run = |agent: agent_core::MainAgentBuilder, limits: Limits| {
        let recovery = decides(Recovered::Fail);
        let desk = agent.recovery(recovery.clone()).build().unwrap();
        let options = RunOptions::default().with_limits(limits);
        let failure = paused(desk.run(Request::new("Go").with_options(options), caller())).unwrap_err();
        (failure.code().as_str().to_owned(), recovery.1.lock().unwrap().len())
    };
    let model = |line: fn() -> Line| MainAgent::builder("desk", FnModel::new(move |_| line()));
    let none = Limits::none();
    let silent = model(|| Line::silence().then_finish(agent_core::FinishReason::Stop));
    assert_eq!(run(silent, none), ("model.empty".into(), 1));
    assert_eq!(run(model(|| Line::text("x")).answer::<u32>(), none), ("run.bad_answer".into(), 1));
    assert_eq!(run(model(|| Line::call("x", json!({}))), none), ("run.turn_limit".into(), 1));
    assert_eq!(run(model(|| Line::text("x")), none.with_model_calls(0)), ("budget.exceeded".into(), 1));
    let hangs = model(|| Line::silence().then_hangs());
    assert_eq!(run(hangs, none.with_time(std::time::Duration::from_secs(1))), ("run.deadline".into(), 1));
    assert_eq!(run(model(|| Line::silence().then_panics()), none), ("run.panicked".into(), 0));
}

#[test]
fn the_end_of_the_time_is_kept_for_recovery() {
    let run = |agent: agent_core::MainAgentBuilder, recovered: Recovered| {
        paused(async {
            let recovery = decides(recovered);
            let limits = Limits::none().with_time(std::time::Duration::from_secs(20));
            let desk = agent.recovery(recovery.clone()).limits(limits).build().unwrap();
            let begun = tokio::time::Instant::now();
            let said = match desk.run("Go", caller()).await {
                Ok(outcome) => outcome.to_string(),
                Err(failure) => failure.code().to_string(),
            };
            (said, begun.elapsed().as_millis(), recovery.1.lock().unwrap().clone())
        })
    };
    let hangs = || MainAgent::builder("desk", FnModel::new(|_| Line::silence().then_hangs()));
    let asked = || vec!["model.timed_out after 1".to_owned()];
    let answer = || Recovered::Answer("Please call us.".into());
    assert_eq!(run(hangs(), answer()), ("Please call us.".into(), 18_000, asked()));
    assert_eq!(run(hangs(), Recovered::Fail), ("run.deadline".into(), 18_000, asked()));
    // A tool that hangs, and a Sub-Agent of which nothing comes: the call is closed, and the answer follows.
    let call = || FnModel::new(|_| Line::call("slow", json!({})));
    let never = || async { std::future::pending::<Result<&str, agent_core::CallError>>().await };
    let tool = MainAgent::builder("desk", call()).tool(agent_core::tool("slow", "Is slow", never));
    assert_eq!(run(tool, answer()), ("Please call us.".into(), 18_000, asked()));
    let helper = MainAgent::builder("slow", FnModel::new(|_| Line::silence().then_hangs())).build().unwrap();
    let call = FnModel::new(|_| Line::call("slow", json!({"request": "Go"})));
    let agent = MainAgent::builder("desk", call).sub_agent(helper);
    assert_eq!(run(agent, answer()), ("Please call us.".into(), 18_000, asked()));
    // Those who have no answer to give need no time.
    let model = FnModel::new(|_| Line::silence().then_hangs());
    let desk = MainAgent::builder("desk", model).limits(Limits::none().with_time(std::time::Duration::from_secs(20)));
    let took = paused(async {
        let begun = tokio::time::Instant::now();
        desk.build().unwrap().run("Go", caller()).await.unwrap_err();
        begun.elapsed().as_millis()
    });
    assert_eq!(took, 20_000);
}

#[test]
fn a_call_that_was_given_up_for_the_recovery_is_not_told_as_not_made() {
    let paid = Arc::new(Mutex::new(0));
    let pay = {
        let paid = paid.clone();
        move || {
            *paid.lock().unwrap() += 1;
            std::future::pending::<Result<&str, agent_core::CallError>>()
        }
    };
    let pay = Arc::new(agent_core::tool("pay", "Pays", pay).with_effect(agent_core::Effect::AtMostOnce));
    let letters = Arc::new(agent_core::MemoryDeadLetters::new());
    let desk = |recovered: Recovered| {
        let model = FnModel::new(|_| Line::call("pay", json!({})));
        let limits = Limits::none().with_time(std::time::Duration::from_secs(20));
        let desk = MainAgent::builder("desk", model).tool(pay.clone()).limits(limits).dead_letters(letters.clone());
        desk.recovery(decides(recovered)).build().unwrap()
    };
    paused(async {
        let report = desk(Recovered::Answer("Please call us.".into())).run("Go", caller()).await.unwrap();
        let told = serde_json::to_string(&report.into_report().unwrap().conversation).unwrap();
        assert!(told.contains("call.unknown_outcome") && !told.contains("call.not_made"), "{told}");
        // Replayed by another process, whose journal knows nothing: it asks rather than to pay again.
        let failure = desk(Recovered::Fail).run("Go", caller()).await.unwrap_err();
        assert_eq!((failure.code().as_str(), *paid.lock().unwrap()), ("run.deadline", 2));
        let run = failure.dead_letter.unwrap();
        let replayed = desk(Recovered::Fail).replay(run, somebody("acme", "sam"), RunOptions::default()).await;
        assert!(matches!(replayed, Ok(agent_core::RunOutcome::Suspended(_))), "{replayed:?}");
        assert_eq!(*paid.lock().unwrap(), 2);
    });
}

#[test]
fn a_recovered_answer_passes_the_policy_like_any_other() {
    struct NoLeaks;

    #[async_trait]
    impl agent_core::Policy for NoLeaks {
        async fn decide(&self, action: agent_core::Action<'_>, _: &RunContext) -> agent_core::Decision {
            match action {
                agent_core::Action::Answer { answer, .. } if answer.to_string().contains("LEAK") => {
                    agent_core::Decision::Deny("a leak".into())
                }
                _ => agent_core::Decision::Allow,
            }
        }
    }
    let failing = |recovered| {
        let model = ScriptedModel::new([Line::fails(ModelErrorClass::Unavailable)]);
        MainAgent::builder("desk", model).recovery(decides(recovered)).policy(NoLeaks).build().unwrap()
    };
    let failure = paused(failing(Recovered::Answer(json!("LEAK"))).run("Go", caller())).unwrap_err();
    assert_eq!(failure.code().as_str(), "policy.denied");
    let desk = failing(Recovered::Ask(PendingKind::question("Well?")));
    let state = paused(desk.run("Go", caller())).unwrap().into_suspended().unwrap().state;
    let resume = Resume::new(state.clone(), somebody("acme", "sam"))
        .with_answer(&state.pending()[0].id, AnswerValue::Value(json!("LEAK")));
    assert_eq!(paused(desk.resume(resume)).unwrap_err().code().as_str(), "policy.denied");
}

#[test]
fn a_chain_of_models_that_ends_with_a_person_asks_one() {
    let model = ScriptedModel::new([Line::fails(ModelErrorClass::NeedsHuman)]);
    let desk = MainAgent::builder("desk", model).build().unwrap();
    let state = paused(desk.run("Go", caller())).unwrap().into_suspended().unwrap().state;
    let resume = Resume::new(state.clone(), somebody("acme", "sam"))
        .with_answer(&state.pending()[0].id, AnswerValue::Value(json!("I can.")));
    let report = paused(desk.resume(resume)).unwrap().into_report().unwrap();
    assert_eq!((report.text().as_ref(), report.provenance.fallback_path().as_str()), ("I can.", "model>human"));
}
