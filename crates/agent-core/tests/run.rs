//! What a run does when nothing goes wrong: tools, Sub-Agents, second messages, typed answers.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use agent_core::{
    CallError, Caller, Entry, Limits, MainAgent, Request, RunOptions, Spend, Tokens, Usage, UserMessage, sub_agent,
    tool, with,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use testkit::{FnModel, Line, RecordingTool, ScriptedModel, caller, paused};

#[derive(Deserialize, schemars::JsonSchema)]
struct Order {
    order: String,
}

async fn orders(input: Order) -> Result<String, CallError> {
    Ok(format!("{} is on its way", input.order))
}

fn result_of(request: &agent_core::ChatRequest) -> serde_json::Value {
    let Some(Entry::Agent(turn)) = request.conversation.entries().last() else { panic!("no turn: {request:?}") };
    (*turn.results()[0].to_model_value()).clone()
}

#[test]
fn a_tool_is_called_and_the_model_answers_from_its_result() {
    let model = ScriptedModel::new([
        Line::call("orders", json!({"order": "A-1"})),
        Line::text("On its way.").expecting(|request| assert_eq!(result_of(request), json!("A-1 is on its way"))),
    ]);
    let desk = MainAgent::builder("desk", model.clone()).tool(tool("orders", "Looks up", orders)).build().unwrap();
    let report = paused(desk.run("Where is A-1?", caller())).unwrap().into_report().unwrap();
    assert_eq!(report.text(), "On its way.");
    assert_eq!((report.spent.model_calls, report.spent.tool_calls), (2, 1));
    assert_eq!(report.conversation.entries().len(), 3);
    model.assert_played();
}

#[test]
fn a_sub_agents_spend_reaches_its_parent() {
    let child_model =
        ScriptedModel::new([Line::text("Delivered.").with_usage(Usage::new(Tokens(4_000), Tokens(1_000)))]);
    let child = MainAgent::builder("logistics", child_model).build().unwrap();
    let model = ScriptedModel::new([
        Line::call("logistics", json!({"request": "Where is A-1?"})).with_usage(Usage::new(Tokens(10), Tokens(5))),
        Line::text("It was delivered.").with_usage(Usage::new(Tokens(3), Tokens(2))),
    ]);
    let desk = MainAgent::builder("desk", model).sub_agent(child).build().unwrap();
    let report = paused(desk.run("Where is A-1?", caller())).unwrap().into_report().unwrap();
    assert_eq!(report.spent.tokens, Tokens(5_020));
    assert_eq!((report.spent.model_calls, report.spent.tool_calls), (3, 1));
}

#[test]
fn the_second_message_goes_on_from_the_first() {
    let model = ScriptedModel::new([
        Line::text("Hello Ann."),
        Line::text("You are Ann.").expecting(|request| assert_eq!(request.conversation.entries().len(), 3)),
    ]);
    let desk = MainAgent::builder("desk", model).build().unwrap();
    paused(async {
        let first = desk.run("I am Ann.", caller()).await.unwrap().into_report().unwrap();
        let second = Request::new("Who am I?").with_conversation(first.conversation);
        let second = desk.run(second, caller()).await.unwrap().into_report().unwrap();
        assert_eq!(second.text(), "You are Ann.");
        assert_eq!(second.conversation.entries().len(), 4);
    });
}

#[test]
fn calls_of_one_turn_run_in_parallel_and_keep_their_order() {
    let slow = RecordingTool::new("slow").returning_after(std::time::Duration::from_secs(5), json!("slow"));
    let quick = RecordingTool::new("quick").returning(json!("quick"));
    let calls = ["slow", "quick", "slow"].map(|name| agent_core::Call::new(name, json!({})));
    let model = ScriptedModel::new([
        Line::calls(calls),
        Line::text("Done.").expecting(|request| {
            let Some(Entry::Agent(turn)) = request.conversation.entries().last() else { panic!() };
            let results: Vec<_> = turn.results().iter().map(|result| result.value().unwrap().clone()).collect();
            assert_eq!(results, [json!("slow"), json!("quick"), json!("slow")]);
        }),
    ]);
    let desk = MainAgent::builder("desk", model).tool(slow).tool(quick).build().unwrap();
    paused(async {
        let begun = tokio::time::Instant::now();
        desk.run("Go", caller()).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 5);
    });
}

