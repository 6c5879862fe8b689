//! Runs that wait: for approvals, answers, results and durable calls; nested, in any order, in other processes.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use agent_core::{
    AgentVersion, Answer, AnswerValue, Call, CallResult, Caller, Dispatch, Failure, Limits, MainAgent, PendingId,
    PendingKind, Resume, RunOptions, RunOutcome, RunState, SealKey, Spend, Suspended, Tokens,
};
use serde_json::{Value, json};
use testkit::{FnModel, Line, RecordingAgent, RecordingTool, ScriptedModel, caller, elsewhere, paused, somebody};

fn boss() -> Caller {
    somebody("acme", "sam")
}

fn suspended(outcome: RunOutcome) -> Suspended {
    outcome.into_suspended().unwrap()
}

fn id_of(state: &RunState, text: &str) -> PendingId {
    let found = state.pending().iter().find(|pending| pending.id.to_string().contains(text));
    found.unwrap_or_else(|| panic!("{text} is not in {:?}", state.pending())).id.clone()
}

/// An agent that makes `calls` and then tells the results as JSON.
fn agent(name: &str, calls: Vec<Call>) -> agent_core::MainAgentBuilder {
    let model = FnModel::new(move |request| match request.conversation.entries().last() {
        Some(agent_core::Entry::Agent(turn)) => {
            let results: Vec<Value> = turn.results().iter().map(|result| (*result.to_model_value()).clone()).collect();
            Line::text(&Value::from(results).to_string())
        }
        _ => Line::calls(calls.clone()),
    });
    MainAgent::builder(name, model)
}

fn output(outcome: RunOutcome) -> Value {
    serde_json::from_str(&outcome.into_report().unwrap().text()).unwrap()
}

#[test]
fn an_approved_call_is_made_once_and_a_denied_one_never() {
    let refund = RecordingTool::new("refund").needing_approval();
    let desk = agent("desk", vec![Call::new("refund", json!({"order": "A-1"}))]).tool(refund.clone()).build().unwrap();
    paused(async {
        let waiting = suspended(desk.run("Refund A-1", caller()).await.unwrap());
        let pending = &waiting.state.pending()[0];
        let PendingKind::Approval { what, proposed, .. } = &pending.kind else { panic!("{pending:?}") };
        assert_eq!((&**what, &**proposed), ("refund", &json!({"order": "A-1"})));
        assert!(refund.inputs().is_empty());

        let deny = AnswerValue::Deny("too late".into());
        let denied = Resume::new(elsewhere(&waiting.state), boss()).with_answer(&pending.id, deny);
        let denied = output(desk.resume(denied).await.unwrap());
        assert_eq!(denied, json!([{"error": {"code": "call.denied", "message": "not allowed: too late"}}]));
        assert!(refund.inputs().is_empty());

        let approved = Resume::new(waiting.state.clone(), boss()).with_answer(&pending.id, AnswerValue::Approve);
        assert_eq!(output(desk.resume(approved).await.unwrap()), json!(["ok"]));
        assert_eq!(refund.inputs(), [json!({"order": "A-1"})]);
    });
}

#[test]
fn a_person_may_change_the_arguments_within_the_schema() {
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Refund {
        eur: u32,
    }
    let refund =
        agent_core::tool("refund", "Refunds", async |refund: Refund| Ok::<_, agent_core::CallError>(refund.eur));
    let desk =
        agent("desk", vec![Call::new("refund", json!({"eur": 900}))]).tool(refund.with_approval()).build().unwrap();
    paused(async {
        let waiting = suspended(desk.run("Refund", caller()).await.unwrap());
        let id = waiting.state.pending()[0].id.clone();
        let with = |value| Resume::new(waiting.state.clone(), boss()).with_answer(&id, AnswerValue::ApproveWith(value));
        let failure = desk.resume(with(json!({"eur": "a lot"}))).await.unwrap_err();
        assert_eq!(failure.code().as_str(), "resume.invalid_value");
        assert_eq!(failure.state.as_ref(), Some(&waiting.state));
        assert_eq!(output(desk.resume(with(json!({"eur": 90}))).await.unwrap()), json!([90]));
    });
}

