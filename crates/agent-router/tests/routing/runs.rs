//! A router in the runs of a Main Agent.

use std::sync::{Arc, Mutex};

use agent_core::{
    CallError, Effect, EventKind, MainAgent, Request, RouteRequest, Router, RunContext, TenantId, sub_agent,
};
use agent_router::{Grant, HierarchicalRouter, RouteCard};
use serde::{Deserialize, Serialize};
use testkit::{Line, Recorder, ScriptedModel, caller, paused, somebody};

use super::behaviour::{cards, router};

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct Question {
    request: String,
}

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct Order {
    #[schemars(regex(pattern = r"^[A-Z]-\d{4}$"))]
    order: String,
}

/// A desk with a Sub-Agent for each card, which note what they are asked; `orders` needs the number of one.
fn desk(
    router: HierarchicalRouter,
    model: &ScriptedModel,
    asked: &Arc<Mutex<Vec<String>>>,
) -> agent_core::MainAgentBuilder {
    let mut desk = MainAgent::builder("desk", model.clone()).router(router);
    for name in ["returns", "accounts", "flights", "hotels", "payroll"] {
        let asked = asked.clone();
        let answer = move |input: Question| {
            asked.lock().unwrap().push(format!("{name}: {}", input.request));
            async { Ok::<_, CallError>("Done.") }
        };
        let effect = if name == "payroll" { Effect::AtMostOnce } else { Effect::ReadOnly };
        desk = desk.sub_agent(sub_agent(name, "Answers", answer).with_effect(effect));
    }
    let asked = asked.clone();
    let orders = move |input: Order| {
        asked.lock().unwrap().push(format!("orders: {}", input.order));
        async { Ok::<_, CallError>("Delivered.") }
    };
    desk.sub_agent(sub_agent("orders", "Looks orders up", orders).with_effect(Effect::ReadOnly))
}

/// What was dispatched of this request, and how often the model was asked.
#[track_caller]
fn check(request: &str, expected: &[&str]) {
    let (model, asked) = (ScriptedModel::new([Line::text("Yes.")]), Arc::default());
    let desk = desk(router(cards()), &model, &asked).build().unwrap();
    paused(desk.run(request, caller())).unwrap().into_report().unwrap();
    assert_eq!(*asked.lock().unwrap(), expected, "{request}");
}

#[test]
fn clear_requests_are_dispatched_with_what_they_say() {
    check("track my package A-1042", &["orders: A-1042"]);
    check("book a flight to Rome", &["flights: book a flight to Rome"]);
    // Which order, the request does not say, or says twice.
    check("where is my order", &[]);
    check("track my package A-1042, or was it A-1043", &[]);
    // It changes something.
    check("pay the salaries", &[]);
    // It names an order, which hotels do not take.
    check("cancel the hotel A-1042", &[]);
    check("tell me a joke", &[]);
}

#[test]
fn a_follow_up_stays_with_the_agent_in_charge() {
    paused(async {
        let specs: Vec<_> = ["orders", "returns", "accounts", "flights", "hotels", "payroll"]
            .map(|name| agent_core::FunctionSpec::new(name, "", agent_core::Schema::of::<Question>()))
            .into();
        let specs: Vec<_> = specs.iter().collect();
        let cx = RunContext::standalone(caller());
        let router = router(cards());
        let routed = async |message: &str, in_charge: Option<&str>| {
            let mut request = RouteRequest::new(message, &specs);
            request.in_charge = in_charge;
            let decision = router.route(request, &cx).await;
            super::behaviour::brief(&decision)
        };
        assert_eq!(routed("and is it cheaper on Monday?", Some("flights")).await, "flights");
        // The request changes.
        assert_eq!(routed("I forgot my password", Some("flights")).await, "accounts");
        assert_eq!(routed("what is the meaning of life", Some("flights")).await, "nobody");
        // Only those that the run has.
        let few = [specs[1], specs[2]];
        let decision = router.route(RouteRequest::new("book a flight to Rome", &few), &cx).await;
        assert!(decision.candidates.iter().all(|candidate| ["returns", "accounts"].contains(&&*candidate.agent)));
        assert_eq!(decision.visible, 2);
    });
}

#[test]
fn what_another_tenants_agents_are_called_is_told_to_nobody() {
    let mut cards = cards();
    let umbrella = TenantId::new("umbrella").unwrap();
    cards.last_mut().unwrap().grant = Grant::tenants([umbrella]);
    let run = |caller: agent_core::Caller| {
        let call = || Line::call("payroll", serde_json::json!({"request": "pay the salaries"}));
        let (model, asked) = (ScriptedModel::new([call(), Line::text("No.")]), Arc::default());
        let observer = Recorder::new();
        let desk = desk(router(cards.clone()), &model, &asked).observer(observer.clone()).build().unwrap();
        let report = paused(desk.run("pay the salaries", caller)).unwrap().into_report().unwrap();
        let routed = observer.events().into_iter().find(|event| matches!(event.kind, EventKind::Routed(_)));
        let told = format!("{routed:?} {:?} {:?}", model.requests()[0].functions, report.conversation);
        (asked.lock().unwrap().len(), told)
    };
    let (asked, told) = run(caller());
    // The model itself wrote the name, and reads it again in what became of its call.
    let own = "there is no function `payroll`; there are: accounts, flights, hotels, orders, returns";
    assert_eq!((asked, told.matches(own).count(), told.matches("payroll").count()), (0, 1, 2), "{told}");
    let (asked, _) = run(somebody("umbrella", "eve"));
    assert_eq!(asked, 1);
}

#[test]
fn a_conversation_goes_on_with_what_was_said() {
    let (model, asked) = (ScriptedModel::new([Line::text("Booked."), Line::text("Yes.")]), Arc::default());
    let observer = Recorder::new();
    let desk = desk(router(cards()), &model, &asked).observer(observer.clone()).build().unwrap();
    paused(async {
        let first = desk.run("book a flight to Rome", caller()).await.unwrap().into_report().unwrap();
        let second = Request::new("cancel my flight").with_conversation(first.conversation);
        desk.run(second, caller()).await.unwrap();
    });
    let expected = "flights: cancel my flight\n\nWhat was said before:\nuser: book a flight to Rome\nagent: Booked.";
    assert_eq!(asked.lock().unwrap().last().unwrap(), expected);
    let routed = observer.events().iter().filter(|event| matches!(event.kind, EventKind::Routed(_))).count();
    assert_eq!(routed, 2);
}

#[test]
fn a_card_of_a_sub_agent_has_its_examples() {
    let agent = sub_agent("orders", "Looks orders up", |_: Question| async { Ok::<_, CallError>("Done.") });
    let agent = agent.with_domain("support").with_example("Where is my order?");
    let card = RouteCard::of(agent_core::SubAgent::card(&agent));
    assert_eq!(
        (&*card.domain[0], &*card.examples[0], &*card.description),
        ("support", "Where is my order?", "Looks orders up")
    );
}

#[test]
fn it_keeps_the_contract_of_routers() {
    let names = ["orders", "returns", "accounts", "flights", "hotels", "payroll"];
    paused(testkit::conformance::router(router(cards()), names));
    let mut cards = cards();
    cards[5].grant = Grant::tenants([TenantId::new("umbrella").unwrap()]);
    paused(testkit::conformance::router(router(cards), names));
    paused(testkit::conformance::router(HierarchicalRouter::builder().build().unwrap(), names));
}
