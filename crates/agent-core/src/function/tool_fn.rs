//! Tools made of async functions.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::adapt::{Function, call_with_json, function_settings};
use super::spec::FunctionSpec;
use crate::run_context::RunContext;
use crate::schema::Schema;
use crate::tool::{CallError, Tool, ToolOutput};

/// A [`Tool`] made of an async function: see [`tool`].
pub struct FnTool<F, Args> {
    spec: FunctionSpec,
    function: F,
    form: PhantomData<fn(Args)>,
}

/// Makes a tool of an async function. The arguments' schema comes from the function's input type.
///
/// ```
/// use agent_core::{CallError, Effect, tool};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct City {
///     /// Its name in English.
///     city: String,
/// }
///
/// async fn weather(input: City) -> Result<String, CallError> {
///     match input.city.as_str() {
///         "Lisbon" => Ok("sunny".into()),
///         other => Err(CallError::tell(format!("there is no station in {other}"))),
///     }
/// }
///
/// let weather = tool("weather", "Tells the weather of a city", weather).with_effect(Effect::ReadOnly);
/// ```
pub fn tool<Args, F: Function<Args>>(
    name: impl Into<Arc<str>>,
    description: impl Into<Arc<str>>,
    function: F,
) -> FnTool<F, Args> {
    let spec = FunctionSpec::new(name, description, Schema::of::<F::Input>());
    FnTool { spec, function, form: PhantomData }
}

impl<F, Args> FnTool<F, Args> {
    function_settings!(spec);
}

#[async_trait]
impl<F: Function<Args>, Args: 'static> Tool for FnTool<F, Args> {
    fn spec(&self) -> &FunctionSpec {
        &self.spec
    }

    async fn call(&self, input: &Value, cx: &RunContext) -> Result<ToolOutput, CallError> {
        call_with_json(&self.function, input, cx).await
    }
}

impl<F, Args> fmt::Debug for FnTool<F, Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnTool").field("spec", &self.spec).finish_non_exhaustive()
    }
}
