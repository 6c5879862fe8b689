//! Steps of a host's own, and the drawing of the loop.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use agent_core::{
    AgentError, Answer, AnswerValue, Flow, MainAgent, PendingKind, Resume, RunContext, Stage, Step, StepView,
    async_trait,
};
use serde_json::json;
use testkit::{Line, Recorder, RecordingTool, ScriptedModel, caller, paused};

/// Emits what it sees.
struct Watch(&'static str);

#[async_trait]
impl Step for Watch {
    fn name(&self) -> &str {
        self.0
    }
    async fn run(&self, view: &mut StepView<'_>, cx: &RunContext) -> Result<Flow, AgentError> {
        let reply = view.reply().map(|reply| reply.joined_text());
        cx.emit(self.0, json!({"turn": view.turn(), "said": view.conversation().entries().len(), "reply": reply}));
        Ok(Flow::Continue)
    }
}

#[test]
fn steps_run_around_the_loops_own_in_the_order_of_the_table() {
    let model = ScriptedModel::new([Line::call("t", json!({})), Line::text("done")]);
    let mut builder = MainAgent::builder("desk", model).tool(RecordingTool::new("t"));
    for (stage, before, after) in [
        (Stage::Admit, "a1", "a2"),
        (Stage::Fit, "f1", "f2"),
        (Stage::Think, "t1", "t2"),
        (Stage::Act, "c1", "c2"),
        (Stage::Conclude, "e1", "e2"),
    ] {
        builder = builder.step_before(stage, Watch(before)).step_after(stage, Watch(after));
    }
    let recorder = Recorder::new();
    let desk = builder.observer(recorder.clone()).build().unwrap();
    paused(desk.run("Go", caller())).unwrap();
    let names: Vec<String> = recorder
        .events()
        .iter()
        .filter_map(|event| match &event.kind {
            agent_core::EventKind::Custom { name, .. } => Some(name.to_string()),
            _ => None,
        })
        .collect();
    let expected = "a1 a2 f1 f2 t1 t2 c1 c2 f1 f2 t1 t2 e1 e2";
    assert_eq!(names.join(" "), expected);
    insta::assert_snapshot!(desk.graph());
}

#[test]
fn the_plain_loop_is_drawn() {
    let desk = MainAgent::builder("desk", ScriptedModel::new([])).build().unwrap();
    insta::assert_snapshot!(desk.graph());
}

/// Asks once before the model is asked, and tells the model the answer.
struct AskFirst;

#[async_trait]
impl Step for AskFirst {
    fn name(&self) -> &str {
        "ask_first"
    }
    async fn run(&self, view: &mut StepView<'_>, _: &RunContext) -> Result<Flow, AgentError> {
        Ok(if view.turn() == 0 { Flow::Wait(PendingKind::question("Which tone?")) } else { Flow::Continue })
    }
    async fn answered(&self, answer: Answer, view: &mut StepView<'_>, _: &RunContext) -> Result<Flow, AgentError> {
        match answer.value {
            AnswerValue::Value(tone) => view.say(format!("Answer in this tone: {tone}"))?,
            AnswerValue::Deny(_) => return Ok(Flow::Conclude(json!("Never mind."))),
            other => return Err(AgentError::tell(format!("{} is no tone", other.name()))),
        }
        Ok(Flow::Continue)
    }
}

#[test]
fn a_step_that_waits_is_answered_and_not_run_again() {
    let model = ScriptedModel::new([Line::text("Hi!").expecting(|request| {
        assert!(request.conversation.last_user_message().unwrap().joined_text().contains("\"warm\""));
    })]);
    let desk = MainAgent::builder("desk", model.clone()).step_before(Stage::Think, AskFirst).build().unwrap();
    paused(async {
        let waiting = desk.run("Hello", caller()).await.unwrap().into_suspended().unwrap();
        assert_eq!(waiting.state.pending()[0].id.name.as_ref(), "ask_first-1");
        assert!(model.requests().is_empty());
        let state: agent_core::RunState = testkit::elsewhere(&waiting.state);
        let resume = |value| Resume::new(state.clone(), caller()).with_answer(&state.pending()[0].id, value);
        let never = desk.resume(resume(AnswerValue::Deny("no".into()))).await.unwrap().into_report().unwrap();
        assert_eq!((never.text().as_ref(), never.provenance.fallback_path().as_str()), ("Never mind.", "model>rule"));
        assert_eq!(desk.resume(resume(AnswerValue::Value(json!("warm")))).await.unwrap().to_string(), "Hi!");
    });
    model.assert_played();
}

#[test]
fn a_step_may_end_the_run_or_fail_it_while_calls_are_open() {
    struct Stop(bool);
    #[async_trait]
    impl Step for Stop {
        fn name(&self) -> &str {
            "stop"
        }
        async fn run(&self, view: &mut StepView<'_>, _: &RunContext) -> Result<Flow, AgentError> {
            assert!(view.say("not now").is_err(), "no message comes between calls and results");
            if self.0 { Ok(Flow::Conclude(json!("stopped"))) } else { Err(AgentError::tell("stopped badly")) }
        }
    }
    let tool = RecordingTool::new("t");
    let desk = |kindly| {
        let model = ScriptedModel::new([Line::call("t", json!({}))]);
        MainAgent::builder("desk", model).tool(tool.clone()).step_before(Stage::Act, Stop(kindly)).build().unwrap()
    };
    let report = paused(desk(true).run("Go", caller())).unwrap().into_report().unwrap();
    assert_eq!((report.text().as_ref(), report.conversation.entries().len()), ("stopped", 3));
    let failure = paused(desk(false).run("Go", caller())).unwrap_err();
    assert_eq!((failure.to_string().as_str(), failure.conversation.entries().len()), ("stopped badly", 2));
    assert!(tool.inputs().is_empty());
}

#[test]
fn step_names_are_unique() {
    let twice = MainAgent::builder("desk", ScriptedModel::new([]))
        .step_before(Stage::Fit, Watch("w"))
        .step_after(Stage::Act, Watch("w"));
    assert_eq!(
        twice.build().unwrap_err().to_string(),
        "step name is \"w\", expected a name that no other step of the agent has"
    );
    let taken = MainAgent::builder("desk", ScriptedModel::new([])).step_before(Stage::Fit, Watch("think"));
    assert!(taken.build().is_err());
}

#[test]
fn a_state_whose_step_is_gone_is_refused() {
    let with = MainAgent::builder("desk", ScriptedModel::new([])).step_before(Stage::Think, AskFirst).build().unwrap();
    let without = MainAgent::builder("desk", ScriptedModel::new([])).build().unwrap();
    let waiting = paused(with.run("Hello", caller())).unwrap().into_suspended().unwrap();
    let resume = Resume::new(waiting.state.clone(), caller())
        .with_answer(&waiting.state.pending()[0].id, AnswerValue::Value(json!(1)));
    let failure = paused(without.resume(resume)).unwrap_err();
    assert_eq!(failure.code().as_str(), "state.unreadable");
    assert!(failure.to_string().contains("the step `ask_first` is gone"), "{failure}");
}

/// Ends the run with an answer.
struct Ends(serde_json::Value);

#[async_trait]
impl Step for Ends {
    fn name(&self) -> &str {
        "ends"
    }
    async fn run(&self, _: &mut StepView<'_>, _: &RunContext) -> Result<Flow, AgentError> {
        Ok(Flow::Conclude(self.0.clone()))
    }
}

#[test]
fn a_step_concludes_at_any_stage_before_the_answer_is_taken() {
    for stage in [Stage::Admit, Stage::Fit, Stage::Think, Stage::Conclude] {
        let desk = || MainAgent::builder("desk", ScriptedModel::new([Line::text("the model's")]));
        let builder = desk().step_before(stage, Ends(json!("mine"))).step_before(Stage::Conclude, Watch("seen"));
        let report = paused(builder.build().unwrap().run("Go", caller())).unwrap().into_report().unwrap();
        assert_eq!(report.text(), "mine", "{stage:?}");
        let said = format!("{:?}", report.conversation);
        assert!(said.contains("mine") && !said.contains("the model's"), "{stage:?}");

        // It is of the agent's answer type, as everybody's is.
        let typed = desk().answer::<u32>().step_before(stage, Ends(json!("mine"))).build().unwrap();
        let failure = paused(typed.run("Go", caller())).unwrap_err();
        assert_eq!(failure.code().as_str(), "policy.invalid_replacement", "{stage:?}");
    }
    let late = MainAgent::builder("desk", ScriptedModel::new([Line::text("the model's")]));
    let late = late.step_after(Stage::Conclude, Ends(json!("mine"))).build().unwrap();
    assert_eq!(paused(late.run("Go", caller())).unwrap_err().code().as_str(), "call.failed");
}

/// Says something for the model to read.
struct Says;

#[async_trait]
impl Step for Says {
    fn name(&self) -> &str {
        "says"
    }
    async fn run(&self, view: &mut StepView<'_>, _: &RunContext) -> Result<Flow, AgentError> {
        view.say("By the way.")?;
        Ok(Flow::Continue)
    }
}

#[test]
fn what_a_step_says_after_fitting_is_sent() {
    for (stage, after) in [(Stage::Fit, false), (Stage::Fit, true), (Stage::Think, false)] {
        let model = ScriptedModel::new([Line::text("done")]);
        let builder = MainAgent::builder("desk", model.clone());
        let builder = if after { builder.step_after(stage, Says) } else { builder.step_before(stage, Says) };
        paused(builder.build().unwrap().run("Go", caller())).unwrap();
        assert!(format!("{:?}", model.requests()).contains("By the way."), "{stage:?}");
    }
}
