//! What a Main Agent does with a router's decision.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_core::{
    Action, AnswerValue, Bounds, CallError, Caller, Decision, Effect, Event, EventKind, Limits, MainAgent,
    MainAgentBuilder, PendingKind, Policy, Report, Request, Resume, RouteCandidate, RouteDecision, RouteOutcome,
    RouteRequest, Routed, Router, RunContext, RunOutcome, RunState, ToolOutput, async_trait, sub_agent, tool,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use testkit::{Line, Recorder, ScriptedModel, caller, paused};

/// A router that says what it is told, and keeps what it is asked.
#[derive(Clone)]
struct Says {
    decision: RouteDecision,
    forbidden: &'static [&'static str],
    asked: Arc<Mutex<Vec<String>>>,
}

impl Says {
    fn new(outcome: RouteOutcome) -> Self {
        let mut decision = RouteDecision::new(outcome, "7e57".into());
        let candidates =
            ["refunds", "orders", "invoices", "chat"].map(|name| RouteCandidate::new(name.into(), "", 0.1));
        decision.candidates = candidates.to_vec();
        Self { decision, forbidden: &[], asked: Arc::default() }
    }

    /// It is for this agent.
    fn route(agent: &str, probability: f64) -> Self {
        Self::new(RouteOutcome::Route { agents: vec![Routed::new(agent.into(), probability)] })
    }

    fn forbids(mut self, agents: &'static [&'static str]) -> Self {
        self.forbidden = agents;
        self
    }
}

#[async_trait]
impl Router for Says {
    async fn route(&self, request: RouteRequest<'_>, _: &RunContext) -> RouteDecision {
        let agents = request.agents.iter().map(|spec| &*spec.name).collect::<Vec<_>>().join(" ");
        let asked = format!("{} of {agents} after {:?}", request.message, request.in_charge);
        self.asked.lock().unwrap().push(asked);
        self.decision.clone()
    }

    fn may_use(&self, agent: &str, _: &Caller) -> bool {
        !self.forbidden.contains(&agent)
    }
}

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct Question {
    question: String,
}

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct Order {
    order: String,
    reason: String,
}

/// What each Sub-Agent was asked.
type Asked = Arc<Mutex<Vec<String>>>;

/// A desk with five Sub-Agents and a tool, whose model sees two Sub-Agents.
fn desk(model: &ScriptedModel, asked: &Asked) -> MainAgentBuilder {
    let answering = |name: &'static str, effect: Effect| {
        let asked = asked.clone();
        let answer = move |input: Question| {
            asked.lock().unwrap().push(format!("{name}: {}", input.question));
            async move { Ok::<_, CallError>(format!("{name} says yes")) }
        };
        sub_agent(name, "Answers", answer).with_effect(effect)
    };
    let not_mine = |_: Question| async { Err::<String, _>(CallError::hand_back("refunds are for somebody else")) };
    let invoices = |input: Order| async move { Ok::<_, CallError>(format!("{} {}", input.order, input.reason)) };
    let waits =
        |_: Question| async { Ok::<ToolOutput, CallError>(ToolOutput::Waits(PendingKind::question("Which one?"))) };
    MainAgent::builder("desk", model.clone())
        .sub_agent(answering("orders", Effect::ReadOnly))
        .sub_agent(answering("chat", Effect::AtMostOnce))
        .sub_agent(sub_agent("refunds", "Refunds", not_mine).with_effect(Effect::ReadOnly))
        .sub_agent(sub_agent("invoices", "Writes invoices", invoices).with_effect(Effect::ReadOnly))
        .sub_agent(sub_agent("asks", "Asks back", waits).with_effect(Effect::ReadOnly))
        .tool(tool("clock", "Tells the time", || async { Ok::<_, CallError>("nine") }))
        .bounds(Bounds::default().with_shortlist(2))
}

/// The functions that each request to the model had.
fn seen(model: &ScriptedModel) -> Vec<String> {
    let names = |request: &agent_core::ChatRequest| {
        request.functions.iter().map(|spec| &*spec.name).collect::<Vec<_>>().join(" ")
    };
    model.requests().iter().map(names).collect()
}

/// The outcome of a run in which the model says these lines.
fn run(
    router: Says,
    lines: impl IntoIterator<Item = Line>,
    change: impl FnOnce(MainAgentBuilder) -> MainAgentBuilder,
) -> Ran {
    let (model, asked) = (ScriptedModel::new(lines), Asked::default());
    let observer = Recorder::new();
    let desk = change(desk(&model, &asked).router(router)).observer(observer.clone()).build().unwrap();
    let report = paused(desk.run("Where is A-1042?", caller())).unwrap().into_report().unwrap();
    model.assert_played();
    let asked = asked.lock().unwrap().clone();
    Ran { report, seen: seen(&model), asked, events: observer.events() }
}

