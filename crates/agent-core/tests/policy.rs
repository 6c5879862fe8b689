//! What a policy decides, and that it is asked about everything.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use agent_core::{
    Action, AnswerValue, Call, Caller, Decision, MainAgent, Pending, PendingKind, Policy, Resume, RunContext,
    RunOutcome, async_trait,
};
use serde_json::{Value, json};
use testkit::{Line, Recorder, RecordingTool, ScriptedModel, caller, paused, somebody, story};

/// Decides on what, which value, and who agreed to it.
type Decide = dyn Fn(&str, &Value, &[Caller]) -> Decision + Send + Sync;

/// A policy that asks a function, and keeps what it was asked.
#[derive(Clone)]
struct Asking {
    decide: Arc<Decide>,
    asked: Arc<Mutex<Vec<String>>>,
    may_answer: fn(&Pending, &Caller) -> bool,
}

fn asking(decide: impl Fn(&str, &Value, &[Caller]) -> Decision + Send + Sync + 'static) -> Asking {
    Asking { decide: Arc::new(decide), asked: Arc::default(), may_answer: |_, _| true }
}

#[async_trait]
impl Policy for Asking {
    async fn decide(&self, action: Action<'_>, cx: &RunContext) -> Decision {
        let (what, value, approved_by) = match action {
            Action::Request { message, approved_by } => {
                ("request".to_owned(), Value::from(message.joined_text()), approved_by)
            }
            Action::Call { function, arguments, approved_by } => {
                (function.name.to_string(), arguments.clone(), approved_by)
            }
            Action::Answer { answer, approved_by } => ("answer".to_owned(), answer.clone(), approved_by),
            _ => return Decision::Allow,
        };
        let users: Vec<&str> = approved_by.iter().map(|by| by.user.as_str()).collect();
        self.asked
            .lock()
            .unwrap()
            .push(format!("{} {what} {value} {}", cx.caller().user, users.join("+")).trim().to_owned());
        (self.decide)(&what, &value, approved_by)
    }

    fn may_answer(&self, pending: &Pending, by: &Caller) -> bool {
        (self.may_answer)(pending, by)
    }
}

fn desk(policy: Asking, tool: &RecordingTool) -> (MainAgent, ScriptedModel) {
    let model = ScriptedModel::new([Line::call("pay", json!({"eur": 5})), Line::text("Paid.")]);
    let desk = MainAgent::builder("desk", model.clone()).tool(tool.clone()).policy(policy).build().unwrap();
    (desk, model)
}

#[test]
fn the_request_every_call_and_the_answer_are_asked_about() {
    let (policy, tool) = (asking(|_, _, _| Decision::Allow), RecordingTool::new("pay"));
    paused(desk(policy.clone(), &tool).0.run("Pay", caller())).unwrap();
    assert_eq!(*policy.asked.lock().unwrap(), ["ann request \"Pay\"", "ann pay {\"eur\":5}", "ann answer \"Paid.\""]);
}

#[test]
fn a_denied_request_asks_no_model_and_a_denied_answer_leaves_the_work_done() {
    let deny = |on: &'static str| {
        asking(move |what, _, _| if what == on { Decision::Deny("forbidden".into()) } else { Decision::Allow })
    };
    let tool = RecordingTool::new("pay");
    let (agent, model) = desk(deny("request"), &tool);
    let failure = paused(agent.run("Pay", caller())).unwrap_err();
    assert_eq!((failure.code().as_str(), failure.to_string().as_str()), ("policy.denied", "not allowed: forbidden"));
    assert!(model.requests().is_empty() && failure.conversation.entries().is_empty() && failure.state.is_none());

    let (agent, _) = desk(deny("answer"), &tool);
    let failure = paused(agent.run("Pay", caller())).unwrap_err();
    assert_eq!((failure.code().as_str(), tool.inputs().len()), ("policy.denied", 1));
    assert_eq!(failure.conversation.entries().len(), 2, "the denied answer is not in it");

    let (agent, _) = desk(deny("pay"), &RecordingTool::new("pay"));
    let report = paused(agent.run("Pay", caller())).unwrap().into_report().unwrap();
    assert!(format!("{:?}", report.conversation).contains("not allowed: forbidden"));
}

