//! What models, callers and functions get wrong: each ends as a result that the model sees, or as a typed error.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::time::Duration;

use agent_core::{
    Bounds, Call, CallResult, Caller, Chunk, Conversation, Entry, Failure, FinishReason, FunctionSpec, Limits,
    MainAgent, MainAgentBuilder, ModelErrorClass, ModelInfo, OpenTurn, PendingKind, Replied, Reply, Request,
    RunOptions, RunOutcome, Schema, Tokens,
};
use serde_json::{Value, json};
use testkit::{FnModel, Line, RecordingTool, ScriptedModel, caller, paused};

/// Runs a desk whose model says `line` and then, having seen the results, "done". Gives what the model saw of each call.
fn results(line: Line, build: impl FnOnce(MainAgentBuilder) -> MainAgentBuilder) -> Vec<Value> {
    let model = ScriptedModel::new([line, Line::text("done")]);
    let desk = build(MainAgent::builder("desk", model.clone())).build().unwrap();
    let report = paused(desk.run("Go", caller())).unwrap().into_report().unwrap();
    assert_eq!(report.text(), "done");
    model.assert_played();
    let Some(Entry::Agent(turn)) = report.conversation.entries().get(1) else { panic!("{:?}", report.conversation) };
    assert_eq!(turn.results().len(), turn.reply().each_call().count());
    turn.results().iter().map(|result| (*result.to_model_value()).clone()).collect()
}

fn check(line: Line, build: impl FnOnce(MainAgentBuilder) -> MainAgentBuilder, code: &str, words: &str) {
    let results = results(line, build);
    let [result] = results.as_slice() else { panic!("{results:?}") };
    assert_eq!(result["error"]["code"], code, "{result}");
    let message = result["error"]["message"].as_str().unwrap();
    assert!(message.contains(words), "{message}");
}

