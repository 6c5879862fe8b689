//! The port to context policies: fitting a conversation into a model's window.

use std::sync::Arc;

use async_trait::async_trait;

use crate::amount::{Tokens, estimate_tokens};
use crate::conversation::Conversation;
use crate::error::{BoxError, ErrorCode};
use crate::run_context::RunContext;

/// Fits a conversation into a budget of tokens, before every turn of an agent.
///
/// # Contract
///
/// - The result is a valid conversation that fits, or a typed error.
/// - The last message of the user is in it, word for word.
/// - The same conversation and budget give the same result.
/// - Long CPU work goes to `tokio::task::spawn_blocking`.
///
/// The testkit's `conformance::context_policy` checks an implementation.
#[async_trait]
pub trait ContextPolicy: Send + Sync {
    /// Fits `request.conversation` into `request.budget`.
    ///
    /// # Errors
    ///
    /// [`ContextError`] when nothing that may be left out makes it fit.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await.
    async fn fit(&self, request: FitRequest<'_>, cx: &RunContext) -> Result<Fitted, ContextError>;
}

/// What a [`ContextPolicy`] is asked.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct FitRequest<'a> {
    /// What was said so far.
    pub conversation: &'a Conversation,
    /// How many tokens it may take: the model's window less its output, the instructions, the functions and
    /// the schema of the answer. `None` is unknown.
    pub budget: Option<Tokens>,
    /// How often the model refused a fitted conversation as too long in this turn: estimates were too low.
    pub overflows: u32,
}

impl<'a> FitRequest<'a> {
    /// A request to fit `conversation` into `budget`.
    #[must_use]
    pub const fn new(conversation: &'a Conversation, budget: Option<Tokens>) -> Self {
        Self { conversation, budget, overflows: 0 }
    }

    /// The same after the model refused as many fitted conversations as too long.
    #[must_use]
    pub const fn with_overflows(mut self, overflows: u32) -> Self {
        self.overflows = overflows;
        self
    }
}

/// A conversation that fits.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Fitted {
    /// The conversation to send.
    pub conversation: Conversation,
    /// How many tokens the whole conversation takes, counted or estimated.
    pub before: Tokens,
    /// How many tokens the fitted one takes.
    pub after: Tokens,
}

impl Fitted {
    /// A conversation of `after` tokens that stands for one of `before` tokens.
    #[must_use]
    pub const fn new(conversation: Conversation, before: Tokens, after: Tokens) -> Self {
        Self { conversation, before, after }
    }
}

/// Why a conversation does not fit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// Nothing more can be left out.
    #[error("the conversation needs {needed}, there is room for {budget}")]
    DoesNotFit {
        /// The least that is needed.
        needed: Tokens,
        /// The room.
        budget: Tokens,
    },
    /// The model says that it is too long, and the policy leaves nothing out.
    #[error("the conversation of about {needed} is too long for the model")]
    Overflow {
        /// The least that is needed.
        needed: Tokens,
    },
    /// The policy itself failed.
    #[error("the conversation could not be fitted")]
    Failed(#[source] BoxError),
}

impl ContextError {
    /// `context.does_not_fit` or `context.failed`.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::DoesNotFit { .. } | Self::Overflow { .. } => ErrorCode::new("context.does_not_fit"),
            Self::Failed(_) => ErrorCode::new("context.failed"),
        }
    }

    /// Whether the same may succeed later: never.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        false
    }
}

/// The policy that holds when a host brings none: the whole conversation, or an error when it is estimated not to fit.
#[derive(Debug, Clone, Copy, Default)]
pub struct PassThrough;

#[async_trait]
impl ContextPolicy for PassThrough {
    async fn fit(&self, request: FitRequest<'_>, _: &RunContext) -> Result<Fitted, ContextError> {
        let needed = estimate_tokens(request.conversation.size());
        if let Some(budget) = request.budget.filter(|budget| needed > *budget) {
            return Err(ContextError::DoesNotFit { needed, budget });
        }
        if request.overflows > 0 {
            return Err(ContextError::Overflow { needed });
        }
        Ok(Fitted::new(request.conversation.clone(), needed, needed))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: ContextPolicy + ?Sized> ContextPolicy for Arc<T> {
    async fn fit(&self, request: FitRequest<'_>, cx: &RunContext) -> Result<Fitted, ContextError> {
        (**self).fit(request, cx).await
    }
}