#[test]
fn replaced_values_are_used_and_checked_again() {
    let policy = asking(|what, value, _| match (what, value.as_str()) {
        ("request", Some("Pay")) => Decision::Replace(json!("Pay kindly")),
        ("pay", _) if *value == json!({"eur": 5}) => Decision::Replace(json!({"eur": 4})),
        ("answer", Some("Paid.")) => Decision::Replace(json!("Paid with thanks.")),
        _ => Decision::Allow,
    });
    let tool = RecordingTool::new("pay");
    let (agent, model) = desk(policy.clone(), &tool);
    let report = paused(agent.run("Pay", caller())).unwrap().into_report().unwrap();
    assert_eq!((report.text().as_ref(), tool.inputs()), ("Paid with thanks.", vec![json!({"eur": 4})]));
    assert_eq!(model.requests()[0].conversation.last_user_message().unwrap().joined_text(), "Pay kindly");
    assert_eq!(policy.asked.lock().unwrap().len(), 6, "each was asked about again");

    let invalid = asking(|what, _, _| if what == "pay" { Decision::Replace(json!([])) } else { Decision::Allow });
    let tool = RecordingTool::new("pay");
    let report = paused(desk(invalid, &tool).0.run("Pay", caller())).unwrap().into_report().unwrap();
    assert!(tool.inputs().is_empty() && format!("{:?}", report.conversation).contains("call.invalid_arguments"));
}

#[test]
fn a_policy_that_never_stops_replacing_is_stopped() {
    let endless = asking(|what, value, _| match what {
        "pay" => Decision::Replace(json!({"eur": value["eur"].as_u64().unwrap() + 1})),
        _ => Decision::Allow,
    });
    let tool = RecordingTool::new("pay");
    let report = paused(desk(endless, &tool).0.run("Pay", caller())).unwrap().into_report().unwrap();
    assert!(tool.inputs().is_empty() && format!("{:?}", report.conversation).contains("did not decide"));
}

/// Four eyes, twice: two different people, neither of them the caller.
fn two_people() -> Asking {
    let mut policy = asking(|what, _, approved_by| match (what, approved_by.len()) {
        ("pay", 0 | 1) => Decision::Ask("two people have to agree".into()),
        _ => Decision::Allow,
    });
    policy.may_answer = |pending, by| {
        let PendingKind::Approval { approved_by, .. } = &pending.kind else { return true };
        by.user != pending.requested_by.user && !approved_by.iter().any(|earlier| earlier.user == by.user)
    };
    policy
}

#[test]
fn after_an_approval_the_policy_is_asked_again() {
    let tool = RecordingTool::new("pay");
    let (agent, _) = desk(two_people(), &tool);
    let answer = |outcome: RunOutcome, by: &str, value: AnswerValue| {
        let state = outcome.into_suspended().unwrap().state;
        let id = state.pending()[0].id.clone();
        paused(agent.resume(Resume::new(state, somebody("acme", by)).with_answer(&id, value)))
    };
    let waiting = paused(agent.run("Pay", caller())).unwrap();
    assert_eq!(answer(waiting.clone(), "ann", AnswerValue::Approve).unwrap_err().code().as_str(), "resume.not_allowed");
    let waiting = answer(waiting, "bob", AnswerValue::Approve).unwrap();
    assert_eq!(answer(waiting.clone(), "bob", AnswerValue::Approve).unwrap_err().code().as_str(), "resume.not_allowed");
    // Changed arguments: the first person's consent was to others, and is not counted.
    let waiting = answer(waiting, "sam", AnswerValue::ApproveWith(json!({"eur": 3}))).unwrap();
    assert!(tool.inputs().is_empty());
    let done = answer(waiting, "bob", AnswerValue::Approve).unwrap();
    assert_eq!((done.to_string().as_str(), tool.inputs()), ("Paid.", vec![json!({"eur": 3})]));
}

#[test]
fn consent_does_not_survive_a_replacement() {
    let policy = asking(|what, value, approved_by| match (what, value["eur"].as_u64()) {
        ("pay", Some(5)) if approved_by.is_empty() => Decision::Ask("much".into()),
        ("pay", Some(5)) => Decision::Replace(json!({"eur": 500})),
        ("pay", _) if approved_by.is_empty() => Decision::Ask("more".into()),
        _ => Decision::Allow,
    });
    let tool = RecordingTool::new("pay");
    let (agent, _) = desk(policy, &tool);
    paused(async {
        let waiting = agent.run("Pay", caller()).await.unwrap().into_suspended().unwrap();
        let resume = |state: agent_core::RunState| {
            let id = state.pending()[0].id.clone();
            Resume::new(state, somebody("acme", "sam")).with_answer(&id, AnswerValue::Approve)
        };
        let again = agent.resume(resume(waiting.state)).await.unwrap().into_suspended().unwrap();
        assert!(tool.inputs().is_empty(), "nobody agreed to 500");
        agent.resume(resume(again.state)).await.unwrap();
        assert_eq!(tool.inputs(), [json!({"eur": 500})]);
    });
}