#[test]
fn questions_and_results_from_outside_become_the_calls_results() {
    let ask = RecordingTool::new("ask").waiting(PendingKind::question("Which colour?"));
    let scan = RecordingTool::new("scan").waiting(PendingKind::external("the scan of parcel 7"));
    let calls = vec![Call::new("ask", json!({})), Call::new("scan", json!({}))];
    let desk = agent("desk", calls).tool(ask.clone()).tool(scan.clone()).build().unwrap();
    paused(async {
        let waiting = suspended(desk.run("Go", caller()).await.unwrap());
        assert_eq!(waiting.to_text(), "waits for an answer to: Which colour?\nand for the scan of parcel 7");
        // The customer himself may answer a question.
        let first = Resume::new(elsewhere(&waiting.state), caller())
            .with_answer(&id_of(&waiting.state, "0.0"), AnswerValue::Value(json!("blue")));
        let waiting = suspended(desk.resume(first).await.unwrap());
        assert_eq!(waiting.state.pending().len(), 1);
        let second = Resume::new(elsewhere(&waiting.state), caller())
            .with_answer(&id_of(&waiting.state, "0.1"), AnswerValue::Value(json!({"kg": 2})));
        assert_eq!(output(desk.resume(second).await.unwrap()), json!(["blue", {"kg": 2}]));
        assert_eq!((ask.inputs().len(), scan.inputs().len()), (1, 1), "a tool that waits is not called again");
    });
}

trait ToText {
    fn to_text(&self) -> String;
}

impl ToText for Suspended {
    fn to_text(&self) -> String {
        RunOutcome::Suspended(Box::new(self.clone())).to_string()
    }
}

#[test]
fn a_durable_sub_agent_is_a_wait_with_its_budget_set_aside() {
    let night = agent("night", vec![])
        .dispatch(Dispatch::Durable)
        .limits(Limits::none().with_tokens(Tokens(600)))
        .build()
        .unwrap();
    let hungry = RecordingTool::new("noop");
    let calls = vec![Call::new("night", json!({"request": "Count"})), Call::new("noop", json!({}))];
    let desk = agent("desk", calls).sub_agent(night).tool(hungry).build().unwrap();
    paused(async {
        let options = RunOptions::default().with_limits(Limits::none().with_tokens(Tokens(1_000)));
        let request = agent_core::Request::new("Go").with_options(options);
        let waiting = suspended(desk.run(request, caller()).await.unwrap());
        let PendingKind::DurableCall { agent, limits, input, .. } = &waiting.state.pending()[0].kind else { panic!() };
        assert_eq!((&**agent, limits.tokens, &**input), ("night", Some(Tokens(600)), &json!({"request": "Count"})));
        let spent_before = waiting.spent;
        let returned =
            AnswerValue::Returned { result: CallResult::done(json!("counted")), spent: Spend::model_call(Tokens(250)) };
        let resume =
            Resume::new(elsewhere(&waiting.state), caller()).with_answer(&waiting.state.pending()[0].id, returned);
        let report = desk.resume(resume).await.unwrap().into_report().unwrap();
        assert_eq!(report.text(), "[\"counted\",\"ok\"]");
        let since = report.spent.minus(spent_before);
        assert_eq!((since.model_calls, since.tokens >= Tokens(250)), (2, true), "{since:?}");
    });
}

