//! The scenarios on Adjutant, written the way its own examples are.
//!
//! Each function builds its agents once and returns the closure to time.

use agent_core::{
    CallError, CallResult, Caller, ChatModel, ChatRequest, Entry, MainAgent, ModelError, ModelInfo, ModelStream,
    RunContext, async_trait, tool,
};
use anyhow::Context as _;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{adjutant_replies, scenario};

/// A model that calls `tool` once and then answers with its result.
///
/// A call of it passes through the same budget, telemetry, events and reply folding as a real provider's, without the
/// network and codec. Unlike rig's script it gives arguments as text, which Adjutant then parses.
struct Script {
    info: ModelInfo,
    tool: &'static str,
    arguments: String,
    prefix: &'static str,
}

impl Script {
    fn new(tool: &'static str, arguments: &serde_json::Value, prefix: &'static str) -> Self {
        Self { info: adjutant_replies::info(), tool, arguments: arguments.to_string(), prefix }
    }
}

#[async_trait]
impl ChatModel for Script {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
        scenario::model_called();
        Ok(match last_result(&request) {
            Some(result) => adjutant_replies::answer([format!("{}{}", self.prefix, shown(result))]),
            None => adjutant_replies::call(self.tool, self.arguments.clone()),
        })
    }
}

fn last_result(request: &ChatRequest) -> Option<&CallResult> {
    match request.conversation.entries().last()? {
        Entry::Agent(turn) => turn.results().first(),
        _ => None,
    }
}

/// A result as a provider would show it to the model.
fn shown(result: &CallResult) -> String {
    match &*result.to_model_value() {
        serde_json::Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

#[derive(Deserialize, JsonSchema)]
struct AddArgs {
    /// The first summand.
    a: i64,
    /// The second summand.
    b: i64,
}

/// As in a first program nobody says what it changes, so that Adjutant keeps its results in a journal, which rig has none of.
async fn add(args: AddArgs) -> Result<i64, CallError> {
    scenario::leaf_tool_called();
    Ok(args.a + args.b)
}

/// What rig asks an agent that is used as a tool for, so that both parents' models say the same.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Delegated {
    /// The task of the sub-agent.
    prompt: String,
}

fn calculator() -> anyhow::Result<MainAgent> {
    let model = Script::new(scenario::ADD, &scenario::add_arguments(), scenario::CHILD_PREFIX);
    let agent = MainAgent::builder(scenario::CALCULATOR, model)
        .description(scenario::CALCULATOR_DESCRIPTION)
        .instructions(scenario::PREAMBLE)
        .input::<Delegated>()
        .tool(tool(scenario::ADD, scenario::ADD_DESCRIPTION, add));
    Ok(agent.build()?)
}

fn parent() -> anyhow::Result<MainAgent> {
    let model = Script::new(scenario::CALCULATOR, &scenario::delegate_arguments(), scenario::PARENT_PREFIX);
    let agent = MainAgent::builder("assistant", model).instructions(scenario::PARENT_PREAMBLE);
    Ok(agent.sub_agent(calculator()?).build()?)
}

/// Adjutant's runs always have a caller.
fn caller() -> anyhow::Result<Caller> {
    Ok(Caller::new("acme", "ann")?)
}

async fn prompt(agent: &MainAgent, caller: &Caller) -> anyhow::Result<String> {
    Ok(agent.run(scenario::PROMPT, caller.clone()).await?.to_string())
}

/// The same run in a task of its own, reading every event of it.
async fn prompt_streamed(agent: &MainAgent, caller: &Caller) -> anyhow::Result<String> {
    let mut run = agent.start(scenario::PROMPT, caller.clone());
    let mut events = run.events().context("the events were taken")?;
    while let Some(event) = events.next().await {
        std::hint::black_box(event);
    }
    Ok(run.join().await?.to_string())
}

pub fn one_tool_loop() -> anyhow::Result<impl AsyncFn() -> anyhow::Result<String>> {
    let (agent, caller) = (calculator()?, caller()?);
    Ok(async move || prompt(&agent, &caller).await)
}

pub fn one_tool_loop_streamed() -> anyhow::Result<impl AsyncFn() -> anyhow::Result<String>> {
    let (agent, caller) = (calculator()?, caller()?);
    Ok(async move || prompt_streamed(&agent, &caller).await)
}

pub fn delegation() -> anyhow::Result<impl AsyncFn() -> anyhow::Result<String>> {
    let (agent, caller) = (parent()?, caller()?);
    Ok(async move || prompt(&agent, &caller).await)
}

/// Parent and child stream: their events come in one stream.
pub fn delegation_streamed() -> anyhow::Result<impl AsyncFn() -> anyhow::Result<String>> {
    let (agent, caller) = (parent()?, caller()?);
    Ok(async move || prompt_streamed(&agent, &caller).await)
}
