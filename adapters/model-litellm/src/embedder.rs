//! An embedding model behind a gateway.

use std::fmt;
use std::num::NonZeroUsize;

use agent_core::{
    Embedder, Embeddings, MicroUsd, ModelError, ModelErrorClass, ModelInfo, RunContext, Tokens, Usage, async_trait,
};
use data_encoding::BASE64_NOPAD;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::config::{Dialect, RetryOwner};
use crate::decode::{Count, OrDefault, UsageFields};
use crate::failure;
use crate::gateway::Gateway;
use crate::identity::{CallIdentity, Metadata};
use crate::model;

/// How many requests of one call are under way at once.
const AT_ONCE: usize = 4;

/// An embedding model behind a [`Gateway`]. Texts are sent in batches; their vectors come back in the texts' order.
#[derive(Clone)]
pub struct GatewayEmbedder {
    gateway: Gateway,
    info: ModelInfo,
    batch: NonZeroUsize,
}

impl GatewayEmbedder {
    pub(crate) fn new(gateway: Gateway, info: ModelInfo) -> Self {
        // The smallest of the usual limits: Hugging Face's server takes 32, Cohere 96, OpenAI 2,048.
        const BATCH: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);
        Self { gateway, info, batch: BATCH }
    }

    /// The same, described like this.
    #[must_use]
    pub fn with_info(mut self, change: impl FnOnce(ModelInfo) -> ModelInfo) -> Self {
        self.info = change(self.info);
        self
    }

    /// The same, sending so many texts in one request. Default: 32, which every server takes.
    #[must_use]
    pub fn with_batch(mut self, texts: NonZeroUsize) -> Self {
        self.batch = texts;
        self
    }

    async fn embed_batch(&self, texts: &[&str], clock: &Clock, cx: &RunContext) -> Result<Batch, ModelError> {
        let config = self.gateway.config();
        let identity = CallIdentity::new(&self.gateway, cx, clock.left());
        let num_retries = (config.dialect == Dialect::LiteLlm && config.retries == RetryOwner::Caller).then_some(0);
        let body = Body {
            model: &self.info.name,
            input: texts,
            encoding_format: "float",
            num_retries,
            disable_fallbacks: num_retries.map(|_| true),
            metadata: identity.metadata.as_ref(),
        };
        let body = serde_json::to_vec(&body)
            .map_err(|problem| failure::error(ModelErrorClass::BadRequest).with_source(problem))?;
        let post = Gateway::post(&self.gateway.urls().embeddings, identity.headers, body);
        let response = self.gateway.send(post, clock).await?;
        let cost = model::cost(response.headers());
        let body = clock.until_end(model::whole_body(response, config.sizes.response)).await??;
        let text = String::from_utf8_lossy(&body);
        let document: Document<'_> = serde_json::from_str(&text).unwrap_or_default();
        if document.data.is_empty() {
            return Err(self.no_vectors(&text));
        }
        let reported = document.usage.0.report();
        let vectors = in_order(document.data, texts.len())?;
        Ok(Batch { vectors, usage: reported.usage, cost: cost.or(reported.cost) })
    }

    /// Why an answer with a status of success has no vectors: it is a page for people, or a failure.
    fn no_vectors(&self, text: &str) -> ModelError {
        match text.trim_start().starts_with('<') {
            true => failure::error(ModelErrorClass::NotFound),
            false => failure::instead(text, self.gateway.secrets()),
        }
    }
}

#[async_trait]
impl Embedder for GatewayEmbedder {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn embed(&self, texts: &[&str], cx: &RunContext) -> Result<Embeddings, ModelError> {
        if texts.is_empty() {
            return Ok(Embeddings::default());
        }
        let clock = Clock::start(self.gateway.config().timeouts, cx)?.for_whole_answers();
        // Futures that nobody has polled yet have sent nothing.
        let mut batches = Vec::with_capacity(texts.len().div_ceil(self.batch.get()));
        for texts in texts.chunks(self.batch.get()) {
            batches.push(self.embed_batch(texts, &clock, cx));
        }
        let mut asked = stream::iter(batches).buffered(AT_ONCE);
        let mut all = Batch::default();
        while let Some(batch) = asked.next().await {
            match batch {
                Ok(batch) => all.add(batch),
                Err(error) => return Err(all.paid_for(error)),
            }
        }
        all.into_embeddings()
    }
}

impl fmt::Debug for GatewayEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayEmbedder").field("info", &self.info).field("batch", &self.batch).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_fallbacks: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Metadata<'a>>,
}

#[derive(Default, Deserialize)]
struct Document<'a> {
    #[serde(default)]
    data: Vec<Item>,
    #[serde(default, borrow)]
    usage: OrDefault<UsageFields<'a>>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    index: Count,
    embedding: Vector,
}

/// A vector as numbers, or as the base64 of little-endian floats, which some servers send whatever they are asked.
#[derive(Deserialize)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

/// The vectors of one request, or of several.
#[derive(Default)]
struct Batch {
    vectors: Vec<Vec<f32>>,
    usage: Option<Usage>,
    cost: Option<MicroUsd>,
}

impl Batch {
    fn add(&mut self, other: Self) {
        if self.vectors.is_empty() {
            *self = other;
            return;
        }
        self.vectors.extend(other.vectors);
        // A sum of which a part is unknown is unknown.
        self.cost = self.cost.zip(other.cost).map(|(sum, cost)| sum.plus(cost));
        self.usage =
            self.usage.zip(other.usage).map(|(sum, usage)| Usage::new(sum.input.plus(usage.input), Tokens::ZERO));
    }

    /// `error` with what these vectors used and cost, though nobody sees them.
    fn paid_for(&self, error: ModelError) -> ModelError {
        let error = self.usage.into_iter().fold(error, ModelError::with_usage);
        self.cost.into_iter().fold(error, ModelError::with_cost)
    }

    fn into_embeddings(self) -> Result<Embeddings, ModelError> {
        let embeddings = Embeddings::from_vectors(self.vectors).map_err(malformed)?;
        let embeddings = self.usage.into_iter().fold(embeddings, Embeddings::with_usage);
        Ok(self.cost.into_iter().fold(embeddings, Embeddings::with_cost))
    }
}

/// The vectors by the places of their texts. Servers may send them in any order, or all without places.
fn in_order(mut items: Vec<Item>, texts: usize) -> Result<Vec<Vec<f32>>, ModelError> {
    if items.iter().any(|item| item.index.0.is_some()) {
        items.sort_by_key(|item| item.index.0);
        if !items.iter().zip(0..).all(|(item, place)| item.index.0 == Some(place)) {
            return Err(failure::error(ModelErrorClass::Malformed));
        }
    }
    if items.len() != texts {
        return Err(failure::error(ModelErrorClass::Malformed));
    }
    items.into_iter().map(|item| item.embedding.into_values()).collect()
}

impl Vector {
    fn into_values(self) -> Result<Vec<f32>, ModelError> {
        let text = match self {
            Self::Numbers(values) => return Ok(values),
            Self::Base64(text) => text,
        };
        let bytes = BASE64_NOPAD.decode(text.trim_end_matches('=').as_bytes()).map_err(malformed)?;
        let (floats, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(failure::error(ModelErrorClass::Malformed));
        }
        Ok(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

fn malformed(problem: impl std::error::Error + Send + Sync + 'static) -> ModelError {
    failure::error(ModelErrorClass::Malformed).with_source(problem)
}
