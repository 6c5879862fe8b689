//! Sub-Agents made of async functions.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::adapt::{Function, call_with_json, function_settings};
use super::spec::FunctionSpec;
use crate::agent_error::AgentError;
use crate::budget::Limits;
use crate::id::AgentVersion;
use crate::message::CallResult;
use crate::run_context::RunContext;
use crate::run_state::ResumeError;
use crate::schema::Schema;
use crate::sub_agent::{AgentCard, AgentState, Begin, Dispatch, Outcome, SubAgent, Suspension};
use crate::tool::ToolOutput;

/// The version of the body that a suspended function saves: none, since the answer is its result.
const STATE_SCHEMA: u32 = 1;

/// A [`SubAgent`] made of an async function: see [`sub_agent`].
pub struct FnSubAgent<F, Args> {
    card: AgentCard,
    function: F,
    form: PhantomData<fn(Args)>,
}

/// Makes a Sub-Agent of an async function. The input's schema comes from the function's input type.
///
/// A function that returns [`ToolOutput::Waits`] suspends; the answer is its result.
///
/// ```
/// use agent_core::{CallError, sub_agent};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Order {
///     #[schemars(regex(pattern = r"^[A-Z]-\d{4}$"))]
///     order: String,
/// }
///
/// async fn orders(input: Order) -> Result<String, CallError> {
///     Ok(format!("{} was delivered on 9 November", input.order))
/// }
///
/// let orders = sub_agent("orders", "Looks an order up", orders).with_domain("support");
/// ```
pub fn sub_agent<Args, F: Function<Args>>(
    name: impl Into<Arc<str>>,
    description: impl Into<Arc<str>>,
    function: F,
) -> FnSubAgent<F, Args> {
    let card = AgentCard::new(FunctionSpec::new(name, description, Schema::of::<F::Input>()));
    FnSubAgent { card, function, form: PhantomData }
}

impl<F, Args> FnSubAgent<F, Args> {
    function_settings!(card.function);

    /// The same with a version.
    #[must_use]
    pub fn with_version(mut self, version: AgentVersion) -> Self {
        self.card.version = version;
        self
    }

    /// The same in a domain.
    #[must_use]
    pub fn with_domain(mut self, domain: impl Into<Arc<str>>) -> Self {
        self.card.domain = Some(domain.into());
        self
    }

    /// The same with ceilings for each run.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.card.limits = limits;
        self
    }

    /// The same, run elsewhere.
    #[must_use]
    pub fn with_dispatch(mut self, dispatch: Dispatch) -> Self {
        self.card.dispatch = dispatch;
        self
    }
}

#[async_trait]
impl<F: Function<Args>, Args: 'static> SubAgent for FnSubAgent<F, Args> {
    fn card(&self) -> &AgentCard {
        &self.card
    }

    async fn run(&self, begin: Begin, cx: &RunContext) -> Result<Outcome, AgentError> {
        match begin {
            Begin::Start { input } => match call_with_json(&self.function, &input, cx).await {
                Ok(ToolOutput::Done(value)) => Ok(Outcome::Completed(value)),
                Ok(ToolOutput::Waits(kind)) => {
                    let state = AgentState::new(&self.card, STATE_SCHEMA, Value::Null);
                    Ok(Outcome::Suspended(Suspension::waiting(state, vec![cx.pending("result", kind)])))
                }
                Err(error) => Err(error.into()),
            },
            Begin::Resume { state, answers } => {
                state.ensure_fits(&self.card, STATE_SCHEMA)?;
                let answer = answers.into_iter().next().ok_or(ResumeError::NothingToDo { pending: 1 })?;
                match answer.value.into_result() {
                    CallResult::Done(value) => Ok(Outcome::Completed(Arc::unwrap_or_clone(value))),
                    CallResult::Failed(failure) => Err(AgentError::Failed(Arc::unwrap_or_clone(failure))),
                }
            }
        }
    }
}

impl<F, Args> fmt::Debug for FnSubAgent<F, Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnSubAgent").field("card", &self.card).finish_non_exhaustive()
    }
}
