//! The port to models, and what every call of one goes through.

mod attempt;
mod attempts;
mod chunk;
mod collect;
mod complete;
mod error;
mod info;
mod request;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

pub use attempt::Attempt;
pub use attempts::Attempts;
pub use chunk::{Chunk, Finish};
pub use collect::{Collector, collect};
pub use complete::complete;
pub(crate) use complete::{Unanswered, ask};
pub use error::{ModelError, ModelErrorClass};
pub use info::{Capabilities, Metering, ModelInfo, Price};
pub use request::{ChatRequest, FunctionChoice, ModelOptions, ReasoningEffort, Restarts};

use crate::run_context::RunContext;

/// What a model says, piece by piece. It ends with [`Chunk::Finish`]; a stream that ends without one has failed.
pub type ModelStream = BoxStream<'static, Result<Chunk, ModelError>>;

/// A model that answers a conversation.
///
/// Streaming is the only call: [`collect`] makes a whole [`Reply`](crate::Reply) of it, so that streaming and blocking cannot
/// differ. Callers inside a run use [`complete`], which also reserves budget, emits events and opens a span.
///
/// # Contract
///
/// - After [`Chunk::Finish`] nothing comes; after an error nothing comes.
/// - [`Chunk::Restart`] comes only where [`ChatRequest::restarts`] allows it.
/// - Several calls may run at once, for different tenants; nothing of one may reach another.
/// - Dropping the future or the stream stops the work and closes what it holds open.
/// - An implementation does not retry unless that is what it is for, and never waits past `cx.deadline()`.
///
/// The testkit's `conformance::chat_model` checks an implementation.
#[async_trait]
pub trait ChatModel: Send + Sync {
    /// What is known about the model.
    fn info(&self) -> &ModelInfo;

    /// Begins an answer.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when no answer begins. Failures after that are items of the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the request.
    async fn stream(&self, request: ChatRequest, cx: &RunContext) -> Result<ModelStream, ModelError>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: ChatModel + ?Sized> ChatModel for Arc<T> {
    fn info(&self) -> &ModelInfo {
        (**self).info()
    }

    async fn stream(&self, request: ChatRequest, cx: &RunContext) -> Result<ModelStream, ModelError> {
        (**self).stream(request, cx).await
    }
}
