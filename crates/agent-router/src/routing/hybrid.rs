//! The router that asks an embedding model as well.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::{
    AgentError, Caller, ErrorCode, InvalidValue, RouteDecision, RouteRequest, RouteStage, RouteThresholds, Router,
    RunContext, StageTrace, async_trait,
};

use super::card::{LifeCycle, RouteCard};
use super::known::among;
use super::ranking::Vectors;
use super::recorded::{RecordedRoute, RouteChange};
use super::router::{HierarchicalRouter, labelled, read_part};
use super::snapshot::{RouterSnapshot, SnapshotError};
use super::stage::{Embedded, EmbeddingStage};
use super::thresholds::RoutePrecision;

/// A [`HierarchicalRouter`] that asks an embedding model for what words do not tell: [`RouterBuilder::build_with`].
///
/// - Words and vectors are scored together, and their scores' sum becomes a probability. A candidate's scores say what each gave.
/// - The model is asked once a decision, within the [stage's limits](EmbeddingStage::with_limits). Where it fails, is late, costs too much,
///   or does not know a fifth of a request's tokens, words decide alone, and the decision's stages say so. It is not asked where triggers
///   decide, and for nobody who may use no agent.
/// - Texts of cards that it does not know are learnt by their words alone.
///
/// Clones are one router.
///
/// [`RouterBuilder::build_with`]: super::RouterBuilder::build_with
#[derive(Debug, Clone)]
pub struct HybridRouter {
    words: HierarchicalRouter,
    stage: EmbeddingStage,
}

/// Why a router of words and vectors could not learn. Nothing changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HybridError {
    /// A card, a name or a threshold is not valid.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// The embedding model failed, or there was no budget or time for it.
    #[error("the texts have no vectors: {0}")]
    Model(#[from] AgentError),
    /// The embedding model gives vectors of another length than before.
    #[error("the model gives vectors of {found} values, the router learnt from {learnt}")]
    Dimensions {
        /// Their length.
        found: usize,
        /// The length of those before.
        learnt: usize,
    },
    /// The runtime was shut down meanwhile.
    #[error("the learning was stopped")]
    Stopped,
}

impl HybridError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::new("route.invalid"),
            Self::Model(error) => error.code(),
            Self::Dimensions { .. } => ErrorCode::new("route.dimensions"),
            Self::Stopped => ErrorCode::new("route.stopped"),
        }
    }

    /// Whether the same may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Invalid(_) | Self::Dimensions { .. } => false,
            Self::Model(error) => error.retryable(),
            Self::Stopped => true,
        }
    }
}

impl HybridRouter {
    pub(super) const fn new(words: HierarchicalRouter, stage: EmbeddingStage) -> Self {
        Self { words, stage }
    }

    /// Decides which agent a message is for, on behalf of the context's caller. It does nothing else: `explain` is the same.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await.
    pub async fn decide(&self, message: &str, cx: &RunContext) -> RouteDecision {
        self.decide_for(message, cx.caller(), cx).await
    }

    async fn decide_for(&self, message: &str, caller: &Caller, cx: &RunContext) -> RouteDecision {
        let message = read_part(message);
        let embedded = self.embedded(message, &|card| card.is_for(caller), cx).await;
        self.words.read().decide(message, &embedded, caller)
    }

    /// Learns which agent should have got a message; `None` is for nobody. It counts for all callers from then on.
    ///
    /// # Errors
    ///
    /// [`HybridError`] when there is no such agent, or the model fails: nothing is learnt then.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has learnt nothing.
    pub async fn learn(&self, message: &str, right: Option<&str>, cx: &RunContext) -> Result<(), HybridError> {
        if let Some(name) = right {
            self.words.read().class(name)?;
        }
        let vectors = self.vectors(&[read_part(message)], cx).await?;
        Ok(self.words.learn_with(message, right, &vectors)?)
    }

    /// Adds an agent, or puts it in the place of the one of this name, without learning anew from the others.
    ///
    /// # Errors
    ///
    /// [`HybridError`] as of [`RouterBuilder::build_with`](super::RouterBuilder::build_with): nothing changes then.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has added nothing.
    pub async fn add(&self, card: RouteCard, cx: &RunContext) -> Result<(), HybridError> {
        card.ensure_valid()?;
        let texts: Vec<String> = labelled(&card).texts().collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let vectors = self.vectors(&texts, cx).await?;
        Ok(self.words.add_with(card, &vectors)?)
    }