#[derive(Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
struct Verdict {
    refundable: bool,
    days_left: u32,
}

#[test]
fn a_typed_answer_is_repaired_and_the_repair_leaves_no_trace_in_the_conversation() {
    let model = ScriptedModel::new([
        Line::text("Yes, you can!"),
        Line::text("{\"refundable\": true}").expecting(|request| {
            assert_eq!(request.conversation.entries().len(), 3);
            let last = request.conversation.last_user_message().unwrap().joined_text();
            assert!(last.contains("does not fit its schema: it is no JSON"), "{last}");
        }),
        Line::text("```json\n{\"refundable\": true, \"days_left\": 16}\n```").expecting(|request| {
            let last = request.conversation.last_user_message().unwrap().joined_text();
            assert!(last.contains("days_left"), "{last}");
        }),
    ]);
    let desk = MainAgent::builder("desk", model).answer::<Verdict>().build().unwrap();
    let report = paused(desk.run("Can I return A-1?", caller())).unwrap().into_report().unwrap();
    assert_eq!(report.answer::<Verdict>().unwrap(), Verdict { refundable: true, days_left: 16 });
    assert_eq!(report.conversation.entries().len(), 2);
    assert_eq!(report.spent.model_calls, 3);
}

#[test]
fn a_typed_answer_that_never_fits_is_a_typed_failure() {
    let model = FnModel::new(|_| Line::text("no"));
    let desk = MainAgent::builder("desk", model).answer::<Verdict>().build().unwrap();
    let failure = paused(desk.run("Can I return A-1?", caller())).unwrap_err();
    assert_eq!(failure.code().as_str(), "run.bad_answer");
    assert_eq!(failure.spent.model_calls, 3);
    assert_eq!(failure.conversation.entries().len(), 1, "what was said stays, the bad answers do not");
}

#[test]
fn functions_share_state_and_see_who_asks() {
    struct Db(&'static str);

    let who = with(Db("db"), async |db: Arc<Db>, _: Order, cx: agent_core::RunContext| {
        Ok::<_, CallError>(json!({"user": cx.caller().user, "path": cx.path(), "db": db.0}))
    });
    let model = ScriptedModel::new([
        Line::call("who", json!({"order": "A-1"})),
        Line::text("You.").expecting(|request| {
            assert_eq!(result_of(request), json!({"user": "ann", "path": "/0.0", "db": "db"}));
        }),
    ]);
    let desk = MainAgent::builder("desk", model).sub_agent(sub_agent("who", "Tells who asks", who)).build().unwrap();
    paused(desk.run("Who am I?", caller())).unwrap();
}

#[test]
fn an_agents_prompt_never_reaches_its_parent() {
    let child = MainAgent::builder("logistics", ScriptedModel::new([])).instructions("SECRET PROMPT").build().unwrap();
    let model = ScriptedModel::new([Line::text("Hi.")]);
    let desk = MainAgent::builder("desk", model.clone()).instructions("Be kind.").sub_agent(child).build().unwrap();
    paused(desk.run("Hello", caller())).unwrap();
    let request = format!("{:?}", model.requests());
    assert!(request.contains("Be kind.") && !request.contains("SECRET PROMPT"));
}

#[test]
fn a_refusal_is_an_answer_of_its_own_status() {
    let desk = MainAgent::builder("desk", ScriptedModel::new([Line::refusal("I must not.")])).build().unwrap();
    let report = paused(desk.run("Do evil", caller())).unwrap().into_report().unwrap();
    assert_eq!((report.text().as_ref(), report.status.as_str()), ("I must not.", "refused"));
}

#[test]
fn a_child_with_typed_input_gets_it_as_json_and_one_with_a_text_gets_the_text() {
    #[derive(schemars::JsonSchema)]
    #[allow(dead_code)]
    struct Route {
        from: String,
        to: String,
    }

    let child = |name: &str, expected: &'static str| {
        let line = Line::text("ok").expecting(move |request| {
            assert_eq!(request.conversation.last_user_message().unwrap().joined_text(), expected);
        });
        MainAgent::builder(name, ScriptedModel::new([line]))
    };
    let route = child("route", "{\"from\":\"Ulm\",\"to\":\"Bonn\"}").input::<Route>().build().unwrap();
    let chat = child("chat", "Say hi").build().unwrap();
    assert_eq!(chat.card().id().as_ref(), "chat");
    let model = ScriptedModel::new([
        Line::calls([
            agent_core::Call::new("route", json!({"from": "Ulm", "to": "Bonn"})),
            agent_core::Call::new("chat", json!({"request": "Say hi"})),
        ]),
        Line::text("done"),
    ]);
    let desk = MainAgent::builder("desk", model.clone()).sub_agent(route).sub_agent(chat).build().unwrap();
    assert_eq!(paused(desk.run("Go", caller())).unwrap().to_string(), "done");
    model.assert_played();
}

