//! A model for the ambiguous rest.

use std::time::Duration;

use agent_core::{
    Effect, EventKind, FunctionSpec, Limits, MainAgent, ModelErrorClass, Request, RouteDecision, RouteRequest,
    RouteStage, Router, RunContext, RunOptions, Schema, TenantId, Tokens, sub_agent,
};
use agent_router::{AskingRouter, Grant};
use testkit::{FnModel, Line, Recorder, ScriptedModel, caller, paused, somebody};

use super::behaviour::{brief, cards, router};

const AMBIGUOUS: &str = "cancel it please";

fn specs() -> Vec<FunctionSpec> {
    let input = || {
        let text = serde_json::json!({"type": "object", "properties": {"request": {"type": "string"}}, "required": ["request"]});
        Schema::from_value(text).unwrap()
    };
    let spec = |name: &str| FunctionSpec::new(name, format!("It is for {name}"), input()).with_effect(Effect::ReadOnly);
    ["orders", "returns", "accounts", "flights", "hotels", "payroll"].map(spec).into()
}

async fn routed(router: &impl Router, message: &str) -> RouteDecision {
    let specs = specs();
    let agents: Vec<&FunctionSpec> = specs.iter().collect();
    router.route(RouteRequest::new(message, &agents), &RunContext::standalone(caller())).await
}

fn told(decision: &RouteDecision) -> Option<&str> {
    let stage = decision.stages.iter().find(|stage| stage.stage == RouteStage::Model);
    stage.map(|stage| &*stage.result)
}

