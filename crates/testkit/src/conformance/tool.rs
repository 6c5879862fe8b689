//! The suite for [`Tool`].

use std::sync::Arc;

use agent_core::{CallError, MainAgent, RunContext, Tool, ToolOutput};
use serde_json::Value;

use super::support::{abandon, at_once, blocks_nothing, brief, can_be_answered, context, ends};
use crate::{FnModel, Line};

type Called = Result<ToolOutput, CallError>;

/// Checks a [`Tool`] with an input that it takes: `tool(tool, json!({"order": "A-1042"})).await`.
///
/// - A model can call it: its name and its schemas are valid, and its input is an object. Its spec always says the same.
/// - A call ends with an output or a [`CallError`], and not by a panic.
/// - A result fits the spec's output schema; something waited for can be saved, and an answer can fit it.
/// - A call holds its thread only briefly.
/// - Calls run at once, for different tenants, as well as alone.
/// - The future can be dropped at every await, and the same call goes as well after that, under the same idempotency key.
/// - [`Tool::reconcile`] ends, and not by a panic.
///
/// The suite makes at most 40 calls.
///
/// # Panics
///
/// When a rule is broken, or when `input` does not fit the spec's schema.
pub async fn tool(tool: impl Tool + 'static, input: Value) {
    let tool: Arc<dyn Tool> = Arc::new(tool);
    a_model_can_call_it(&tool, &input);
    let spec = tool.spec().clone();
    a_call_blocks_nothing(&*tool, &input).await;
    let alone = a_call_ends_with_a_fitting_output(&*tool, &input).await;
    calls_at_once_go_as_well_as_alone(&tool, &input, &alone).await;
    a_dropped_call_leaves_nothing_behind(&*tool, &input, &alone).await;
    let cx = context("acme");
    ends("`reconcile`", tool.reconcile(&input, &cx)).await;
    assert!(*tool.spec() == spec, "`spec` always says the same; it said {spec:?} and then {:?}", tool.spec());
}

fn a_model_can_call_it(tool: &Arc<dyn Tool>, input: &Value) {
    // Building an agent is what checks a spec.
    let built = MainAgent::builder("conformance", FnModel::new(|_| Line::text("fine"))).tool(tool.clone()).build();
    built.unwrap_or_else(|invalid| panic!("a model can call it: {invalid}"));
    let fits = tool.spec().input.check(input);
    fits.unwrap_or_else(|violation| panic!("the input that is given to the suite fits the spec: {violation}"));
}

async fn a_call_ends_with_a_fitting_output(tool: &dyn Tool, input: &Value) -> Called {
    let called = call(tool, "a call", input, &context("acme")).await;
    match &called {
        Ok(ToolOutput::Done(result)) => {
            let fits = tool.spec().output.as_ref().map_or(Ok(()), |schema| schema.check(result));
            fits.unwrap_or_else(|violation| panic!("a result fits the spec's output schema: {violation}"));
        }
        Ok(ToolOutput::Waits(kind)) => can_be_answered("what the call waits for", kind),
        _ => {}
    }
    called
}

async fn a_call_blocks_nothing(tool: &dyn Tool, input: &Value) {
    let cx = context("acme");
    blocks_nothing("a call", || tool.call(input, &cx)).await;
}

async fn calls_at_once_go_as_well_as_alone(tool: &Arc<dyn Tool>, input: &Value, alone: &Called) {
    let calls = ["acme", "globex"].into_iter().cycle().take(16).map(|tenant| {
        let (tool, input, cx) = (tool.clone(), input.clone(), context(tenant));
        async move { call(&*tool, "one of several calls at once", &input, &cx).await }
    });
    for called in at_once("several calls at once", calls).await {
        goes_as_well("one of several calls at once", &called, alone);
    }
}

async fn a_dropped_call_leaves_nothing_behind(tool: &dyn Tool, input: &Value, alone: &Called) {
    for awaits in 1..=8 {
        let cx = context("acme");
        let has_more = abandon("a dropped call", awaits, tool.call(input, &cx)).await;
        goes_as_well("a call after a dropped one", &call(tool, "a call after a dropped one", input, &cx).await, alone);
        if !has_more {
            break;
        }
    }
}

/// Makes sure that a call has an output if the first one had one. What a tool says may change from call to call.
fn goes_as_well(what: &str, called: &Called, alone: &Called) {
    if let (Ok(alone), Err(error)) = (alone, called) {
        panic!("{what} goes as well as one alone; that gave {}, this failed: {error:?}", brief(alone));
    }
}

async fn call(tool: &dyn Tool, what: &str, input: &Value, cx: &RunContext) -> Called {
    ends(what, tool.call(input, cx)).await
}
