//! Async functions with typed arguments, as something that can be called with JSON.

use std::future::Future;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::run_context::RunContext;
use crate::tool::{CallError, ToolOutput};

/// An async function that can be a tool or a Sub-Agent.
///
/// Implemented for functions and closures of these forms, where `In` is a struct that derives `serde::Deserialize` and
/// `schemars::JsonSchema`, `Out` is [`Serialize`] or [`ToolOutput`], and `E` is [`CallError`] or any type that implements
/// `std::error::Error` (a boxed error does not: `map_err(CallError::Internal)` takes it):
///
/// - `async fn() -> Result<Out, E>`
/// - `async fn(In) -> Result<Out, E>`
/// - `async fn(In, RunContext) -> Result<Out, E>`
/// - through [`with`], the same with an `Arc<State>` in front.
///
/// `Args` only tells these forms apart.
#[diagnostic::on_unimplemented(
    message = "this cannot be called as a function of an agent",
    label = "not an async function of the right form",
    note = "needed: `async fn(In) -> Result<Out, CallError>` or `async fn(In, RunContext) -> Result<Out, CallError>`",
    note = "`In` is one owned struct that derives `serde::Deserialize` and `schemars::JsonSchema`; `Out` implements `serde::Serialize`",
    note = "the error is `CallError` or implements `std::error::Error`: for a boxed one write `map_err(CallError::Internal)`",
    note = "the future must be `Send`: hold no `Rc`, `RefCell` borrow or `MutexGuard` across an await",
    note = "to use shared state, write `with(state, async |state: Arc<State>, input: In| ..)` instead of capturing it"
)]
pub trait Function<Args>: Send + Sync + 'static {
    /// The arguments.
    type Input: DeserializeOwned + JsonSchema + Send;
    /// The result.
    type Output: IntoOutput;

    /// Calls the function.
    fn call(&self, input: Self::Input, cx: &RunContext)
    -> impl Future<Output = Result<Self::Output, CallError>> + Send;
}