/// A tool that takes `{"order": string}`.
fn strict(name: &str) -> RecordingTool {
    let schema = json!({"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]});
    RecordingTool::new(name).with_spec(|spec| {
        let FunctionSpec { effect, description, .. } = spec;
        FunctionSpec::new(name, description, Schema::from_value(schema).unwrap()).with_effect(effect)
    })
}

#[test]
fn a_tool_that_does_not_exist() {
    let tool = RecordingTool::new("orders");
    check(
        Line::call("oders", json!({})),
        |builder| builder.tool(tool),
        "call.unknown_function",
        "there is no function `oders`; there are: orders",
    );
    check(Line::call("", json!({})), |builder| builder, "call.unknown_function", "there are: none");
}

#[test]
fn a_call_that_was_cut_before_its_arguments() {
    for reason in [FinishReason::Length, FinishReason::ContentFilter, FinishReason::Other("abort".into())] {
        let line = Line::silence().then_call(0, "1", "orders", "").then_finish(reason);
        let tool = RecordingTool::new("orders");
        let words = "the answer ended before the arguments began";
        check(line, |builder| builder.tool(tool.clone()), "call.malformed_arguments", words);
        assert_eq!(tool.inputs(), [] as [Value; 0]);
    }
}

#[test]
fn arguments_that_are_no_json_or_break_the_schema() {
    let raw = |text: &str| Line::calls([Call::from_text("orders", text)]);
    let tool = strict("orders");
    for text in ["{\"order\": \"A-1", "order A-1", "{'order': 1}", "NaN"] {
        check(raw(text), |builder| builder.tool(tool.clone()), "call.malformed_arguments", "no JSON");
    }
    for text in ["{\"order\": 7}", "{}", "", "[]", "null", "\"A-1\""] {
        check(raw(text), |builder| builder.tool(tool.clone()), "call.invalid_arguments", "do not fit the schema");
    }
    assert!(tool.inputs().is_empty());
}

#[test]
fn duplicate_and_empty_call_ids_are_labels_only() {
    let tool = RecordingTool::new("echo").returning(json!("ok"));
    let calls = ["same", "same", "", ""].map(|label| Call::new("echo", json!({"of": label})).with_label(label));
    let seen = results(Line::calls(calls), |builder| builder.tool(tool.clone()));
    assert_eq!(seen, vec![json!("ok"); 4]);
    let mut keys = tool.keys();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4, "each call has a key of its own");
}

#[test]
fn a_second_result_for_a_call_is_refused() {
    let reply = Reply::calls([Call::new("a", json!({})), Call::new("b", json!({}))]);
    let Replied::Calls(mut turn) = Conversation::new().say("hi").reply(reply.into()) else { panic!() };
    turn.settle(0, agent_core::CallResult::done(json!(1))).unwrap();
    let error = turn.settle(0, agent_core::CallResult::done(json!(2))).unwrap_err();
    assert_eq!(error.code().as_str(), "turn.already_settled");
    let error = turn.settle(2, agent_core::CallResult::done(json!(2))).unwrap_err();
    assert_eq!(error.code().as_str(), "turn.no_such_call");
    let turn: OpenTurn = turn.close().unwrap_err();
    assert_eq!(turn.results()[0], Some(agent_core::CallResult::done(json!(1))));
}

#[test]
fn tools_that_panic_break_hang_or_return_too_much() {
    let call = || Line::call("t", json!({}));
    let tool = RecordingTool::new("t");
    check(call(), |b| b.tool(tool.clone().panicking()), "call.panicked", "failed");
    check(call(), |b| b.tool(tool.clone().telling("the order is closed")), "call.failed", "the order is closed");
    check(call(), |b| b.tool(tool.clone().hanging()), "call.timeout", "did not answer in time");
    let huge = json!("x".repeat(100 << 20));
    check(call(), |b| b.tool(tool.clone().returning(huge)), "call.result_too_large", "larger than 262144 bytes");
}

#[test]
fn an_internal_error_discloses_nothing() {
    let seen = results(Line::call("t", json!({})), |builder| builder.tool(RecordingTool::new("t").breaking()));
    assert_eq!(seen, [json!({"error": {"code": "call.internal", "message": "the function failed"}})]);
}

#[test]
fn a_result_that_does_not_fit_its_schema() {
    let tool = RecordingTool::new("t").returning(json!(7)).with_spec(|spec| spec.with_output(Schema::object()));
    check(Line::call("t", json!({})), |builder| builder.tool(tool), "call.invalid_result", "does not fit its schema");
}

#[test]
fn more_calls_than_allowed() {
    let calls = (0..70).map(|n| Call::new("t", json!({"n": n})));
    let tool = RecordingTool::new("t");
    let seen = results(Line::calls(calls), |builder| builder.tool(tool.clone()));
    assert_eq!(tool.inputs().len(), 64);
    assert!(seen[63] == "ok" && seen[64]["error"]["code"] == "call.fan_out");
}

#[test]
fn the_same_call_again_and_again() {
    let model = FnModel::new(|request| match request.conversation.entries().len() {
        0..=8 => Line::call("t", json!({"n": 1})),
        _ => Line::text("done"),
    });
    let tool = RecordingTool::new("t");
    let desk = MainAgent::builder("desk", model).tool(tool.clone()).build().unwrap();
    let report = paused(desk.run("Go", caller())).unwrap().into_report().unwrap();
    assert_eq!(tool.inputs().len(), 3);
    let Some(Entry::Agent(turn)) = report.conversation.entries().get(4) else { panic!() };
    assert_eq!(turn.results()[0].failure().unwrap().code.as_str(), "call.repeated");
}

#[test]
fn a_model_that_never_stops_calling() {
    let model = FnModel::new(|request| Line::call("t", json!({"n": request.conversation.entries().len()})));
    let desk = MainAgent::builder("desk", model).tool(RecordingTool::new("t")).build().unwrap();
    let failure = paused(desk.run("Go", caller())).unwrap_err();
    assert_eq!(failure.code().as_str(), "run.turn_limit");
    assert_eq!(failure.conversation.entries().len(), 17);
    assert!(failure.state.is_some());
}

fn failure(lines: impl IntoIterator<Item = Line>) -> (Failure, ScriptedModel) {
    let model = ScriptedModel::new(lines);
    let desk = MainAgent::builder("desk", model.clone()).tool(RecordingTool::new("t")).build().unwrap();
    (*paused(desk.run("Go", caller())).unwrap_err(), model)
}

#[test]
fn a_model_that_streams_nothing_or_only_reasoning_is_asked_again() {
    let nothing = || Line::silence().then_finish(FinishReason::Stop);
    let reasoning = || Line::silence().then(Chunk::Reasoning("hm".into())).then_finish(FinishReason::Stop);
    let model = ScriptedModel::new([nothing(), reasoning(), Line::text("Well.")]);
    let desk = MainAgent::builder("desk", model.clone()).build().unwrap();
    assert_eq!(paused(desk.run("Go", caller())).unwrap().to_string(), "Well.");
    let (failure, model) = failure([nothing(), reasoning(), nothing(), Line::text("too late")]);
    assert_eq!(failure.code().as_str(), "model.empty");
    assert_eq!(model.requests().len(), 3);
}

#[test]
fn a_stream_that_is_cut_runs_no_call() {
    let cut = Line::silence().then_call(0, "1", "t", "{\"n\": 1}");
    let model = ScriptedModel::new([cut]);
    let tool = RecordingTool::new("t");
    let desk = MainAgent::builder("desk", model).tool(tool.clone()).build().unwrap();
    let failure = paused(desk.run("Go", caller())).unwrap_err();
    assert_eq!(failure.code().as_str(), "model.cut");
    assert!(tool.inputs().is_empty() && failure.spent.model_calls == 1 && failure.spent.tokens > Tokens(0));
}

#[test]
fn a_call_cut_by_the_output_limit_is_told() {
    let line = Line::silence().then_call(0, "1", "t", "{\"n\": [1, 2").then_finish(FinishReason::Length);
    check(line, |builder| builder.tool(RecordingTool::new("t")), "call.malformed_arguments", "EOF");
}

#[test]
fn chunks_that_break_the_protocol_are_asked_for_again_and_then_fail() {
    let stray = || Line::silence().then(Chunk::CallArguments { index: 3, text: "{}".into() });
    let twice = || Line::silence().then_call(0, "1", "t", "{}").then_call(0, "1", "t", "{}");
    let (failure, model) = failure([stray(), stray(), twice()]);
    assert_eq!((failure.code().as_str(), model.requests().len()), ("model.malformed", 3));
    assert_eq!(failure.spent.model_calls, 3);
}

#[test]
fn an_answer_is_complete_at_its_end_whatever_the_stream_does_then() {
    for line in [Line::text("hi").then(Chunk::Text("more".into())), Line::text("hi").then_hangs()] {
        let desk = MainAgent::builder("desk", ScriptedModel::new([line])).build().unwrap();
        assert_eq!(paused(desk.run("Go", caller())).unwrap().to_string(), "hi");
    }
}

#[test]
fn a_model_that_fails_or_panics() {
    for class in [ModelErrorClass::Unavailable, ModelErrorClass::RateLimited, ModelErrorClass::Auth] {
        let (failure, model) = failure([Line::fails(class)]);
        assert_eq!((failure.code(), model.requests().len()), (class.code(), 1));
        assert_eq!(failure.spent.tokens, Tokens(0), "nothing was read or written");
    }
    let (failure, _) = failure([Line::silence().then_text("Hel").then_panics()]);
    assert_eq!(failure.code().as_str(), "run.panicked");
}

#[test]
fn a_model_that_hangs_is_stopped_by_the_deadline() {
    let started = |line| {
        let desk = MainAgent::builder("desk", ScriptedModel::new([line])).build().unwrap();
        let options = RunOptions::default().with_limits(Limits::none().with_time(Duration::from_secs(3)));
        *paused(desk.run(Request::new("Go").with_options(options), caller())).unwrap_err()
    };
    let failure = started(Line::silence().then_text("Well").then_hangs());
    assert_eq!(failure.code().as_str(), "run.deadline");
    assert_eq!(failure.state.as_ref().unwrap().time_left(), Some(Duration::ZERO));
    assert_eq!(started(Line::text("late").after(Duration::from_secs(4))).code().as_str(), "run.deadline");
}

#[test]
fn an_empty_request_and_a_very_long_one() {
    let model = || FnModel::new(|_| Line::text("ok"));
    let desk = MainAgent::builder("desk", model()).build().unwrap();
    for text in ["", "  \n\t"] {
        let failure = paused(desk.run(text, caller())).unwrap_err();
        assert_eq!(failure.code().as_str(), "invalid.value");
        assert!(failure.to_string().starts_with("request is"), "{failure}");
    }
    let megabyte = "All work and no play. ".repeat(50_000);
    assert_eq!(paused(desk.run(megabyte.as_str(), caller())).unwrap().to_string(), "ok");
    let small = model().with_info(|info| info.with_context_window(Tokens(8_000)));
    let desk = MainAgent::builder("desk", small).build().unwrap();
    let failure = paused(desk.run(megabyte.as_str(), caller())).unwrap_err();
    assert_eq!(failure.code().as_str(), "context.does_not_fit");
    assert_eq!(failure.to_string(), "the conversation needs 275000 tokens, there is room for 6976 tokens");
    assert_eq!(failure.spent.model_calls, 0);
}

#[test]
fn limits_of_zero() {
    let zero = Limits::none();
    let desk = MainAgent::builder("desk", FnModel::new(|_| Line::text("ok"))).build().unwrap();
    let cases = [
        (zero.with_tokens(Tokens(0)), "budget.exceeded"),
        (zero.with_model_calls(0), "budget.exceeded"),
        (zero.with_time(Duration::ZERO), "run.deadline"),
    ];
    for (limits, code) in cases {
        let options = RunOptions::default().with_limits(limits);
        let outcome = paused(desk.run(Request::new("Go").with_options(options), caller()));
        assert_eq!(outcome.unwrap_err().code().as_str(), code, "{limits:?}");
    }
    let free = MainAgent::builder("desk", FnModel::new(|_| Line::text("ok")))
        .limits(zero.with_micro_usd(agent_core::MicroUsd(0)));
    assert!(paused(free.build().unwrap().run("Go", caller())).is_ok(), "a free model costs nothing");
    check(
        Line::call("t", json!({})),
        |builder| builder.tool(RecordingTool::new("t")).limits(zero.with_tool_calls(0)),
        "budget.exceeded",
        "0 of 0 are spent",
    );
}

#[test]
fn a_model_of_unknown_price_is_not_called_under_a_ceiling_on_cost() {
    struct Unpriced(ModelInfo);
    #[agent_core::async_trait]
    impl agent_core::ChatModel for Unpriced {
        fn info(&self) -> &ModelInfo {
            &self.0
        }
        async fn stream(
            &self,
            _: agent_core::ChatRequest,
            _: &agent_core::RunContext,
        ) -> Result<agent_core::ModelStream, agent_core::ModelError> {
            let chunks = [Ok(Chunk::Text("ok".into())), Ok(Chunk::Finish(agent_core::Finish::default()))];
            Ok(Box::pin(futures_util::stream::iter(chunks)))
        }
    }
    let desk = MainAgent::builder("desk", Unpriced(ModelInfo::new("x", "y"))).build().unwrap();
    let report = paused(desk.run("Go", caller())).unwrap().into_report().unwrap();
    assert_eq!((report.spent.micro_usd.0, report.spent.unpriced_calls), (0, 1), "unknown is not zero");
    let options = RunOptions::default().with_limits(Limits::none().with_micro_usd(agent_core::MicroUsd(1_000)));
    let failure = paused(desk.run(Request::new("Go").with_options(options), caller())).unwrap_err();
    assert_eq!((failure.code().as_str(), failure.spent.model_calls), ("model.unpriced", 0));
}

#[test]
fn names_schemas_and_bounds_are_checked_when_an_agent_is_built() {
    let model = || FnModel::new(|_| Line::text("ok"));
    let build_error = |builder: MainAgentBuilder| builder.build().unwrap_err().to_string();
    let long = "a".repeat(65);
    for name in ["my desk", "", "dösk", long.as_str()] {
        let error = build_error(MainAgent::builder(name, model()));
        assert!(error.contains("expected 1 to 64 letters, digits, `_` or `-`"), "{error}");
    }
    let desk = || MainAgent::builder("desk", model());
    assert!(build_error(desk().tool(RecordingTool::new("a tool"))).starts_with("name is \"a tool\""));
    let twice = desk().tool(RecordingTool::new("t")).tool(RecordingTool::new("t"));
    assert_eq!(build_error(twice), "function name is \"t\", expected a name that no other function of the agent has");
    let bounds = desk().bounds(Bounds::default().with_in_flight(0));
    assert_eq!(build_error(bounds), "bounds.in_flight is \"0\", expected at least 1");
    let bare = Schema::from_value(json!({"type": "string"})).unwrap();
    let bare = RecordingTool::new("t").with_spec(|spec| FunctionSpec::new("t", spec.description, bare));
    assert!(build_error(desk().tool(bare)).contains("expected the schema of an object"));
    assert!(Schema::from_value(json!({"type": 7})).is_err());
    assert!(Schema::from_value(json!({"$ref": "https://example.com/schema.json"})).is_err());
}

#[test]
fn a_derived_schema_with_a_wrong_pattern_is_refused_when_an_agent_is_built() {
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[allow(dead_code)]
    struct Wrong {
        #[schemars(regex(pattern = "["))]
        order: String,
    }
    let tool = agent_core::tool("t", "", async |_: Wrong| Ok::<_, agent_core::CallError>(()));
    let error = MainAgent::builder("desk", FnModel::new(|_| Line::text("ok"))).tool(tool).build().unwrap_err();
    assert!(error.to_string().starts_with("schema of function `t` is"), "{error}");
}

#[test]
fn agents_do_not_nest_without_end() {
    // Each level delegates to the one below until it is refused.
    let delegate = || {
        FnModel::new(|request| match request.conversation.entries().last() {
            Some(Entry::Agent(turn)) => Line::text(&turn.results()[0].to_model_value().to_string()),
            _ => Line::call(&request.functions[0].name, json!({"request": "deeper"})),
        })
    };
    let mut agent = MainAgent::builder("a6", FnModel::new(|_| Line::text("bottom"))).build().unwrap();
    for level in (0..6).rev() {
        agent = MainAgent::builder(format!("a{level}"), delegate()).sub_agent(agent).build().unwrap();
    }
    let text = paused(agent.run("Go", caller())).unwrap().to_string();
    assert!(text.contains("call.depth") && !text.contains("bottom"), "{text}");
}

#[test]
fn wrong_callers_cannot_be_made_from_saved_data_either() {
    assert!(serde_json::from_value::<Caller>(json!({"tenant": "", "user": "ann"})).is_err());
    assert!(serde_json::from_value::<Caller>(json!({"tenant": "acme", "user": "ann"})).is_ok());
}

#[test]
fn an_outcome_says_what_it_is() {
    let desk = MainAgent::builder("desk", FnModel::new(|_| Line::text("ok"))).build().unwrap();
    let outcome = paused(desk.run("Go", caller())).unwrap();
    assert!(matches!(&outcome, RunOutcome::Completed(report) if report.provenance.fallback_path() == "model"));
    assert!(outcome.into_suspended().is_err());
}

#[test]
fn a_hundred_thousand_calls_in_one_reply() {
    let calls = (0..100_000).map(|n| Call::new("t", json!({"n": n})));
    let model = ScriptedModel::new([Line::calls(calls), Line::text("done")]);
    let tool = RecordingTool::new("t");
    let desk = MainAgent::builder("desk", model).tool(tool.clone()).build().unwrap();
    let report = paused(desk.run("Go", caller())).unwrap().into_report().unwrap();
    assert_eq!(tool.inputs().len(), 64);
    let Some(Entry::Agent(turn)) = report.conversation.entries().get(1) else { panic!() };
    assert_eq!(turn.results()[99_999].failure().unwrap().code.as_str(), "call.fan_out");
}

#[test]
fn a_function_that_tells_a_hundred_megabytes() {
    let result = result_of(|builder| builder.tool(RecordingTool::new("t").telling(&"x".repeat(100 << 20))));
    let failure = result.failure().unwrap();
    assert!(failure.code.as_str() == "call.failed" && failure.message.len() < 5_000);
}

#[test]
fn a_tool_that_waits_for_what_is_not_its_own() {
    let kind = PendingKind::UnknownOutcome { function: "t".into(), arguments: json!({}).into() };
    let result = result_of(|builder| builder.tool(RecordingTool::new("t").waiting(kind)));
    assert_eq!(result.failure().unwrap().code.as_str(), "call.invalid_wait");
}

/// What becomes of the call of `t`.
fn result_of(build: impl FnOnce(MainAgentBuilder) -> MainAgentBuilder) -> CallResult {
    let model = ScriptedModel::new([Line::call("t", json!({})), Line::text("done")]);
    let desk = build(MainAgent::builder("desk", model)).build().unwrap();
    let report = paused(desk.run("Go", caller())).unwrap().into_report().unwrap();
    let Some(Entry::Agent(turn)) = report.conversation.entries().get(1) else { panic!() };
    turn.results()[0].clone()
}

#[test]
fn values_nested_too_deep_for_a_saved_state() {
    let deep = |levels: usize| (1..levels).fold(json!("x"), |value, _| json!({"a": value}));
    let result = result_of(|builder| builder.tool(RecordingTool::new("t").returning(deep(33))));
    assert_eq!(result.failure().unwrap().code.as_str(), "call.invalid_result");

    // As deep as both may be: agents eight levels down, and arguments of thirty-two.
    let arguments = |levels| {
        let tool = RecordingTool::new("t").needing_approval();
        let model = ScriptedModel::new([Line::call("t", deep(levels)), Line::text("done")]);
        let bounds = Bounds::default().with_depth(8);
        let leaf = MainAgent::builder("agent8", model).tool(tool).bounds(bounds).build().unwrap();
        (0..8).rev().fold(leaf, |below, level| {
            let call = Line::call(&format!("agent{}", level + 1), json!({"request": "Go"}));
            let model = ScriptedModel::new([call, Line::text("done")]);
            MainAgent::builder(format!("agent{level}"), model).sub_agent(below).bounds(bounds).build().unwrap()
        })
    };
    let state = paused(arguments(32).run("Go", caller())).unwrap().into_suspended().unwrap().state;
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<agent_core::RunState>(&text).unwrap(), state);
    assert!(paused(arguments(33).run("Go", caller())).unwrap().into_report().is_ok());
    let too_deep = Bounds::default().with_depth(9);
    let refused = MainAgent::builder("desk", ScriptedModel::new([])).bounds(too_deep).build().unwrap_err();
    assert!(refused.to_string().contains("bounds.depth"), "{refused}");
}