#[test]
fn requests_and_answers_can_wait_for_a_person() {
    let policy = asking(|what, _, approved_by| match what {
        "request" | "answer" if approved_by.is_empty() => Decision::Ask(format!("{what} needs a look")),
        _ => Decision::Allow,
    });
    let (agent, model) = desk(policy, &RecordingTool::new("pay"));
    let recorder = Recorder::new();
    paused(async {
        let waiting = agent.run("Pay", caller()).await.unwrap().into_suspended().unwrap();
        assert!(model.requests().is_empty());
        let resume = |state: agent_core::RunState, value| {
            let id = state.pending()[0].id.clone();
            let options = agent_core::RunOptions::default().with_observer(recorder.clone());
            Resume::new(state, caller()).with_answer(&id, value).with_options(options)
        };
        let text = AnswerValue::ApproveWith(json!("Pay five"));
        let waiting = agent.resume(resume(waiting.state, text)).await.unwrap().into_suspended().unwrap();
        assert_eq!(model.requests()[0].conversation.last_user_message().unwrap().joined_text(), "Pay five");
        let edited = AnswerValue::ApproveWith(json!("It is paid."));
        let report = agent.resume(resume(waiting.state, edited)).await.unwrap().into_report().unwrap();
        assert_eq!(
            (report.text().as_ref(), report.provenance.fallback_path().as_str()),
            ("It is paid.", "model>human")
        );
        assert_eq!(report.conversation.entries().len(), 3);
    });
    let story = story(recorder.events());
    assert!(story.contains(&"/ policy: Ask answer".to_owned()), "{story:#?}");
}

#[test]
fn a_nested_agents_policy_is_asked_beside_the_runs_and_about_who_may_answer() {
    let strict = {
        let mut policy = asking(|what, _, approved_by| match what {
            "pay" if approved_by.is_empty() => Decision::Ask("the inner policy asks".into()),
            _ => Decision::Allow,
        });
        policy.may_answer = |_, by| by.user.as_str() == "cfo";
        policy
    };
    let outer = asking(|_, _, _| Decision::Allow);
    let tool = RecordingTool::new("pay");
    let (child, _) = desk(strict, &tool);
    let model = ScriptedModel::new([Line::calls([Call::new("desk", json!({"request": "Pay"}))]), Line::text("ok")]);
    let main = MainAgent::builder("main", model).sub_agent(child).policy(outer.clone()).build().unwrap();
    paused(async {
        let waiting = main.run("Pay", caller()).await.unwrap().into_suspended().unwrap();
        assert!(
            outer.asked.lock().unwrap().contains(&"ann pay {\"eur\":5}".to_owned()),
            "the run's policy holds below"
        );
        let id = waiting.state.pending()[0].id.clone();
        let by =
            |user| Resume::new(waiting.state.clone(), somebody("acme", user)).with_answer(&id, AnswerValue::Approve);
        assert_eq!(main.resume(by("sam")).await.unwrap_err().code().as_str(), "resume.not_allowed");
        assert_eq!(main.resume(by("cfo")).await.unwrap().to_string(), "ok");
        assert_eq!(tool.inputs().len(), 1);
    });
}

#[test]
fn a_caller_without_a_needed_role_is_denied() {
    let role = agent_core::Role::new("refunds:write").unwrap();
    let tool = RecordingTool::new("pay").with_spec(|spec| spec.with_required_role(role));
    let model = ScriptedModel::new(std::iter::repeat_n([Line::call("pay", json!({})), Line::text("ok")], 2).flatten());
    let agent = MainAgent::builder("desk", model).tool(tool.clone()).build().unwrap();
    paused(agent.run("Pay", caller())).unwrap();
    assert!(tool.inputs().is_empty());
    paused(agent.run("Pay", caller().with_role("refunds:write").unwrap())).unwrap();
    assert_eq!(tool.inputs().len(), 1);
}

#[test]
fn a_policy_that_panics_ends_the_run_and_not_the_calls_beside_it() {
    let panics = asking(|what, _, _| if what == "bad" { panic!("a bug of the host's") } else { Decision::Allow });
    let calls = ["good", "bad"].map(|name| agent_core::Call::new(name, json!({})));
    let good = RecordingTool::new("good").returning_after(std::time::Duration::from_secs(5), json!("ok"));
    let desk = MainAgent::builder("desk", ScriptedModel::new([Line::calls(calls)]))
        .tool(good.clone())
        .tool(RecordingTool::new("bad"))
        .policy(panics)
        .build()
        .unwrap();
    let failure = paused(desk.run("Go", caller())).unwrap_err();
    assert_eq!((failure.code().as_str(), good.completed()), ("run.panicked", 1));
}

#[test]
fn replacing_with_the_same_is_to_allow() {
    let same = asking(|what, _, _| match what {
        "request" => Decision::Replace(json!("Pay")),
        "pay" => Decision::Replace(json!({"eur": 5})),
        _ => Decision::Replace(json!("Paid.")),
    });
    let tool = RecordingTool::new("pay");
    let report = paused(desk(same, &tool).0.run("Pay", caller())).unwrap();
    assert_eq!((report.to_string().as_str(), tool.inputs().len()), ("Paid.", 1));
}