#[test]
fn attachments_reach_the_model() {
    let picture = agent_core::Attachment::bytes("image/png", *b"\x89PNG").with_name("crack.png");
    let message = UserMessage::text("The screen is cracked").with_attachment(picture);
    let expected = message.clone();
    let model = ScriptedModel::new([Line::text("I see.").expecting(move |request| {
        assert_eq!(**request.conversation.last_user_message().unwrap(), expected);
    })]);
    let desk = MainAgent::builder("desk", model).build().unwrap();
    paused(desk.run(message, caller())).unwrap();
}

#[test]
fn limits_of_a_request_replace_the_agents() {
    let desk = MainAgent::builder("desk", FnModel::new(|_| Line::text("Hi.")))
        .limits(Limits::none().with_model_calls(0))
        .build()
        .unwrap();
    let failure = paused(desk.run("Hello", caller())).unwrap_err();
    assert_eq!(failure.code().as_str(), "budget.exceeded");
    let options = RunOptions::default().with_limits(Limits::none().with_model_calls(1));
    let report =
        paused(desk.run(Request::new("Hello").with_options(options), caller())).unwrap().into_report().unwrap();
    assert_eq!(report.spent, Spend::model_call(report.spent.tokens));
}

#[test]
fn a_caller_is_checked_when_it_is_made() {
    let error = Caller::new("", "ann").unwrap_err();
    assert_eq!(
        error.to_string(),
        "tenant_id is \"\", expected 1 to 128 bytes without control characters or outer blanks"
    );
    assert!(Caller::new("acme", "ann\n").is_err());
    assert!(Caller::new("a".repeat(129), "ann").is_err());
}

#[test]
fn functions_without_arguments() {
    async fn none() -> Result<String, CallError> {
        Ok("none".into())
    }
    async fn unit(_: ()) -> Result<String, CallError> {
        Ok("unit".into())
    }
    let calls = ["none", "unit"].map(|name| agent_core::Call::new(name, json!({})));
    let model = ScriptedModel::new([Line::calls(calls), Line::text("done")]);
    let desk = MainAgent::builder("desk", model).tool(tool("none", "None", none)).tool(tool("unit", "Unit", unit));
    let report = paused(desk.build().unwrap().run("Go", caller())).unwrap().into_report().unwrap();
    let Some(Entry::Agent(turn)) = report.conversation.entries().get(1) else { panic!() };
    let results: Vec<_> = turn.results().iter().map(|result| result.to_model_value().to_string()).collect();
    assert_eq!(results, ["\"none\"", "\"unit\""]);
}

#[test]
fn an_answer_that_is_to_be_a_text_needs_no_quotes() {
    let desk = MainAgent::builder("desk", ScriptedModel::new([Line::text("hello")])).answer::<String>();
    assert_eq!(paused(desk.build().unwrap().run("Go", caller())).unwrap().to_string(), "hello");
}
