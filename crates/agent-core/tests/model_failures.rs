//! What failed calls of a model spend, and what is not tried again.
#![allow(clippy::unwrap_used)]

use agent_core::{
    ChatModel, ChatRequest, Chunk, Conversation, FinishReason, Lease, Limits, MainAgent, MicroUsd, ModelError,
    ModelErrorClass, ModelInfo, ModelStream, Price, RunContext, Spend, Tokens, Usage, async_trait, complete,
};
use futures_util::StreamExt;
use testkit::{Line, ScriptedModel, caller, paused};

/// A model that fails: before its answer begins, or after some of it.
struct Failing {
    info: ModelInfo,
    first: Option<Chunk>,
    failure: fn() -> ModelError,
}

#[async_trait]
impl ChatModel for Failing {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, _: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
        match &self.first {
            None => Err((self.failure)()),
            Some(chunk) => Ok(futures_util::stream::iter([Ok(chunk.clone()), Err((self.failure)())]).boxed()),
        }
    }
}

/// Asks with 40 bytes, which are estimated to be 10 tokens, at a dollar for a million tokens.
#[track_caller]
fn check(first: Option<Chunk>, failure: fn() -> ModelError, expected: Spend) {
    let info = ModelInfo::new("testkit", "failing");
    let info = info.with_price(Price::per_million(MicroUsd(1_000_000), MicroUsd(1_000_000)));
    let lease = Lease::root(Limits::none());
    let cx = RunContext::standalone_with(caller(), lease.clone(), Vec::new());
    let request = ChatRequest::new(Conversation::new().say("forty bytes of text, which are ten tokens"));
    assert!(paused(complete(&Failing { info, first, failure }, request, &cx)).is_err());
    assert_eq!(lease.spent(), expected);
}

fn spent(tokens: u64) -> Spend {
    Spend::model_call(Tokens(tokens)).with_micro_usd(MicroUsd(tokens))
}

#[test]
fn a_failure_before_the_answer_costs_what_was_probably_read() {
    for failure in [
        (|| ModelError::new(ModelErrorClass::TimedOut, "late")) as fn() -> ModelError,
        || ModelError::new(ModelErrorClass::FirstTokenTimeout, "late"),
        || ModelError::new(ModelErrorClass::Empty, "nothing"),
        || ModelError::new(ModelErrorClass::Cut, "half"),
    ] {
        check(None, failure, spent(11));
    }
}

#[test]
fn a_refusal_costs_nothing() {
    for failure in [
        (|| ModelError::new(ModelErrorClass::RateLimited, "later")) as fn() -> ModelError,
        || ModelError::new(ModelErrorClass::Auth, "no"),
        || ModelError::new(ModelErrorClass::Unreachable, "nobody"),
        || ModelError::new(ModelErrorClass::Unavailable, "broken"),
        || ModelError::new(ModelErrorClass::ContextOverflow, "long"),
    ] {
        check(None, failure, Spend::model_call(Tokens::ZERO));
    }
}

#[test]
fn what_the_provider_says_goes_before_everything() {
    let used = || Usage::new(Tokens(100), Tokens(1));
    let told = || ModelError::new(ModelErrorClass::Empty, "nothing").with_usage(Usage::new(Tokens(100), Tokens(1)));
    check(None, told, spent(101));
    check(Some(Chunk::Text("Hello".to_owned())), told, spent(101));
    let refused =
        || ModelError::new(ModelErrorClass::ContentPolicy, "no").with_usage(Usage::new(Tokens(100), Tokens(1)));
    check(None, refused, spent(101));
    let charged = || {
        let error = ModelError::new(ModelErrorClass::Cut, "half").with_usage(Usage::new(Tokens(100), Tokens(1)));
        error.with_cost(MicroUsd(7))
    };
    check(None, charged, Spend::model_call(Tokens(101)).with_micro_usd(MicroUsd(7)));
    // Without a word in the failure, what came before it counts.
    check(Some(Chunk::Usage(used())), || ModelError::new(ModelErrorClass::Cut, "half"), spent(101));
    check(Some(Chunk::Text("eight ab".to_owned())), || ModelError::new(ModelErrorClass::Cut, "half"), spent(13));
}

#[test]
fn an_answer_that_had_no_room_is_not_asked_for_again() {
    let line = Line::silence().then(Chunk::Reasoning("Let me think".to_owned())).then_finish(FinishReason::Length);
    let model = ScriptedModel::new([line]);
    let agent = MainAgent::builder("desk", model.clone()).build().unwrap();
    let failed = paused(agent.run("A secret question", caller())).unwrap_err();
    assert_eq!(failed.error.code().as_str(), "model.empty");
    assert!(failed.to_string().contains("max_output"), "{failed}");
    model.assert_played();
    let shown = format!("{failed:?}");
    assert!(!shown.contains("secret question") && shown.contains("entries: 1"), "{shown}");
}

/// A tool that runs an agent of its own below the call.
struct Runs(agent_core::MainAgent, agent_core::FunctionSpec);

#[agent_core::async_trait]
impl agent_core::Tool for Runs {
    fn spec(&self) -> &agent_core::FunctionSpec {
        &self.1
    }

    async fn call(
        &self,
        input: &serde_json::Value,
        cx: &RunContext,
    ) -> Result<agent_core::ToolOutput, agent_core::CallError> {
        let begin = agent_core::Begin::Start { input: std::sync::Arc::new(input.clone()) };
        match agent_core::SubAgent::run(&self.0, begin, cx).await {
            Ok(_) => Ok(agent_core::ToolOutput::Done("done".into())),
            Err(error) => Err(agent_core::CallError::tell(error.code().to_string())),
        }
    }
}

#[test]
fn an_agent_that_a_tool_runs_has_attempts_of_its_own() {
    let garbled = testkit::FnModel::new(|_| testkit::Line::fails(ModelErrorClass::Malformed));
    let inner = agent_core::MainAgent::builder("inner", garbled).build().unwrap();
    let spec = testkit::RecordingTool::new("runs");
    let runs = Runs(inner, agent_core::Tool::spec(&spec).clone());
    let model = testkit::ScriptedModel::new([
        testkit::Line::call("runs", serde_json::json!({})),
        testkit::Line::text("So be it."),
    ]);
    let desk = agent_core::MainAgent::builder("desk", model).tool(runs).build().unwrap();
    let report = paused(desk.run("Go", testkit::caller())).unwrap().into_report().unwrap();
    // Three attempts of the inner one, two of the outer one.
    assert_eq!((report.spent.model_calls, report.provenance.model_calls()), (5, 2));
}
