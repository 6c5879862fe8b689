//! The port to embedding models, and what every call of one goes through.

mod embed;
mod embeddings;

use std::sync::Arc;

use async_trait::async_trait;

pub use embed::embed;
pub use embeddings::Embeddings;

use crate::model::{ModelError, ModelInfo};
use crate::run_context::RunContext;

/// Makes vectors of texts, such that texts of like meaning have like vectors.
///
/// Callers inside a run use [`embed`], which also reserves budget and opens a span.
///
/// # Contract
///
/// - Each text gets one vector, in the texts' order. All are of one length and finite.
/// - A text has the same vector whatever it is sent with, up to rounding.
/// - No texts give no vectors, without asking anybody.
/// - Any number of texts is taken: what a backend takes at once is the implementation's business.
/// - Several calls may run at once, for different tenants; nothing of one may reach another.
/// - Dropping the future stops the work, and nothing waits past `cx.deadline()`. Long CPU work goes to
///   `tokio::task::spawn_blocking`.
///
/// The testkit's `conformance::embedder` checks an implementation.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// What is known about the model. Its window is how many tokens one text may have.
    fn info(&self) -> &ModelInfo;

    /// Makes a vector of each text.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when one of the texts has no vector; there are none at all then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the request.
    async fn embed(&self, texts: &[&str], cx: &RunContext) -> Result<Embeddings, ModelError>;

    /// The share of this text's tokens that the model does not know, from 0 to 1; `None` where that is not known, which is the default.
    ///
    /// The vector of a text of which much is unknown says little: a model of English words makes nearly the same of all Chinese
    /// texts. Only the tokens that the model reads count, not those after its window; an empty text has none that are unknown. It
    /// is asked for beside [`embed`](Self::embed), waits for nothing and costs nothing.
    fn unknown_share(&self, text: &str) -> Option<f32> {
        let _ = text;
        None
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Embedder + ?Sized> Embedder for Arc<T> {
    fn info(&self) -> &ModelInfo {
        (**self).info()
    }

    async fn embed(&self, texts: &[&str], cx: &RunContext) -> Result<Embeddings, ModelError> {
        (**self).embed(texts, cx).await
    }

    fn unknown_share(&self, text: &str) -> Option<f32> {
        (**self).unknown_share(text)
    }
}