struct Ran {
    report: Report,
    seen: Vec<String>,
    asked: Vec<String>,
    events: Vec<Event>,
}

#[test]
fn a_clear_request_is_dispatched_without_asking_the_model() {
    let ran = run(Says::route("orders", 0.9), [Line::text("It was delivered.")], |desk| desk);
    assert_eq!(ran.asked, ["orders: Where is A-1042?"]);
    assert_eq!((ran.report.text().as_ref(), ran.report.spent.model_calls), ("It was delivered.", 1));
    let routed = ran.events.iter().find_map(|event| match &event.kind {
        EventKind::Routed(routed) => Some(routed.clone()),
        _ => None,
    });
    let routed = serde_json::to_value(routed.unwrap()).unwrap();
    let expected = json!({
        "outcome": "route", "agents": [["orders", 0.9]], "shown": 2, "dispatched": true, "snapshot": "7e57",
    });
    assert_eq!(routed, expected);
    let calls = ran.report.conversation.entries().len();
    assert_eq!(calls, 3, "the request, the call with its result, the answer");
}

#[test]
fn the_model_sees_the_short_list_of_what_is_not_clear() {
    let check = |router: Says, expected: &str| {
        let ran = run(router, [Line::text("Which order?")], |desk| desk);
        assert_eq!((ran.seen, ran.asked.len()), (vec![expected.to_owned()], 0));
    };
    check(Says::route("orders", 0.7), "orders refunds clock");
    let agents = ["chat", "invoices"].map(|name| Routed::new(name.into(), 0.4)).to_vec();
    check(Says::new(RouteOutcome::Ambiguous { agents, question: "Which?".into() }), "chat invoices clock");
    check(Says::new(RouteOutcome::OutOfScope), "orders refunds clock");
    // It changes something by itself; its input is more than one text; the router names what is not there.
    check(Says::route("chat", 1.0), "chat refunds clock");
    check(Says::route("invoices", 1.0), "refunds invoices clock");
    check(Says::route("gone", 1.0), "orders refunds clock");
    // All are few enough.
    let ran = run(Says::route("orders", 0.7), [Line::text("Yes.")], |desk| desk.bounds(Bounds::default()));
    assert_eq!(ran.seen, ["orders chat refunds invoices asks clock"]);
}

#[test]
fn a_router_can_fill_the_input_of_an_agent() {
    let filled = |input| {
        let mut routed = Routed::new("invoices".into(), 0.9);
        routed.input = Some(input);
        let router = Says::new(RouteOutcome::Route { agents: vec![routed] });
        let ran = run(router, [Line::text("Here it is.")], |desk| desk);
        serde_json::to_string(&ran.report.conversation).unwrap().contains("A-1042 broken")
    };
    assert!(filled(json!({"order": "A-1042", "reason": "broken"})));
    // What does not fit is the model's to fill.
    assert!(!filled(json!({"order": "A-1042"})));
}

#[test]
fn a_host_can_leave_all_to_the_model() {
    let ran = run(Says::route("orders", 1.0), [Line::text("Yes.")], MainAgentBuilder::without_dispatch);
    assert_eq!((&*ran.seen[0], ran.asked.len()), ("orders refunds clock", 0));
    // Nobody could answer after the call.
    let bounds = Bounds::default().with_turns(1);
    let ran = run(Says::route("orders", 1.0), [Line::text("Yes.")], |desk| desk.bounds(bounds));
    assert_eq!(ran.asked.len(), 0);
}

#[test]
fn the_parts_of_a_request_go_to_their_agents_at_once() {
    let agents = vec![
        Routed::new("orders".into(), 0.9).with_part("Where is A-1042"),
        Routed::new("refunds".into(), 0.9).with_part("refund it"),
    ];
    let router = Says::new(RouteOutcome::Route { agents });
    let ran = run(router, [Line::text("Done.")], |desk| desk);
    assert_eq!(ran.asked, ["orders: Where is A-1042"]);
    let calls = ran.events.iter().filter(|event| matches!(event.kind, EventKind::CallStarted { .. })).count();
    assert_eq!(calls, 2);
}

/// Denies each call.
struct Denies;

#[async_trait]
impl Policy for Denies {
    async fn decide(&self, action: Action<'_>, _: &RunContext) -> Decision {
        match action {
            Action::Call { .. } => Decision::Deny("not today".into()),
            _ => Decision::Allow,
        }
    }
}

#[test]
fn what_is_dispatched_goes_through_the_policy() {
    let ran = run(Says::route("orders", 1.0), [Line::text("I may not.")], |desk| desk.policy(Denies));
    assert_eq!(ran.asked.len(), 0);
    assert_eq!(ran.report.text(), "I may not.");
}

