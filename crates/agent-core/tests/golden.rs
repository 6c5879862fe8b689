//! Saved formats: every file here was written once and has to be read, resumed and written back for ever.
//!
//! `ADJUTANT_WRITE_FIXTURES=1` writes the files that are missing. A file that exists is never written again: a new format gets
//! files of its own.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent_core::{
    Action, AgentError, AnswerValue, Attachment, Attempt, Bounds, Call, CallError, CallResult, Caller, ChatModel,
    ChatRequest, Chunk, Conversation, Decision, Dispatch, Effect, Finish, Flow, Limits, MainAgent, Metering,
    ModelError, ModelErrorClass, ModelInfo, ModelStream, Opaque, Pending, PendingKind, Policy, Reasoning, Recovered,
    Recovery, Replied, Reply, ReplyPart, Resume, RouteDecision, RouteOutcome, RouteRequest, Routed, Router, RunContext,
    RunOutcome, RunState, Spend, Stage, Step, StepView, Tokens, ToolOutput, Usage, UserMessage, async_trait, sub_agent,
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use testkit::{FnModel, Line, RecordingAgent, RecordingTool, caller, paused, somebody};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn read_or_write(name: &str, write: impl FnOnce() -> Value) -> Value {
    if !file(name).exists() && std::env::var_os("ADJUTANT_WRITE_FIXTURES").is_some() {
        std::fs::write(file(name), format!("{:#}\n", write())).unwrap();
    }
    let text = std::fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// An agent that makes `calls` and then tells the results.
fn agent(calls: Vec<Call>) -> agent_core::MainAgentBuilder {
    let model = FnModel::new(move |request| match request.conversation.entries().last() {
        Some(agent_core::Entry::Agent(turn)) => {
            let results: Vec<Value> = turn.results().iter().map(|result| (*result.to_model_value()).clone()).collect();
            Line::text(&Value::from(results).to_string())
        }
        _ => Line::calls(calls.clone()),
    });
    MainAgent::builder("desk", model)
        .limits(Limits::none().with_tokens(Tokens(100_000)).with_time(Duration::from_secs(60)))
}

fn waiting(desk: &MainAgent) -> Value {
    let outcome = paused(desk.run("Go", caller())).unwrap();
    serde_json::to_value(outcome.into_suspended().unwrap().state).unwrap()
}

/// The state after an answer to the first of what it waits for.
fn answered_once(desk: &MainAgent) -> Value {
    paused(async {
        let waiting = desk.run("Go", caller()).await.unwrap().into_suspended().unwrap();
        let resume = Resume::new(waiting.state.clone(), caller());
        let resume = resume.with_answer(&waiting.state.pending()[0].id, AnswerValue::Value(json!("first")));
        serde_json::to_value(desk.resume(resume).await.unwrap().into_suspended().unwrap().state).unwrap()
    })
}

/// Reads the state in a file, checks that it is written back as it was, and answers all that it waits for.
fn check(name: &str, desk: &MainAgent, write: impl FnOnce() -> Value, expected: &str) {
    let saved = read_or_write(name, write);
    let state: RunState = serde_json::from_value(saved.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(serde_json::to_value(&state).unwrap(), saved, "{name} is written back as it was");
    let sam = somebody("acme", "sam");
    let answers = state.pending().iter().fold(Resume::new(state.clone(), sam), |resume, pending| {
        let value = match &pending.kind {
            PendingKind::Approval { .. } => AnswerValue::Approve,
            PendingKind::DurableCall { .. } => AnswerValue::Returned {
                result: CallResult::done(json!("returned")),
                spent: Spend::model_call(Tokens(9)),
            },
            _ => AnswerValue::Value(json!("answered")),
        };
        resume.with_answer(&pending.id, value)
    });
    let outcome = paused(desk.resume(answers)).unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
    assert_eq!(outcome.to_string(), expected, "{name}");
}

#[test]
fn calls_that_wait_or_are_settled() {
    let night =
        MainAgent::builder("night", FnModel::new(|_| Line::text("x"))).dispatch(Dispatch::Durable).build().unwrap();
    let calls = ["echo", "pay", "ask", "scan"].map(|name| Call::new(name, json!({"n": 1})));
    let calls = calls.into_iter().chain([Call::new("night", json!({"request": "Count"}))]).collect();
    let desk = agent(calls)
        .tool(RecordingTool::new("echo"))
        .tool(RecordingTool::new("pay").needing_approval())
        .tool(RecordingTool::new("ask").waiting(PendingKind::question("Which?")))
        .tool(RecordingTool::new("scan").waiting(PendingKind::external("the scan")))
        .sub_agent(night)
        .build()
        .unwrap();
    let expected = "[\"ok\",\"ok\",\"answered\",\"answered\",\"returned\"]";
    check("run_state_v1_waiting_calls.json", &desk, || waiting(&desk), expected);
}

#[test]
fn a_suspended_child_that_was_answered_in_part() {
    let survey =
        RecordingAgent::new("survey", [("one", PendingKind::question("One?")), ("two", PendingKind::question("Two?"))]);
    let desk = agent(vec![Call::new("survey", json!({}))]).sub_agent(survey).build().unwrap();
    check("run_state_v1_child.json", &desk, || answered_once(&desk), "[{\"one\":\"first\",\"two\":\"answered\"}]");
}

#[test]
fn a_drained_turn_with_a_call_that_was_not_begun() {
    let slow = RecordingTool::new("slow").returning_after(Duration::from_secs(1), json!("slow"));
    let calls = vec![Call::new("slow", json!({"n": 1})), Call::new("slow", json!({"n": 2}))];
    let desk = agent(calls).bounds(Bounds::default().with_in_flight(1)).tool(slow).build().unwrap();
    let write = || {
        paused(async {
            let handle = desk.start("Go", caller());
            tokio::time::sleep(Duration::from_millis(500)).await;
            handle.drain();
            serde_json::to_value(handle.join().await.unwrap().into_suspended().unwrap().state).unwrap()
        })
    };
    check("run_state_v1_ready.json", &desk, write, "[\"slow\",\"slow\"]");
}

#[test]
fn a_call_of_unknown_outcome() {
    struct Amnesiac;
    #[async_trait]
    impl agent_core::Journal for Amnesiac {
        async fn begin(&self, _: &agent_core::CallKey) -> Result<agent_core::Begun, agent_core::JournalError> {
            Ok(agent_core::Begun::Unknown)
        }
        async fn finish(&self, _: &agent_core::CallKey, _: &CallResult) -> Result<(), agent_core::JournalError> {
            Ok(())
        }
    }
    let desk =
        agent(vec![Call::new("pay", json!({}))]).tool(RecordingTool::new("pay")).journal(Amnesiac).build().unwrap();
    check("run_state_v1_unknown_outcome.json", &desk, || waiting(&desk), "[\"answered\"]");
}

/// A run whose calls are stopped in the middle: of a tool, and of an agent below this one.
#[test]
fn calls_that_were_stopped_in_flight() {
    let slow = || RecordingTool::new("slow").returning_after(Duration::from_secs(9), json!("slow"));
    let child = FnModel::new(|_| Line::call("slow", json!({"n": 1})));
    let child = MainAgent::builder("child", child).tool(slow()).build().unwrap();
    let calls = vec![Call::new("slow", json!({"n": 2})), Call::new("child", json!({"request": "Go"}))];
    let desk = agent(calls).tool(slow()).sub_agent(child).build().unwrap();
    let write = || {
        paused(async {
            let handle = desk.start("Go", caller());
            tokio::time::sleep(Duration::from_secs(1)).await;
            handle.cancel();
            serde_json::to_value(handle.join().await.unwrap_err().state.unwrap()).unwrap()
        })
    };
    check(
        "run_state_v1_stopped.json",
        &desk,
        write,
        "waits for word on whether `slow` happened\nand for word on whether `slow` happened",
    );
}

/// A Sub-Agent with effects that was stopped when it went on with an answer.
#[test]
fn an_agent_of_unknown_outcome() {
    let survey = RecordingAgent::new("survey", [("one", PendingKind::question("One?"))]);
    let desk = agent(vec![Call::new("survey", json!({}))]).sub_agent(survey).journal(Forgets).build().unwrap();
    check("run_state_v1_unknown_agent.json", &desk, || answered_once(&desk), "[\"answered\"]");
}

/// A journal that knows of every later beginning of a call, and of no result.
struct Forgets;

#[async_trait]
impl agent_core::Journal for Forgets {
    async fn begin(&self, key: &agent_core::CallKey) -> Result<agent_core::Begun, agent_core::JournalError> {
        Ok(if key.attempt == 0 { agent_core::Begun::Fresh } else { agent_core::Begun::Unknown })
    }
    async fn finish(&self, _: &agent_core::CallKey, _: &CallResult) -> Result<(), agent_core::JournalError> {
        Ok(())
    }
}

struct AskFirst;

#[async_trait]
impl Step for AskFirst {
    fn name(&self) -> &str {
        "ask_first"
    }
    async fn run(&self, view: &mut StepView<'_>, _: &RunContext) -> Result<Flow, AgentError> {
        Ok(if view.turn() == 0 { Flow::Wait(PendingKind::question("Sure?")) } else { Flow::Continue })
    }
}

#[test]
fn a_step_that_waits() {
    let desk = agent(vec![Call::new("echo", json!({}))])
        .tool(RecordingTool::new("echo"))
        .step_before(Stage::Think, AskFirst)
        .build()
        .unwrap();
    check("run_state_v1_step.json", &desk, || waiting(&desk), "[\"ok\"]");
}

struct AskAboutAnswers;

#[async_trait]
impl Policy for AskAboutAnswers {
    async fn decide(&self, action: Action<'_>, _: &RunContext) -> Decision {
        match action {
            Action::Answer { approved_by: [], .. } => Decision::Ask("a look".into()),
            _ => Decision::Allow,
        }
    }
    fn may_answer(&self, _: &Pending, _: &Caller) -> bool {
        true
    }
}

#[test]
fn an_answer_that_waits_for_approval() {
    let model = FnModel::new(|_| Line::text("A draft.").with_usage(Usage::new(Tokens(5), Tokens(2))));
    let desk = MainAgent::builder("desk", model).policy(AskAboutAnswers).build().unwrap();
    check("run_state_v1_draft.json", &desk, || waiting(&desk), "A draft.");
}

struct AskSomebody;

#[async_trait]
impl Recovery for AskSomebody {
    async fn recover(&self, _: &AgentError, _: &Conversation, _: &RunContext) -> Recovered {
        Recovered::Ask(PendingKind::question("What now?"))
    }
}

#[test]
fn a_recovery_that_waits() {
    let model = FnModel::new(|_| Line::fails(agent_core::ModelErrorClass::Auth));
    let desk = MainAgent::builder("desk", model).recovery(AskSomebody).build().unwrap();
    check("run_state_v1_recovery.json", &desk, || waiting(&desk), "answered");
}

struct Proposes;

#[async_trait]
impl Recovery for Proposes {
    async fn recover(&self, _: &AgentError, _: &Conversation, _: &RunContext) -> Recovered {
        Recovered::Ask(PendingKind::Approval {
            what: "answer".into(),
            proposed: std::sync::Arc::new(json!("By rule.")),
            reason: "rules answer".into(),
            schema: None,
            approved_by: Vec::new(),
        })
    }
}

#[test]
fn a_recovery_whose_proposal_waits_and_what_was_tried_before() {
    let model = FnModel::new(|_| Line::fails(agent_core::ModelErrorClass::Malformed));
    let desk = MainAgent::builder("desk", model).recovery(Proposes).build().unwrap();
    check("run_state_v1_attempts.json", &desk, || waiting(&desk), "By rule.");
}

/// A plan of one step that says "seven", and then the number: a model that makes its attempts itself.
struct Plan(ModelInfo);

#[async_trait]
impl ChatModel for Plan {
    fn info(&self) -> &ModelInfo {
        &self.0
    }
    async fn stream(&self, mut request: ChatRequest, cx: &RunContext) -> Result<ModelStream, ModelError> {
        let step = "large".into();
        let text = match &request.bad_answers[..] {
            [] => "seven",
            by => {
                assert_eq!(by, [Some("large".into())]);
                "7"
            }
        };
        let refused = |_| ModelError::new(ModelErrorClass::BadRequest, "no room");
        let reservation = Attempt::reserve(&self.0, &mut request, cx).await.map_err(refused)?;
        let mut attempt = Attempt::begin(&self.0, Some(&step), &request, reservation, cx).map_err(refused)?;
        let chunks = [Chunk::Text(text.into()), Chunk::Finish(Finish::default())];
        chunks.iter().try_for_each(|chunk| attempt.push(chunk))?;
        attempt.finish()?;
        Ok(futures_util::stream::iter(chunks.map(Ok)).boxed())
    }
}

/// Asks before the second answer of a turn.
struct AskBeforeRepair(AtomicUsize);

#[async_trait]
impl Step for AskBeforeRepair {
    fn name(&self) -> &str {
        "ask_before_repair"
    }
    async fn run(&self, _: &mut StepView<'_>, _: &RunContext) -> Result<Flow, AgentError> {
        let is_second = self.0.fetch_add(1, Ordering::Relaxed) == 1;
        Ok(if is_second { Flow::Wait(PendingKind::question("Sure?")) } else { Flow::Continue })
    }
}

#[test]
fn a_repair_that_waits() {
    let plan = Plan(ModelInfo::new("test", "plan").with_metering(Metering::Own));
    let desk = MainAgent::builder("desk", plan).answer::<u32>();
    let desk = desk.step_before(Stage::Think, AskBeforeRepair(AtomicUsize::new(0))).build().unwrap();
    check("run_state_v1_repair.json", &desk, || waiting(&desk), "7");
}

/// A plan whose models find everything too long, and which answers by rules when no attempt is left.
struct TooLong(ModelInfo);

#[async_trait]
impl ChatModel for TooLong {
    fn info(&self) -> &ModelInfo {
        &self.0
    }
    async fn stream(&self, request: ChatRequest, cx: &RunContext) -> Result<ModelStream, ModelError> {
        if cx.attempts().take() {
            return Err(ModelError::new(ModelErrorClass::ContextOverflow, "too long"));
        }
        let why = request.unfit.map(|code| code.to_string()).unwrap_or_default();
        Ok(futures_util::stream::iter([Ok(Chunk::Text(why)), Ok(Chunk::Finish(Finish::default()))]).boxed())
    }
}

#[test]
fn a_conversation_that_stays_too_long_and_waits() {
    let plan = TooLong(ModelInfo::new("test", "plan").with_metering(Metering::Own));
    let desk = MainAgent::builder("desk", plan).bounds(Bounds::default().with_attempts(1));
    let desk = desk.step_before(Stage::Think, AskBeforeRepair(AtomicUsize::new(0))).build().unwrap();
    check("run_state_v1_unfit.json", &desk, || waiting(&desk), "model.context_overflow");
}

/// Gives everything to the agent `helper`.
struct ToHelper;

#[async_trait]
impl Router for ToHelper {
    async fn route(&self, _: RouteRequest<'_>, _: &RunContext) -> RouteDecision {
        let agents = vec![Routed::new("helper".into(), 1.0)];
        RouteDecision::new(RouteOutcome::Route { agents }, "7e57".into())
    }
    fn may_use(&self, _: &str, _: &Caller) -> bool {
        true
    }
}

#[test]
fn a_dispatched_call_that_waits() {
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Question {
        #[expect(dead_code, reason = "what is asked is not looked at")]
        request: String,
    }
    let helper = sub_agent("helper", "Asks back", |_: Question| async {
        Ok::<ToolOutput, CallError>(ToolOutput::Waits(PendingKind::question("Which?")))
    });
    let other = sub_agent("other", "Is not asked", |_: Question| async { Ok::<_, CallError>("x") });
    let desk = agent(Vec::new()).sub_agent(helper.with_effect(Effect::ReadOnly)).sub_agent(other).router(ToHelper);
    let desk = desk.bounds(Bounds::default().with_shortlist(1)).build().unwrap();
    check("run_state_v1_routed.json", &desk, || waiting(&desk), "[\"answered\"]");
}

#[test]
fn a_conversation_with_every_kind_of_part() {
    let write = || {
        let message = UserMessage::text("Look at this")
            .with_attachment(Attachment::bytes("image/png", *b"\x89PNG\r\n").with_name("a.png"))
            .with_attachment(Attachment::uri("text/html", "https://example.com/a"));
        let mut reply = Reply::of([
            ReplyPart::Reasoning(Reasoning::new("Hm.").with_opaque(Opaque::new(*b"\x00\xff{\"b\":1,\"a\":2}"))),
            ReplyPart::Text { text: "Let me see.".into() },
            ReplyPart::Call(Call::new("look", json!({"b": 1, "a": [2, null]})).with_label("call_7")),
            ReplyPart::Call(Call::from_text("look", "{\"cut\": ")),
            ReplyPart::Attachment(Attachment::bytes("image/png", *b"made")),
        ]);
        reply.model = Some("gpt-x".into());
        reply.usage = Some(Usage::new(Tokens(10), Tokens(3)));
        let Replied::Calls(mut turn) = Conversation::new().say(message).reply(reply.into()) else { panic!() };
        turn.settle(0, CallResult::done(json!({"seen": true}))).unwrap();
        turn.settle(1, CallResult::failed(agent_core::ErrorCode::new("call.malformed_arguments"), "no JSON")).unwrap();
        let refusal = Reply::of([ReplyPart::Refusal { text: "I must not.".into() }]);
        let Replied::Final(conversation) = turn.close().unwrap().reply(refusal.into()) else { panic!() };
        serde_json::to_value(conversation).unwrap()
    };
    let saved = read_or_write("conversation_v1.json", write);
    let conversation: Conversation = serde_json::from_value(saved.clone()).unwrap();
    assert_eq!(serde_json::to_value(&conversation).unwrap(), saved);
    let Some(agent_core::Entry::Agent(turn)) = conversation.entries().get(1) else { panic!() };
    let ReplyPart::Reasoning(reasoning) = &turn.reply().parts[0] else { panic!() };
    assert_eq!(
        reasoning.opaque.as_ref().unwrap().as_bytes(),
        b"\x00\xff{\"b\":1,\"a\":2}",
        "provider's bytes are unchanged"
    );
    let texts: Vec<&str> = turn.reply().each_call().map(|call| call.arguments.as_text()).collect();
    assert_eq!(texts[1], "{\"cut\": ", "a model's own text is unchanged");
}

#[test]
fn unknown_formats_and_broken_turns_are_refused() {
    let conversation = |value: Value| serde_json::from_value::<Conversation>(value).unwrap_err().to_string();
    assert_eq!(conversation(json!({"format": 2, "entries": []})), "conversation format 2 is unknown, expected 1");
    let mut broken = read_or_write("conversation_v1.json", || Value::Null);
    broken["entries"][1]["agent"]["results"].as_array_mut().unwrap().pop();
    assert_eq!(conversation(broken), "entry 1 has 2 calls and 1 results");

    let mut state = read_or_write("run_state_v1_ready.json", || Value::Null);
    state["format"] = json!(9);
    let error = serde_json::from_value::<RunState>(state.clone()).unwrap_err().to_string();
    assert_eq!(error, "run state format 9 is unknown, expected 1");

    // A body that contradicts itself is a typed error of the agent, not a guess.
    state["format"] = json!(1);
    state["suspension"]["state"]["body"]["open"]["slots"].as_array_mut().unwrap().pop();
    let desk = agent(vec![]).tool(RecordingTool::new("slow")).build().unwrap();
    let state: RunState = serde_json::from_value(state).unwrap();
    let failure = paused(desk.resume(Resume::new(state, caller()))).unwrap_err();
    assert_eq!(failure.code().as_str(), "state.unreadable");
    assert!(failure.to_string().contains("2 calls, 2 results and 1 slots"), "{failure}");
}

#[test]
fn events_as_json_lines() {
    let desk = agent(vec![Call::new("pay", json!({"eur": 5}))]).tool(RecordingTool::new("pay").needing_approval());
    let recorder = testkit::Recorder::new();
    let desk = desk.observer(recorder.clone()).build().unwrap();
    paused(async {
        let waiting = desk.run("Go", caller()).await.unwrap().into_suspended().unwrap();
        let resume = Resume::new(waiting.state.clone(), somebody("acme", "sam"));
        let resume = resume.with_answer(&waiting.state.pending()[0].id, AnswerValue::Approve);
        assert!(matches!(desk.resume(resume).await.unwrap(), RunOutcome::Completed(_)));
    });
    let run = recorder.events()[0].identity().run_id.to_string();
    let lines: Vec<String> = testkit::joined(recorder.events())
        .into_iter()
        .map(|event| {
            let mut value = serde_json::to_value(event).unwrap();
            for (field, fixed) in
                [("at", json!(0)), ("trace_id", json!("TRACE")), ("run_id", json!("RUN")), ("task_id", json!("TASK"))]
            {
                value[field] = fixed;
            }
            value.to_string().replace(&run, "RUN")
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}