impl<F, Fut, In, Out, E> Function<(In,)> for F
where
    F: Fn(In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, E>> + Send,
    In: DeserializeOwned + JsonSchema + Send,
    Out: IntoOutput,
    E: Into<CallError>,
{
    type Input = In;
    type Output = Out;

    async fn call(&self, input: In, _: &RunContext) -> Result<Out, CallError> {
        self(input).await.map_err(Into::into)
    }
}

impl<F, Fut, In, Out, E> Function<(In, RunContext)> for F
where
    F: Fn(In, RunContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, E>> + Send,
    In: DeserializeOwned + JsonSchema + Send,
    Out: IntoOutput,
    E: Into<CallError>,
{
    type Input = In;
    type Output = Out;

    async fn call(&self, input: In, cx: &RunContext) -> Result<Out, CallError> {
        self(input, cx.clone()).await.map_err(Into::into)
    }
}

impl<F, Fut, Out, E> Function<()> for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, E>> + Send,
    Out: IntoOutput,
    E: Into<CallError>,
{
    type Input = ();
    type Output = Out;

    async fn call(&self, (): (), _: &RunContext) -> Result<Out, CallError> {
        self().await.map_err(Into::into)
    }
}

/// A function with shared state: see [`with`].
#[derive(Debug)]
pub struct Stateful<S, F> {
    state: Arc<S>,
    function: F,
}

/// Gives `function` shared state as its first argument.
///
/// ```
/// use std::sync::Arc;
/// use agent_core::{CallError, tool, with};
///
/// struct Db;
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Order {
///     order: String,
/// }
///
/// let lookup = with(Db, async |_db: Arc<Db>, input: Order| Ok::<_, CallError>(format!("{} is on its way", input.order)));
/// let orders = tool("orders", "Looks an order up", lookup);
/// ```
pub fn with<S, F>(state: impl Into<Arc<S>>, function: F) -> Stateful<S, F> {
    Stateful { state: state.into(), function }
}

impl<S, F, Fut, In, Out, E> Function<(Arc<S>, In)> for Stateful<S, F>
where
    S: Send + Sync + 'static,
    F: Fn(Arc<S>, In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, E>> + Send,
    In: DeserializeOwned + JsonSchema + Send,
    Out: IntoOutput,
    E: Into<CallError>,
{
    type Input = In;
    type Output = Out;

    async fn call(&self, input: In, _: &RunContext) -> Result<Out, CallError> {
        (self.function)(self.state.clone(), input).await.map_err(Into::into)
    }
}

impl<S, F, Fut, In, Out, E> Function<(Arc<S>, In, RunContext)> for Stateful<S, F>
where
    S: Send + Sync + 'static,
    F: Fn(Arc<S>, In, RunContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, E>> + Send,
    In: DeserializeOwned + JsonSchema + Send,
    Out: IntoOutput,
    E: Into<CallError>,
{
    type Input = In;
    type Output = Out;

    async fn call(&self, input: In, cx: &RunContext) -> Result<Out, CallError> {
        (self.function)(self.state.clone(), input, cx.clone()).await.map_err(Into::into)
    }
}

/// What a function may return: anything that serialises, or a [`ToolOutput`] when it may have to wait.
pub trait IntoOutput: Send {
    /// The output.
    ///
    /// # Errors
    ///
    /// [`CallError::Internal`] when the value does not serialise.
    fn into_output(self) -> Result<ToolOutput, CallError>;
}

impl<T: Serialize + Send> IntoOutput for T {
    fn into_output(self) -> Result<ToolOutput, CallError> {
        Ok(ToolOutput::Done(serde_json::to_value(self)?))
    }
}

impl IntoOutput for ToolOutput {
    fn into_output(self) -> Result<ToolOutput, CallError> {
        Ok(self)
    }
}

/// Reads the arguments and calls `function`.
pub(super) async fn call_with_json<A, F: Function<A>>(
    function: &F,
    input: &Value,
    cx: &RunContext,
) -> Result<ToolOutput, CallError> {
    function.call(decode(input)?, cx).await?.into_output()
}

fn decode<In: DeserializeOwned>(input: &Value) -> Result<In, CallError> {
    let unfit = match In::deserialize(input) {
        Ok(input) => return Ok(input),
        Err(unfit) => unfit,
    };
    // A unit has no fields and is `null` to serde, where models write an object without fields.
    let unit = input.as_object().filter(|fields| fields.is_empty()).and_then(|_| In::deserialize(Value::Null).ok());
    unit.ok_or_else(|| CallError::Tell(format!("the arguments do not fit: {unfit}")))
}

/// The settings that tools and Sub-Agents made of functions share.
macro_rules! function_settings {
    ($spec:ident $(. $field:ident)?) => {
        /// The same with a declared effect: what a call changes outside of the run.
        #[must_use]
        pub fn with_effect(mut self, effect: $crate::function::Effect) -> Self {
            self.$spec$(.$field)?.effect = effect;
            self
        }

        /// The same, asking a person before each call.
        #[must_use]
        pub fn with_approval(mut self) -> Self {
            self.$spec$(.$field)?.approval = $crate::function::Approval::Needed;
            self
        }

        /// The same with one more example of a request that calls for it.
        #[must_use]
        pub fn with_example(mut self, request: impl Into<String>) -> Self {
            self.$spec$(.$field)?.examples.push(request.into());
            self
        }

        /// The same with one more role that callers need.
        #[must_use]
        pub fn with_required_role(mut self, role: $crate::id::Role) -> Self {
            self.$spec$(.$field)?.required_roles.insert(role);
            self
        }

        /// The same with a time limit for each call.
        #[must_use]
        pub fn with_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.$spec$(.$field)?.timeout = Some(timeout);
            self
        }

        /// The same with a schema that results have to fit.
        #[must_use]
        pub fn with_output(mut self, output: $crate::schema::Schema) -> Self {
            self.$spec$(.$field)?.output = Some(output);
            self
        }
    };
}

pub(super) use function_settings;