#[test]
fn an_agent_that_hands_back_is_not_seen_again() {
    let again = Line::call("refunds", json!({"question": "Really?"}));
    let ran = run(Says::route("refunds", 1.0), [again, Line::text("Nobody can.")], |desk| desk);
    // The model was asked twice, and saw it neither time; its call was not made.
    assert_eq!(ran.seen, ["orders clock", "orders clock"]);
    let failed = ran.report.conversation.entries().iter().filter_map(|entry| match entry {
        agent_core::Entry::Agent(turn) => turn.results().first()?.failure().map(|failure| failure.code.to_string()),
        _ => None,
    });
    assert_eq!(failed.collect::<Vec<_>>(), ["agent.handed_back", "call.handed_back"]);
    // After so many, none is shown.
    let bounds = Bounds::default().with_hand_backs(1);
    let ran = run(Says::route("refunds", 1.0), [Line::text("Nobody can.")], |desk| desk.bounds(bounds));
    assert_eq!(ran.seen, ["clock"]);
}

#[test]
fn what_a_caller_may_not_use_is_not_there_for_him() {
    let router = || Says::route("orders", 1.0).forbids(&["orders", "chat"]);
    let call = |name: &str| Line::call(name, json!({"question": "Please."}));
    let ran =
        run(router(), [call("orders"), call("nothing"), Line::text("No.")], |desk| desk.bounds(Bounds::default()));
    assert_eq!((&*ran.seen[0], ran.asked.len()), ("refunds invoices asks clock", 0));
    let told = serde_json::to_string(&ran.report.conversation).unwrap();
    assert_eq!(told.matches("there are: asks, clock, invoices, refunds").count(), 2, "{told}");
    // The router is not asked about it either.
    let router = router();
    let asked = router.asked.clone();
    run(router, [Line::text("No.")], |desk| desk);
    assert_eq!(*asked.lock().unwrap(), ["Where is A-1042? of refunds invoices asks after None"]);
}

#[test]
fn a_follow_up_goes_with_what_was_said_before() {
    let (router, asked) = (Says::route("orders", 0.9), Asked::default());
    let told = router.asked.clone();
    let model = ScriptedModel::new([Line::text("It was delivered."), Line::text("Yesterday.")]);
    let desk = desk(&model, &asked).router(router).build().unwrap();
    paused(async {
        let first = desk.run("Where is A-1042?", caller()).await.unwrap().into_report().unwrap();
        let second = Request::new("When was that?").with_conversation(first.conversation);
        desk.run(second, caller()).await.unwrap().into_report().unwrap();
    });
    let second = "orders: When was that?\n\nWhat was said before:\nuser: Where is A-1042?\nagent: It was delivered.";
    assert_eq!(*asked.lock().unwrap(), ["orders: Where is A-1042?", second]);
    assert!(told.lock().unwrap()[1].ends_with("after Some(\"orders\")"), "{told:?}");
}

#[test]
fn a_dispatched_call_that_waits_is_resumed_without_routing_again() {
    let (router, asked) = (Says::route("asks", 0.9), Asked::default());
    let told = router.asked.clone();
    let model = ScriptedModel::new([Line::text("The red one.")]);
    let desk = desk(&model, &asked).router(router).build().unwrap();
    paused(async {
        let suspended = desk.run("Where is my order?", caller()).await.unwrap().into_suspended().unwrap();
        assert_eq!(model.requests().len(), 0);
        let state: RunState = serde_json::from_str(&serde_json::to_string(&suspended.state).unwrap()).unwrap();
        let pending = state.pending()[0].id.clone();
        let resume = Resume::new(state, caller()).with_answer(&pending, AnswerValue::Value(json!("the red one")));
        let outcome = desk.resume(resume).await.unwrap();
        assert!(matches!(outcome, RunOutcome::Completed(_)), "{outcome:?}");
    });
    assert_eq!((told.lock().unwrap().len(), seen(&model)), (1, vec!["refunds asks clock".to_owned()]));
}

/// A router that never decides.
struct Hangs;

#[async_trait]
impl Router for Hangs {
    async fn route(&self, _: RouteRequest<'_>, _: &RunContext) -> RouteDecision {
        std::future::pending().await
    }

    fn may_use(&self, _: &str, _: &Caller) -> bool {
        true
    }
}

#[test]
fn a_router_that_hangs_is_left_at_the_deadline() {
    let model = ScriptedModel::new([]);
    let desk = desk(&model, &Asked::default()).router(Hangs).limits(Limits::none().with_time(Duration::from_secs(3)));
    let failure = paused(desk.build().unwrap().run("Where is A-1042?", caller())).unwrap_err();
    assert_eq!(failure.code().as_str(), "run.deadline");
}

#[test]
fn a_request_that_nothing_is_known_of_has_a_short_list_too() {
    let mut router = Says::new(RouteOutcome::OutOfScope);
    router.decision.candidates.clear();
    let ran = run(router, [Line::text("Which order?")], |desk| desk);
    assert_eq!(ran.seen, ["orders chat clock"]);
}