#[test]
fn a_model_chooses_what_words_leave_open() {
    let check = |line: Line, outcome: &str, result: &str| {
        paused(async {
            let (model, others) = (ScriptedModel::new([line]), router(cards()));
            let asking = AskingRouter::new(others.clone(), model.clone());
            let decision = routed(&asking, AMBIGUOUS).await;
            let outcome = if outcome.is_empty() { brief(&others.decide(AMBIGUOUS, &caller())) } else { outcome.into() };
            assert_eq!((brief(&decision), told(&decision)), (outcome, Some(result)));
            let sum: f64 = decision.candidates.iter().map(|candidate| candidate.probability).sum();
            assert!(sum + decision.out_of_scope <= 1.0 + 1e-9, "{decision}");
        });
    };
    check(Line::text(r#"{"agent": "hotels"}"#), "hotels", "chose hotels");
    check(Line::text("Sure!\n```json\n{\"agent\": \"flights\"}\n```"), "flights", "chose flights");
    check(Line::text(r#"{"agent": "nobody"}"#), "nobody", "chose nobody");
    // Otherwise the decision stands.
    check(Line::text(r#"{"agent": "the manager"}"#), "", "left out: model.malformed");
    check(Line::text("} hotels {"), "", "left out: model.malformed");
    check(Line::text(""), "", "left out: model.malformed");
    check(Line::fails(ModelErrorClass::RateLimited), "", "left out: model.rate_limited");
    check(Line::silence().then_panics(), "", "left out: run.panicked");
    check(Line::text(r#"{"agent": "hotels"}"#).after(Duration::from_secs(6)), "", "left out: run.deadline");
}

#[test]
fn nobody_is_asked_about_what_is_clear() {
    paused(async {
        let model = ScriptedModel::new([]);
        let asking = AskingRouter::new(router(cards()), model.clone());
        for (message, outcome) in [("where is my parcel", "orders"), ("what is the capital of France", "nobody")] {
            let decision = routed(&asking, message).await;
            assert_eq!((brief(&decision).as_str(), told(&decision)), (outcome, None));
        }
        let none: &[&FunctionSpec] = &[];
        let cx = RunContext::standalone(caller());
        assert_eq!(told(&asking.route(RouteRequest::new(AMBIGUOUS, none), &cx).await), None);
        assert!(model.requests().is_empty());
    });
}

#[test]
fn the_model_reads_what_the_caller_may_use_and_no_more() {
    paused(async {
        let mut cards = cards();
        cards[2].grant = Grant::tenants([TenantId::new("umbrella").unwrap()]);
        let model = ScriptedModel::new([Line::text(r#"{"agent": "hotels"}"#)]);
        let asking = AskingRouter::new(router(cards), model.clone());
        assert!(!asking.may_use("accounts", &caller()) && asking.may_use("accounts", &somebody("umbrella", "bob")));
        let decision = routed(&asking, AMBIGUOUS).await;
        let requests = model.requests();
        assert_eq!((brief(&decision).as_str(), requests.len()), ("hotels", 1));
        assert!(!format!("{requests:?}").contains("accounts"), "{requests:?}");
        assert!(requests[0].instructions.contains("- flights: It is for flights"), "{}", requests[0].instructions);
        // A long request is read in part.
        let long = format!("{AMBIGUOUS} {}", "é".repeat(100_000));
        routed(&asking, &long).await;
        assert!(model.requests().iter().all(|request| request.conversation.size() < 5_000));
    });
}

#[test]
fn it_has_a_budget_of_its_own() {
    paused(async {
        let model = ScriptedModel::new([Line::text(r#"{"agent": "hotels"}"#)]);
        let limits = Limits::none().with_tokens(Tokens(10));
        let asking = AskingRouter::new(router(cards()), model.clone()).with_limits(limits);
        assert_eq!(told(&routed(&asking, AMBIGUOUS).await), Some("left out: budget.exceeded"));
        assert!(model.requests().is_empty());
        let asking = AskingRouter::new(router(cards()), model);
        assert!(asking.with_accuracy(1.5).unwrap_err().to_string().contains("accuracy"));
    });
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Question {
    request: String,
}

#[test]
fn in_a_run_its_words_are_not_the_answers() {
    let run = |accuracy: f64| {
        paused(async {
            let asked = ScriptedModel::new([Line::text(r#"{"agent": "hotels"}"#)]);
            let asking = AskingRouter::new(router(cards()), asked).with_accuracy(accuracy).unwrap();
            let model = ScriptedModel::new([Line::text("It is cancelled."), Line::text("It is cancelled.")]);
            let mut desk = MainAgent::builder("desk", model.clone()).router(asking);
            for name in ["orders", "returns", "accounts", "flights", "hotels", "payroll"] {
                let answer = |input: Question| async move { Ok::<_, agent_core::CallError>(input.request) };
                desk = desk.sub_agent(sub_agent(name, "Answers", answer).with_effect(Effect::ReadOnly));
            }
            let recorder = Recorder::new();
            let options = RunOptions::default().with_observer(recorder.clone());
            let request = Request::new(AMBIGUOUS).with_options(options);
            let report = desk.build().unwrap().run(request, caller()).await.unwrap().into_report().unwrap();
            let said = recorder.events().into_iter().filter(|event| event.path().depth() == 0);
            let said = said.filter_map(|event| match &event.kind {
                EventKind::Delta { text, .. } => Some(text.clone()),
                _ => None,
            });
            assert_eq!(
                said.collect::<String>(),
                "It is cancelled.",
                "what the router's model says is read by the user"
            );
            (report.provenance.attempts.len(), report.text().to_string(), report.conversation.entries().len())
        })
    };
    // Routed, and the Main Agent's model decides; or dispatched, where the model is known to be right.
    assert_eq!(run(0.5), (1, "It is cancelled.".to_owned(), 2));
    assert_eq!(run(0.9), (1, "It is cancelled.".to_owned(), 3));
}

#[test]
fn it_keeps_the_contract_of_routers() {
    let names = ["orders", "returns", "accounts", "flights", "hotels", "payroll"];
    for answer in [r#"{"agent": "hotels"}"#, r#"{"agent": "nobody"}"#, "no"] {
        let model = FnModel::new(move |_| Line::text(answer));
        paused(testkit::conformance::router(AskingRouter::new(router(cards()), model), names));
    }
}
