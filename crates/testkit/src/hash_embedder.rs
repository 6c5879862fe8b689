//! An embedding model without a model.

use std::hash::{DefaultHasher, Hash, Hasher};

use agent_core::{Embedder, Embeddings, ModelError, ModelErrorClass, ModelInfo, Price, RunContext};
use async_trait::async_trait;

/// An embedder that counts words: each adds to a place that its hash names. Texts that share words have like vectors, of length 1.
#[derive(Debug, Clone)]
pub struct HashEmbedder {
    info: ModelInfo,
    dimensions: usize,
}

impl HashEmbedder {
    /// An embedder whose vectors are this long.
    #[must_use]
    pub fn new(dimensions: usize) -> Self {
        assert!(dimensions > 0, "a vector has at least one value");
        Self { info: ModelInfo::new("testkit", "hash").with_price(Price::FREE), dimensions }
    }

    /// The vector of `text`.
    #[must_use]
    pub fn vector(&self, text: &str) -> Vec<f32> {
        let mut vector = vec![0.0; self.dimensions];
        for word in text.split_whitespace().map(str::to_lowercase) {
            let mut hasher = DefaultHasher::new();
            word.hash(&mut hasher);
            let place = usize::try_from(hasher.finish() % self.dimensions as u64).unwrap_or_default();
            vector[place] += 1.0;
        }
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|value| *value /= length);
        }
        vector
    }
}

#[async_trait]
impl Embedder for HashEmbedder {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn embed(&self, texts: &[&str], _: &RunContext) -> Result<Embeddings, ModelError> {
        Embeddings::from_vectors(texts.iter().map(|text| self.vector(text))).map_err(|invalid| {
            ModelError::new(ModelErrorClass::Malformed, "a vector is not valid").with_source(invalid)
        })
    }
}