/// A desk whose first call needs approval, and whose second goes to an agent below which a user-written one asks two things.
fn nested() -> (MainAgent, RecordingTool, RecordingAgent, RecordingTool) {
    let refund = RecordingTool::new("refund").needing_approval();
    let log = RecordingTool::new("log");
    let survey = RecordingAgent::new(
        "survey",
        [("colour", PendingKind::question("Which colour?")), ("size", PendingKind::question("Which size?"))],
    );
    let middle = agent("middle", vec![Call::new("log", json!({"n": 1})), Call::new("survey", json!({"of": "chairs"}))])
        .tool(log.clone())
        .sub_agent(survey.clone())
        .build()
        .unwrap();
    let calls = vec![Call::new("refund", json!({"order": "A-1"})), Call::new("middle", json!({"request": "Survey"}))];
    let desk = agent("desk", calls).tool(refund.clone()).sub_agent(middle).build().unwrap();
    (desk, refund, survey, log)
}

/// What one process leaves in a folder for the next: the state or the answer, and what ran in it.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Life {
    state: Option<RunState>,
    answer: Option<String>,
    spent: Option<Spend>,
    refunds: usize,
    logs: usize,
    surveys: usize,
}

/// Begins the run, or goes on with it after one answer, in a process that ends then.
#[test]
#[ignore = "a process of the next test"]
fn a_life_of_the_nested_run() {
    let Some(file) = std::env::var_os("ADJUTANT_TEST_LIFE") else { return };
    let before: Life = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let (desk, refund, survey, log) = nested();
    let outcome = paused(async {
        let Some(state) = before.state else { return desk.run("Go", caller()).await.unwrap() };
        let (id, value) = match &*before.answer.unwrap() {
            "approval" => (id_of(&state, "approval"), AnswerValue::Approve),
            "colour" => (id_of(&state, "colour"), json!("red").into_value()),
            _ => (id_of(&state, "size"), json!("XL").into_value()),
        };
        desk.resume(Resume::new(state, boss()).with_answer(&id, value)).await.unwrap()
    });
    let (refunds, logs) = (refund.inputs().len(), log.inputs().len());
    let mut after = Life { refunds, logs, surveys: survey.lives().len(), ..Life::default() };
    match outcome {
        RunOutcome::Suspended(waiting) => after.state = Some(waiting.state),
        completed => {
            let report = completed.into_report().unwrap();
            (after.answer, after.spent) = (Some(report.text().into_owned()), Some(report.spent));
        }
    }
    std::fs::write(&file, serde_json::to_vec(&after).unwrap()).unwrap();
}

fn in_a_process_of_its_own(file: &std::path::Path, before: &Life) -> Life {
    std::fs::write(file, serde_json::to_vec(before).unwrap()).unwrap();
    let mut process = std::process::Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", "a_life_of_the_nested_run", "--ignored"]).env("ADJUTANT_TEST_LIFE", file);
    let output = process.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[test]
fn nested_waits_are_answered_one_by_one_in_any_order_in_other_processes_and_nothing_runs_twice() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("nested_waits.json");
    let orders = [
        ["approval", "colour", "size"],
        ["approval", "size", "colour"],
        ["colour", "approval", "size"],
        ["colour", "size", "approval"],
        ["size", "approval", "colour"],
        ["size", "colour", "approval"],
    ];
    let mut spends = Vec::new();
    for order in orders {
        let mut life = in_a_process_of_its_own(&file, &Life::default());
        assert_eq!(life.state.as_ref().unwrap().pending().len(), 3);
        let mut ran = (life.refunds, life.logs, life.surveys);
        for (step, name) in order.into_iter().enumerate() {
            assert_eq!(life.state.as_ref().unwrap().revision(), step as u64 + 1);
            life = in_a_process_of_its_own(&file, &Life { answer: Some(name.to_owned()), ..life });
            ran = (ran.0 + life.refunds, ran.1 + life.logs, ran.2 + life.surveys);
        }
        let text: Value = serde_json::from_str(&life.answer.expect("all is answered")).unwrap();
        let survey_result = "[\"ok\",{\"colour\":\"red\",\"size\":\"XL\"}]";
        assert_eq!(text, json!(["ok", survey_result]), "{order:?}");
        // The effects once; the user-written agent was begun once, and resumed once for each answer of its own.
        assert_eq!(ran, (1, 1, 3), "{order:?}");
        spends.push(life.spent.unwrap());
    }
    assert!(spends.iter().all(|spent| *spent == spends[0]), "{spends:?}");
    assert_eq!((spends[0].model_calls, spends[0].tool_calls), (4, 4));
}

