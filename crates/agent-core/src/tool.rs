//! The port to tools: one call, one result.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::agent_error::HANDED_BACK;
use crate::error::{BoxError, ErrorCode};
use crate::function::FunctionSpec;
use crate::message::CallResult;
use crate::pending::PendingKind;
use crate::run_context::RunContext;

/// Something that a model can call and that answers at once, or says what it waits for.
///
/// Most tools are async functions: see [`tool`](crate::tool()).
///
/// # Contract
///
/// - The input fits the spec's schema: the run checks it first.
/// - Several calls may run at once, for different tenants.
/// - The future may be dropped at any await: on cancellation, on a timeout. A tool with an effect passes
///   [`RunContext::idempotency_key`] on, so that a repeated call changes nothing more.
/// - Long CPU work and blocking calls go to `tokio::task::spawn_blocking`; such a thread may outlive the run, and
///   `cx.cancellation()` tells it to stop.
///
/// The testkit's `conformance::tool` checks an implementation.
#[async_trait]
pub trait Tool: Send + Sync {
    /// What the model is told, and how calls are treated.
    fn spec(&self) -> &FunctionSpec;

    /// Does the work.
    ///
    /// # Errors
    ///
    /// [`CallError`]: the model reads [`CallError::Tell`], of which it is given 4 KiB, and can mend its call; of anything else it
    /// learns only that it failed.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the call's time is over or the run is stopped. Whether its effect happened counts as unknown then:
    /// [`reconcile`](Self::reconcile) is asked before the call is made again.
    async fn call(&self, input: &Value, cx: &RunContext) -> Result<ToolOutput, CallError>;

    /// Finds out what became of an earlier call of which the run knows only that it began.
    ///
    /// `cx.idempotency_key()` is that call's key. `None`, the default, says that the tool cannot know; a person decides then.
    async fn reconcile(&self, input: &Value, cx: &RunContext) -> Option<CallResult> {
        let _ = (input, cx);
        None
    }
}

/// What a tool gives back.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ToolOutput {
    /// The result.
    Done(Value),
    /// The result will be the answer to this [`Question`](PendingKind::Question) or [`External`](PendingKind::External) result. The
    /// tool is not called again. For the other kinds only the run itself waits.
    Waits(PendingKind),
}

/// Why a call gives no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError {
    /// Something that the model should read, to mend its call or to tell the user.
    Tell(String),
    /// The request is not for this Sub-Agent. The model reads why, and does not see the Sub-Agent again in its run.
    HandBack(String),
    /// Something that is none of the model's business. It stays in the host's logs.
    Internal(BoxError),
}

impl CallError {
    /// An error that the model reads.
    pub fn tell(message: impl Into<String>) -> Self {
        Self::Tell(message.into())
    }

    /// The request is not for this Sub-Agent; the model reads why.
    pub fn hand_back(reason: impl Into<String>) -> Self {
        Self::HandBack(reason.into())
    }

    /// `call.failed`, `agent.handed_back` or `call.internal`.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Tell(_) => ErrorCode::new("call.failed"),
            Self::HandBack(_) => ErrorCode::new(HANDED_BACK),
            Self::Internal(_) => ErrorCode::new("call.internal"),
        }
    }
}

/// Any error becomes [`CallError::Internal`], so that `?` works and discloses nothing. `CallError` is therefore no
/// `std::error::Error` itself.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for CallError {
    fn from(error: E) -> Self {
        Self::Internal(Box::new(error))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Tool + ?Sized> Tool for Arc<T> {
    fn spec(&self) -> &FunctionSpec {
        (**self).spec()
    }

    async fn call(&self, input: &Value, cx: &RunContext) -> Result<ToolOutput, CallError> {
        (**self).call(input, cx).await
    }

    async fn reconcile(&self, input: &Value, cx: &RunContext) -> Option<CallResult> {
        (**self).reconcile(input, cx).await
    }
}
