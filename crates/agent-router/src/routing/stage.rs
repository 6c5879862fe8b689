//! An embedding model as a stage of a router.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    AgentError, Embedder, Embeddings, Limits, ModelError, ModelErrorClass, RouteStage, RunContext, StageTrace, embed,
};
use futures_util::FutureExt;

use super::ranking::Vectors;

/// The share of a text's tokens that a model may not know. Of a text of which it knows less, its vector says nothing.
const MOST_UNKNOWN: f32 = 0.2;

/// How long a decision waits for vectors by default.
const TIME: Duration = Duration::from_millis(500);

/// An embedding model that a router asks, and what a decision may take of it.
#[derive(Clone)]
pub struct EmbeddingStage {
    embedder: Arc<dyn Embedder>,
    limits: Limits,
}

/// The vectors for a decision, and what the trace says of them.
#[derive(Default)]
pub(super) struct Embedded {
    pub(super) vectors: Vectors,
    pub(super) trace: Option<StageTrace>,
}

impl EmbeddingStage {
    /// This model. A decision waits half a second for it, and pays what it costs.
    #[must_use]
    pub fn new(embedder: impl Embedder + 'static) -> Self {
        Self { embedder: Arc::new(embedder), limits: Limits::none().with_time(TIME) }
    }

    /// The same with these limits for each decision: time, tokens and cost. A decision for which they are not enough is made without
    /// vectors. What a router embeds to learn has the limits of its caller's context.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The model's name.
    pub(super) fn model(&self) -> &str {
        &self.embedder.info().name
    }

    /// The vectors of the texts that the model knows, each once.
    pub(super) async fn learn(&self, texts: &[&str], cx: &RunContext) -> Result<Vectors, AgentError> {
        let mut known: Vec<&str> = texts.iter().copied().filter(|text| self.unknown(text).is_none()).collect();
        known.sort_unstable();
        known.dedup();
        let embeddings = self.embed(&known, cx).await?;
        Ok(self.vectors(&known, &embeddings))
    }

    /// The vectors of the texts of a decision, as far as they come in time: the first text is the message.
    pub(super) async fn decide(&self, texts: &[&str], cx: &RunContext) -> Embedded {
        let traced = |result: String| Some(StageTrace::new(RouteStage::Embedding, result));
        if let Some(unknown) = texts.first().and_then(|message| self.unknown(message)) {
            let result = format!("abstains: the model does not know {:.0} % of it", 100.0 * unknown);
            return Embedded { vectors: Vectors::default(), trace: traced(result) };
        }
        let known: Vec<&str> = texts.iter().copied().filter(|text| self.unknown(text).is_none()).collect();
        match self.embed(&known, &cx.within(self.limits)).await {
            Ok(embeddings) => {
                let texts = if known.len() == 1 { "text" } else { "texts" };
                let trace = traced(format!("{} {texts} by {}", known.len(), self.model()));
                Embedded { vectors: self.vectors(&known, &embeddings), trace }
            }
            Err(error) => {
                Embedded { vectors: Vectors::default(), trace: traced(format!("left out: {}", error.code())) }
            }
        }
    }

    /// The share of a text that the model does not know, if that is too much.
    fn unknown(&self, text: &str) -> Option<f32> {
        self.embedder.unknown_share(text).filter(|share| *share > MOST_UNKNOWN)
    }

    fn vectors(&self, texts: &[&str], embeddings: &Embeddings) -> Vectors {
        let mut vectors = Vectors::of(self.model());
        texts.iter().zip(embeddings.iter()).for_each(|(text, values)| vectors.insert(text, values));
        vectors
    }

    /// A model is a host's own code, and may panic.
    async fn embed(&self, texts: &[&str], cx: &RunContext) -> Result<Embeddings, AgentError> {
        let embedded = AssertUnwindSafe(embed(&self.embedder, texts, cx)).catch_unwind().await;
        embedded.unwrap_or_else(|_| Err(ModelError::new(ModelErrorClass::Panicked, "the model's code panicked").into()))
    }
}

impl fmt::Debug for EmbeddingStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddingStage").field("model", &self.model()).field("limits", &self.limits).finish()
    }
}