#[test]
fn several_answers_at_once_do_the_same() {
    let (desk, refund, survey, _) = nested();
    paused(async {
        let waiting = suspended(desk.run("Go", caller()).await.unwrap());
        let resume = Resume::new(elsewhere(&waiting.state), boss())
            .with_answer(&id_of(&waiting.state, "approval"), AnswerValue::Approve)
            .with_answer(&id_of(&waiting.state, "colour"), json!("red").into_value())
            .with_answer_by(caller(), &id_of(&waiting.state, "size"), json!("XL").into_value());
        assert!(matches!(desk.resume(resume).await.unwrap(), RunOutcome::Completed(_)));
        assert_eq!((refund.inputs().len(), survey.lives().len()), (1, 2));
    });
}

trait IntoValue {
    fn into_value(self) -> AnswerValue;
}

impl IntoValue for Value {
    fn into_value(self) -> AnswerValue {
        AnswerValue::Value(self)
    }
}

fn refused(desk: &MainAgent, resume: Resume, code: &str) -> Failure {
    let state = resume.state.clone();
    let failure = *paused(desk.resume(resume)).unwrap_err();
    assert_eq!(failure.code().as_str(), code, "{failure}");
    assert_eq!(failure.state.as_ref(), Some(&state), "nothing changed");
    failure
}

#[test]
fn wrong_answers_are_typed_errors_that_change_nothing() {
    let (desk, refund, survey, _) = nested();
    let waiting = suspended(paused(desk.run("Go", caller())).unwrap());
    let state = || elsewhere(&waiting.state);
    let approval = id_of(&waiting.state, "approval");
    let colour = id_of(&waiting.state, "colour");
    let resume = |by: Caller, id: &PendingId, value: AnswerValue| Resume::new(state(), by).with_answer(id, value);
    let yes = || AnswerValue::Approve;

    refused(&desk, resume(boss(), &colour, yes()), "resume.wrong_kind");
    refused(&desk, resume(boss(), &approval, json!(1).into_value()), "resume.wrong_kind");
    refused(&desk, resume(caller(), &approval, yes()), "resume.not_allowed");
    refused(&desk, resume(somebody("evil", "sam"), &approval, yes()), "resume.other_tenant");
    refused(
        &desk,
        Resume::new(state(), boss()).with_answer_by(somebody("evil", "sam"), &approval, yes()),
        "resume.other_tenant",
    );
    refused(&desk, Resume::new(state(), boss()), "resume.nothing_to_do");
    let twice = resume(boss(), &approval, yes()).with_answer(&approval, AnswerValue::Deny("no".into()));
    refused(&desk, twice, "resume.already_answered");
    let elsewhere_in_run = PendingId::new(approval.run, "/0.1".parse().unwrap(), "approval-1");
    refused(&desk, resume(boss(), &elsewhere_in_run, yes()), "resume.not_pending");
    let other_name = PendingId::new(approval.run, approval.path.clone(), "approval-2");
    refused(&desk, resume(boss(), &other_name, yes()), "resume.not_pending");
    let other_run = PendingId::new(agent_core::RunId::random(), approval.path.clone(), "approval-1");
    refused(&desk, resume(boss(), &other_run, yes()), "resume.other_run");
    // One wrong answer among right ones: none is taken.
    let mixed = resume(boss(), &approval, yes()).with_answer(&colour, yes());
    refused(&desk, mixed, "resume.wrong_kind");
    assert!(refund.inputs().is_empty() && survey.lives().len() == 1);

    let next = suspended(paused(desk.resume(resume(boss(), &colour, json!("red").into_value()))).unwrap());
    let again = Resume::new(next.state, boss()).with_answer(&colour, json!("blue").into_value());
    refused(&desk, again, "resume.already_answered");
}

