//! The scenarios on rig 0.44, written the way rig's own examples are.
//!
//! Each function builds its agents once and returns the closure to time.

use anyhow::Context as _;
use futures::{StreamExt, stream};
use rig_agent::agent::MultiTurnStreamItem;
use rig_agent::core::completion::{CompletionRequest, CompletionResponse, FinishReason, Usage};
use rig_agent::core::driver::{Exchange, Model, Opened, Opening, Transport};
use rig_agent::core::message::{
    AssistantContent, Message, Origin, ToolCall, ToolFunction, ToolName, ToolResultContent, UserContent,
};
use rig_agent::core::test_utils::{MOCK_API, MOCK_PROVIDER, MockFrame, MockScript};
use rig_agent::tool::{Tool, ToolContext, tool_name};
use rig_agent::{Agent, AgentBuilder};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;

use crate::scenario;

/// A model that calls `tool` once and then answers with its result.
///
/// It is a transport behind rig's scripted wire, so a call passes through the
/// same driver, telemetry and reply folding as a real provider's, without the
/// network and JSON codec.
#[derive(Clone)]
struct Script {
    tool: ToolName,
    arguments: fn() -> serde_json::Value,
    prefix: &'static str,
}

impl Script {
    fn model(self) -> Model<MockScript, Self> {
        Model::new(MockScript::default(), self)
    }

    fn reply(&self, request: &CompletionRequest) -> CompletionResponse {
        scenario::model_called();
        let (content, reason) = match last_tool_result(request) {
            Some(result) => {
                let answer = format!("{}{}", self.prefix, shown(result));
                (AssistantContent::text(answer), FinishReason::Stop)
            }
            None => {
                let function = ToolFunction::new(self.tool.clone(), (self.arguments)());
                let call = ToolCall::from_wire(scenario::CALL_ID, function);
                (AssistantContent::ToolCall(call), FinishReason::ToolCalls)
            }
        };
        let usage = Usage::new()
            .input_tokens(scenario::INPUT_TOKENS)
            .output_tokens(scenario::OUTPUT_TOKENS)
            .total_tokens(scenario::INPUT_TOKENS + scenario::OUTPUT_TOKENS);
        let origin = Origin::new(MOCK_API, MOCK_PROVIDER, "");
        // A `Null` provider document is the cheapest rig can be given: real
        // ones are kept with the run.
        let raw = serde_json::Value::Null;
        CompletionResponse::new(vec![content], usage, origin, raw).with_optional_finish_reason(Some(reason))
    }
}

impl Transport<MockScript> for Script {
    fn send(&self, request: CompletionRequest, _: Exchange) -> Opening<MockFrame> {
        let reply = MockFrame::Response(Box::new(self.reply(&request)));
        Opening::ready(Opened::new(stream::iter([Ok(reply)])))
    }
}

fn last_tool_result(request: &CompletionRequest) -> Option<&ToolResultContent> {
    match request.chat_history.last()? {
        Message::User { content } => content.iter().find_map(|item| match item {
            UserContent::ToolResult(result) => result.content.first(),
            _ => None,
        }),
        _ => None,
    }
}

/// A tool result as a provider would show it to the model.
fn shown(result: &ToolResultContent) -> String {
    match (result.as_text(), result.as_json()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(json)) => json.to_string(),
        (None, None) => String::new(),
    }
}

#[derive(Deserialize, JsonSchema)]
struct AddArgs {
    /// The first summand.
    a: i64,
    /// The second summand.
    b: i64,
}

struct Add;

impl Tool for Add {
    const NAME: &'static str = scenario::ADD;
    type Args = AddArgs;
    type Output = i64;
    type Error = std::convert::Infallible;

    fn description(&self) -> String {
        scenario::ADD_DESCRIPTION.to_owned()
    }

    fn parameters(&self) -> serde_json::Value {
        schema_for!(AddArgs).to_value()
    }

    async fn call(&self, _: &mut ToolContext, args: AddArgs) -> Result<i64, Self::Error> {
        scenario::leaf_tool_called();
        Ok(args.a + args.b)
    }
}

/// Two model calls: the tool call and the answer. rig's default budget is one.
const MAX_TURNS: usize = 2;

fn calculator() -> Agent {
    let model = Script { tool: tool_name::<Add>(), arguments: scenario::add_arguments, prefix: scenario::CHILD_PREFIX };
    AgentBuilder::new(model.model())
        .name(scenario::CALCULATOR)
        .description(scenario::CALCULATOR_DESCRIPTION)
        .preamble(scenario::PREAMBLE)
        .default_max_turns(MAX_TURNS)
        .tool(Add)
        .build()
}

fn parent() -> anyhow::Result<Agent> {
    let model = Script {
        tool: ToolName::new(scenario::CALCULATOR)?,
        arguments: scenario::delegate_arguments,
        prefix: scenario::PARENT_PREFIX,
    };
    Ok(AgentBuilder::new(model.model())
        .name("assistant")
        .preamble(scenario::PARENT_PREAMBLE)
        .default_max_turns(MAX_TURNS)
        .dynamic_tool(calculator().into_tool()?)
        .build())
}

async fn prompt(agent: &Agent) -> anyhow::Result<String> {
    Ok(agent.prompt(scenario::PROMPT).await?.output())
}

/// The same run, asking for a streamed reply and reading every item of it.
async fn prompt_streamed(agent: &Agent) -> anyhow::Result<String> {
    let mut items = agent.prompt(scenario::PROMPT).stream();
    let mut answer = None;
    while let Some(item) = items.next().await {
        if let MultiTurnStreamItem::FinalResponse(response) = item? {
            answer = Some(response.output());
        }
    }
    answer.context("the stream ended without a final response")
}

pub fn one_tool_loop() -> anyhow::Result<impl AsyncFn() -> anyhow::Result<String>> {
    let agent = calculator();
    Ok(async move || prompt(&agent).await)
}

pub fn one_tool_loop_streamed() -> anyhow::Result<impl AsyncFn() -> anyhow::Result<String>> {
    let agent = calculator();
    Ok(async move || prompt_streamed(&agent).await)
}

pub fn delegation() -> anyhow::Result<impl AsyncFn() -> anyhow::Result<String>> {
    let agent = parent()?;
    Ok(async move || prompt(&agent).await)
}

/// Only the parent streams: rig always prompts an agent used as a tool.
pub fn delegation_streamed() -> anyhow::Result<impl AsyncFn() -> anyhow::Result<String>> {
    let agent = parent()?;
    Ok(async move || prompt_streamed(&agent).await)
}
