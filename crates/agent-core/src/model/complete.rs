//! One call of a model as every call goes: budget reserved and settled, events, a span, the deadline.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::task::coop::consume_budget;
use tracing::Instrument;

use super::attempt::Attempt;
use super::{ChatModel, ChatRequest, Metering, ModelError, ModelErrorClass, collect};
use crate::agent_error::AgentError;
use crate::budget::Exceeded;
use crate::message::Reply;
use crate::run_context::RunContext;

/// Asks `model` for a whole answer, which names the model, within the budget and the deadline of `cx`, with events and a span.
///
/// It is one [`Attempt`], unless the model makes attempts of its own ([`Metering::Own`]). A failure charges what was received until
/// then.
///
/// # Errors
///
/// [`AgentError::Model`] when the model fails, [`AgentError::Budget`] when it may not be asked, [`AgentError::Deadline`] when the
/// time is over first, [`AgentError::Cancelled`] as soon as `cx` is [cancelled](RunContext::cancellation).
///
/// # Cancel safety
///
/// Dropping the future drops the stream, and charges what was received until then.
pub async fn complete(
    model: &(impl ChatModel + ?Sized),
    request: ChatRequest,
    cx: &RunContext,
) -> Result<Arc<Reply>, AgentError> {
    ask(model, request, cx).await.map_err(|unanswered| unanswered.error)
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) error: AgentError,
    /// Whether something of one was told.
    pub(crate) is_begun: bool,
}

impl From<AgentError> for Unanswered {
    fn from(error: AgentError) -> Self {
        Self { error, is_begun: false }
    }
}

/// As [`complete`], which says whether an answer had begun when it failed. A plan's own failures say that by their class.
pub(crate) async fn ask(
    model: &(impl ChatModel + ?Sized),
    mut request: ChatRequest,
    cx: &RunContext,
) -> Result<Arc<Reply>, Unanswered> {
    let info = model.info();
    if info.metering == Metering::Own {
        return Ok(Box::pin(relay(model, request, cx)).await?);
    }
    let reservation = Attempt::reserve(info, &mut request, cx).await?;
    let mut attempt = Attempt::begin(info, None, &request, reservation, cx)?;
    let span = attempt.span().clone();
    let received = receive(model, request, &mut attempt, cx).instrument(span);
    match cx.unless_stopped(received).await.and_then(|received| Ok(received?)) {
        Ok(()) => Ok(attempt.finish().map_err(AgentError::from)?.0),
        Err(error) => {
            let is_begun = attempt.is_begun();
            attempt.fail(&error);
            Err(Unanswered { error, is_begun })
        }
    }
}

/// Receives the whole answer. What has come so far stands in `attempt`, in case this is dropped.
async fn receive(
    model: &(impl ChatModel + ?Sized),
    request: ChatRequest,
    attempt: &mut Attempt,
    cx: &RunContext,
) -> Result<(), ModelError> {
    let mut stream = model.stream(request, cx).await?;
    while let Some(chunk) = stream.next().await {
        // A stream that is always ready gives nobody else a chance to stop it.
        consume_budget().await;
        attempt.push(&chunk?)?;
        if attempt.is_complete() {
            break;
        }
    }
    Ok(())
}

/// Receives the whole answer of a model that meters its attempts itself.
async fn relay(
    model: &(impl ChatModel + ?Sized),
    request: ChatRequest,
    cx: &RunContext,
) -> Result<Arc<Reply>, AgentError> {
    let received = async { collect(model.stream(request, cx).await?).await };
    let (mut reply, _) = cx.unless_stopped(received).await?.map_err(|error| of_attempts(error, cx))?;
    reply.model.get_or_insert_with(|| model.info().name.clone());
    Ok(Arc::new(reply))
}

/// What a model that meters its attempts itself says of their budget and time, in the run's own terms.
fn of_attempts(error: ModelError, cx: &RunContext) -> AgentError {
    if error.class == ModelErrorClass::Stopped {
        return if cx.is_cancelled() { AgentError::Cancelled } else { AgentError::Deadline };
    }
    let ModelError { class: ModelErrorClass::BudgetExceeded, source: Some(source), .. } = error else {
        return error.into();
    };
    match source.downcast::<Exceeded>() {
        Ok(exceeded) => AgentError::Budget(*exceeded),
        Err(source) => ModelError { source: Some(source), ..budget_exceeded() }.into(),
    }
}

fn budget_exceeded() -> ModelError {
    ModelError::new(ModelErrorClass::BudgetExceeded, "a ceiling of the budget is reached")
}

impl From<Exceeded> for ModelError {
    fn from(exceeded: Exceeded) -> Self {
        budget_exceeded().with_source(exceeded)
    }
}