#[test]
fn a_question_with_a_schema_takes_only_what_fits() {
    let kind = PendingKind::Question {
        question: "How many?".into(),
        schema: Some(std::sync::Arc::new(json!({"type": "integer", "minimum": 1}))),
    };
    let ask = RecordingTool::new("ask").waiting(kind);
    let desk = agent("desk", vec![Call::new("ask", json!({}))]).tool(ask).build().unwrap();
    let waiting = suspended(paused(desk.run("Go", caller())).unwrap());
    let id = &waiting.state.pending()[0].id;
    let with = |value: Value| Resume::new(waiting.state.clone(), caller()).with_answer(id, value.into_value());
    let failure = refused(&desk, with(json!(0)), "resume.invalid_value");
    assert!(failure.to_string().contains("less than the minimum of 1"), "{failure}");
    assert_eq!(output(paused(desk.resume(with(json!(3)))).unwrap()), json!([3]));
}

#[test]
fn a_state_of_another_agent_or_version_is_refused_unless_it_is_brought_over() {
    let refund = RecordingTool::new("refund").needing_approval();
    let build = |name: &str, version: &str| {
        agent(name, vec![Call::new("refund", json!({}))])
            .version(AgentVersion::new(version).unwrap())
            .tool(refund.clone())
    };
    let waiting = suspended(paused(build("desk", "1").build().unwrap().run("Go", caller())).unwrap());
    let resume = || {
        Resume::new(elsewhere(&waiting.state), boss()).with_answer(&waiting.state.pending()[0].id, AnswerValue::Approve)
    };
    refused(&build("shop", "1").build().unwrap(), resume(), "state.other_agent");
    let failure = refused(&build("desk", "2").build().unwrap(), resume(), "state.other_version");
    assert_eq!(failure.to_string(), "the state is of version 1 of agent `desk`, this is version 2");
    let migrating = build("desk", "2").migrate(|mut state| {
        state.version = AgentVersion::new("2").unwrap();
        Ok(state)
    });
    assert_eq!(output(paused(migrating.build().unwrap().resume(resume())).unwrap()), json!(["ok"]));
    let lying = build("desk", "3").migrate(Ok);
    refused(&lying.build().unwrap(), resume(), "state.other_version");
}

#[test]
fn a_suspended_child_of_another_version_is_refused_before_anything_happens() {
    let refund = RecordingTool::new("refund").needing_approval();
    let build = |version: &str| {
        let child = RecordingAgent::new("survey", [("colour", PendingKind::question("Which colour?"))])
            .with_card(|card| card.with_version(AgentVersion::new(version).unwrap()));
        let calls = vec![Call::new("refund", json!({})), Call::new("survey", json!({}))];
        agent("desk", calls).tool(refund.clone()).sub_agent(child).build().unwrap()
    };
    let waiting = suspended(paused(build("1").run("Go", caller())).unwrap());
    let resume = Resume::new(elsewhere(&waiting.state), boss())
        .with_answer(&id_of(&waiting.state, "approval"), AnswerValue::Approve)
        .with_answer(&id_of(&waiting.state, "colour"), json!("red").into_value());
    let failure = paused(build("2").resume(resume)).unwrap_err();
    assert_eq!(failure.code().as_str(), "state.other_version");
    assert!(refund.inputs().is_empty());
    // The answers were taken; the right version goes on from the state that came back, without them.
    let again = Resume::new(elsewhere(failure.state.as_ref().unwrap()), boss());
    assert_eq!(output(paused(build("1").resume(again)).unwrap()), json!(["ok", {"colour": "red"}]));
}

#[test]
fn a_function_that_is_gone_becomes_a_result_that_says_so() {
    let refund = RecordingTool::new("refund").needing_approval();
    let with = agent("desk", vec![Call::new("refund", json!({}))]).tool(refund).build().unwrap();
    let without = agent("desk", vec![]).tool(RecordingTool::new("other")).build().unwrap();
    let waiting = suspended(paused(with.run("Go", caller())).unwrap());
    let resume =
        Resume::new(waiting.state.clone(), boss()).with_answer(&waiting.state.pending()[0].id, AnswerValue::Approve);
    let result = output(paused(without.resume(resume)).unwrap());
    assert_eq!(result[0]["error"]["code"], "call.function_gone");
}