    /// As [`HierarchicalRouter::learn_thresholds`], by words and vectors.
    ///
    /// # Errors
    ///
    /// [`HybridError`] as there, and when the model fails. Nothing changes then.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has learnt nothing.
    pub async fn learn_thresholds<'a>(
        &self,
        labelled: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
        precision: RoutePrecision,
        cx: &RunContext,
    ) -> Result<BTreeMap<String, RouteThresholds>, HybridError> {
        let labelled: Vec<(&str, Option<&str>)> =
            labelled.into_iter().map(|(message, agent)| (read_part(message), agent)).collect();
        let texts: Vec<&str> = labelled.iter().map(|(message, _)| *message).collect();
        let embedded = Embedded { vectors: self.vectors(&texts, cx).await?, trace: None };
        let judged = labelled.into_iter().map(|(message, agent)| self.words.judge(message, &embedded, agent));
        Ok(self.words.adopt(&judged.collect::<Result<Vec<_>, _>>()?, precision)?)
    }

    /// As [`HierarchicalRouter::set_thresholds`].
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] for thresholds that are not within 0 and 1.
    pub fn set_thresholds(&self, domain: &str, thresholds: RouteThresholds) -> Result<(), InvalidValue> {
        self.words.set_thresholds(domain, thresholds)
    }

    /// Sets whether an agent is in use.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] when there is no such agent.
    pub fn set_state(&self, name: &str, state: LifeCycle) -> Result<(), InvalidValue> {
        self.words.set_state(name, state)
    }

    /// Removes an agent. `false` when there is no such one.
    pub fn remove(&self, name: &str) -> bool {
        self.words.remove(name)
    }

    /// The card of an agent.
    #[must_use]
    pub fn card(&self, name: &str) -> Option<Arc<RouteCard>> {
        self.words.card(name)
    }

    /// Everything that it knows, to be kept: no text is embedded again when it is loaded.
    #[must_use]
    pub fn snapshot(&self) -> RouterSnapshot {
        self.words.snapshot()
    }

    /// The router that a snapshot was taken of, with the same embedding model.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]: also when the snapshot's vectors are another model's, by name, or when it has none.
    pub fn load(snapshot: RouterSnapshot, stage: EmbeddingStage) -> Result<Self, SnapshotError> {
        let found = snapshot.classifier.embedder();
        if found != Some(stage.model()) {
            let found = found.map(str::to_owned);
            return Err(SnapshotError::Embedder { found, asked: stage.model().to_owned() });
        }
        Ok(Self { words: HierarchicalRouter::load_all(snapshot)?, stage })
    }

    /// As [`HierarchicalRouter::record`].
    pub async fn record(&self, message: &str, cx: &RunContext) -> RecordedRoute {
        RecordedRoute::new(message, cx.caller().clone(), self.decide(message, cx).await)
    }

    /// As [`HierarchicalRouter::compare`]: each on behalf of its own caller, embedded at the expense of `cx`.
    pub async fn compare<'a>(
        &self,
        recorded: impl IntoIterator<Item = &'a RecordedRoute>,
        cx: &RunContext,
    ) -> Vec<RouteChange<'a>> {
        let mut changes = Vec::new();
        for one in recorded {
            changes.extend(one.compared(self.decide_for(&one.message, &one.caller, cx).await));
        }
        changes
    }

    /// The vectors of texts to learn from.
    async fn vectors(&self, texts: &[&str], cx: &RunContext) -> Result<Vectors, HybridError> {
        let vectors = self.stage.learn(texts, cx).await?;
        match (vectors.dimensions(), self.words.read().classifier.dimensions()) {
            (Some(found), Some(learnt)) if found != learnt => Err(HybridError::Dimensions { found, learnt }),
            _ => Ok(vectors),
        }
    }

    /// The vectors for a decision about a message, among the agents that may get it.
    async fn embedded(
        &self,
        message: &str,
        may_get: &(dyn Fn(&RouteCard) -> bool + Sync),
        cx: &RunContext,
    ) -> Embedded {
        let (texts, dimensions) = {
            let known = self.words.read();
            (known.texts(message, may_get), known.classifier.dimensions())
        };
        if texts.is_empty() {
            return Embedded::default();
        }
        let embedded = self.stage.decide(&texts, cx).await;
        match (embedded.vectors.dimensions(), dimensions) {
            (Some(found), Some(learnt)) if found != learnt => {
                let result = format!("left out: vectors of {found} values, it learnt from {learnt}");
                let trace = Some(StageTrace::new(RouteStage::Embedding, result));
                Embedded { trace, ..Embedded::default() }
            }
            _ => embedded,
        }
    }
}

#[async_trait]
impl Router for HybridRouter {
    async fn route(&self, request: RouteRequest<'_>, cx: &RunContext) -> RouteDecision {
        let message = read_part(request.message);
        let embedded = self.embedded(message, &among(&request, cx.caller()), cx).await;
        self.words.read().route(message, &embedded, &request, cx.caller())
    }

    fn may_use(&self, agent: &str, caller: &Caller) -> bool {
        self.words.may_use(agent, caller)
    }
}