#[test]
fn a_drained_run_goes_on_without_an_answer() {
    let slow = RecordingTool::new("slow").returning_after(std::time::Duration::from_secs(1), json!("slow"));
    let desk = agent("desk", vec![Call::new("slow", json!({}))]).tool(slow.clone()).build().unwrap();
    paused(async {
        let handle = desk.start("Go", caller());
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        handle.drain();
        let drained = suspended(handle.join().await.unwrap());
        assert!(drained.state.is_runnable() && drained.state.pending().is_empty());
        assert_eq!(slow.completed(), 1, "what is in flight ends");
        let outcome = desk.resume(Resume::new(elsewhere(&drained.state), caller())).await.unwrap();
        assert_eq!(output(outcome), json!(["slow"]));
        assert_eq!(slow.inputs().len(), 1);
    });
}

#[test]
fn a_failed_run_can_be_tried_again_from_where_it_failed() {
    let refund = RecordingTool::new("refund");
    let model = ScriptedModel::new([
        Line::call("refund", json!({})),
        Line::fails(agent_core::ModelErrorClass::Unavailable),
        Line::text("Refunded."),
    ]);
    let desk = MainAgent::builder("desk", model).tool(refund.clone()).build().unwrap();
    paused(async {
        let failure = desk.run("Refund", caller()).await.unwrap_err();
        assert!(failure.retryable());
        assert_eq!(failure.conversation.entries().len(), 2, "the work done is in it");
        let again = Resume::new(elsewhere(failure.state.as_ref().unwrap()), caller());
        let report = desk.resume(again).await.unwrap().into_report().unwrap();
        assert_eq!((report.text().as_ref(), refund.inputs().len()), ("Refunded.", 1));
        assert_eq!(report.spent.model_calls, 3);
    });
}

#[test]
fn a_sealed_state_opens_only_unchanged_and_with_its_key() {
    let (desk, ..) = nested();
    let state = suspended(paused(desk.run("Go", caller())).unwrap()).state;
    let key = SealKey::new([7; 32]);
    let token = state.seal(&key).unwrap();
    assert_eq!(RunState::open(&token, &key).unwrap(), state);
    let code = |token: &str, key: &SealKey| RunState::open(token, key).unwrap_err().code().as_str().to_owned();
    assert_eq!(code(&token, &SealKey::new([8; 32])), "seal.forged");
    for place in (0..token.len()).step_by(7).filter(|place| token.as_bytes()[*place] != b'.') {
        let mut bytes = token.clone().into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        let code = code(std::str::from_utf8(&bytes).unwrap(), &key);
        assert!(code == "seal.forged" || code == "seal.malformed", "{place}: {code}");
    }
    for broken in ["", ".", "abc", "a.b.c", "!!.!!"] {
        assert!(["seal.malformed", "seal.forged"].contains(&code(broken, &key).as_str()));
    }
    assert_eq!(format!("{key:?}"), "SealKey(..)");
}

#[test]
fn the_active_time_of_a_suspended_run_stands_still() {
    let ask = RecordingTool::new("ask").waiting(PendingKind::question("?"));
    let slow = RecordingTool::new("slow").returning_after(std::time::Duration::from_secs(4), json!(1));
    let desk = agent("desk", vec![Call::new("ask", json!({})), Call::new("slow", json!({}))]).tool(ask).tool(slow);
    let desk = desk.limits(Limits::none().with_time(std::time::Duration::from_secs(10))).build().unwrap();
    paused(async {
        let waiting = suspended(desk.run("Go", caller()).await.unwrap());
        assert_eq!(waiting.state.time_left().unwrap().as_secs(), 6);
        tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
        let resume = Resume::new(waiting.state.clone(), caller())
            .with_answer(&waiting.state.pending()[0].id, json!(1).into_value());
        assert_eq!(output(desk.resume(resume).await.unwrap()), json!([1, 1]));
    });
}

#[test]
fn answers_serialise() {
    let id = PendingId::new(agent_core::RunId::random(), "/0.1/2.0".parse().unwrap(), "result");
    for value in [
        AnswerValue::Approve,
        AnswerValue::ApproveWith(json!({"eur": 1})),
        AnswerValue::Deny("no".into()),
        AnswerValue::Value(json!(1)),
        AnswerValue::Returned { result: CallResult::done(json!(1)), spent: Spend::ZERO },
    ] {
        let answer = Answer::new(id.clone(), boss(), value);
        assert_eq!(serde_json::from_value::<Answer>(serde_json::to_value(&answer).unwrap()).unwrap(), answer);
    }
}

#[test]
fn an_agent_that_asks_again_under_an_answered_name_is_told_so() {
    /// Never satisfied.
    struct Asks(agent_core::AgentCard);

    #[agent_core::async_trait]
    impl agent_core::SubAgent for Asks {
        fn card(&self) -> &agent_core::AgentCard {
            &self.0
        }
        async fn run(
            &self,
            _: agent_core::Begin,
            cx: &agent_core::RunContext,
        ) -> Result<agent_core::Outcome, agent_core::AgentError> {
            let state = agent_core::AgentState::new(&self.0, 1, Value::Null);
            let pending = vec![cx.pending("a", PendingKind::question("Well?"))];
            Ok(agent_core::Outcome::Suspended(agent_core::Suspension::waiting(state, pending)))
        }
    }
    let function = agent_core::FunctionSpec::new("asks", "Asks", agent_core::Schema::object());
    let asks = Asks(agent_core::AgentCard::new(function));
    let desk = agent("desk", vec![Call::new("asks", json!({}))]).sub_agent(asks).build().unwrap();
    let state = paused(desk.run("Go", caller())).unwrap().into_suspended().unwrap().state;
    let resume = Resume::new(elsewhere(&state), boss()).with_answer(&state.pending()[0].id, json!("no").into_value());
    let report = paused(desk.resume(resume)).unwrap().into_report().unwrap();
    assert!(report.text().contains("call.invalid_suspension"), "{}", report.text());
}

#[test]
fn the_id_of_a_wait_is_read_as_it_is_written() {
    let (desk, ..) = nested();
    let state = paused(desk.run("Go", caller())).unwrap().into_suspended().unwrap().state;
    for pending in state.pending() {
        assert_eq!(pending.id.to_string().parse::<PendingId>().unwrap(), pending.id);
    }
    for text in
        ["", ":", "/0.0:a", "01a207bb-02a1-7540-b057-1a0229971c4d:a", "01a207bb-02a1-7540-b057-1a0229971c4d/x:a"]
    {
        assert!(text.parse::<PendingId>().is_err(), "{text}");
    }
}

#[test]
fn a_state_that_contradicts_itself_is_refused() {
    let (desk, refund, ..) = nested();
    let state = paused(desk.run("Go", caller())).unwrap().into_suspended().unwrap().state;
    let good = serde_json::to_value(&state).unwrap();
    let changes: [(&str, Value); 4] = [
        ("/suspension/state/body/step", json!("conclude")),
        ("/suspension/state/body/step", json!("end")),
        ("/suspension/pending", json!([])),
        ("/suspension/state/body/open/slots", json!([])),
    ];
    for (place, value) in changes {
        let mut bad = good.clone();
        *bad.pointer_mut(place).unwrap() = value;
        bad["suspension"]["runnable"] = json!(true);
        let bad: RunState = serde_json::from_value(bad).unwrap();
        refused(&desk, Resume::new(bad, boss()), "state.unreadable");
    }
    assert!(refund.inputs().is_empty());
}
