//! Vectors of texts.

use rustc_hash::FxHashMap;

/// Vectors by text, of one embedding model.
#[derive(Debug, Clone, Default)]
pub(in crate::routing) struct Vectors {
    /// The model.
    pub(in crate::routing) embedder: String,
    by_text: FxHashMap<String, Vec<f32>>,
}

impl Vectors {
    /// None of this model.
    pub(in crate::routing) fn of(embedder: impl Into<String>) -> Self {
        Self { embedder: embedder.into(), by_text: FxHashMap::default() }
    }

    /// Keeps the vector of a text, at length 1.
    pub(in crate::routing) fn insert(&mut self, text: &str, values: &[f32]) {
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        if length > 0.0 {
            self.by_text.insert(text.to_owned(), values.iter().map(|value| value / length).collect());
        }
    }

    pub(in crate::routing) fn get(&self, text: &str) -> Option<&[f32]> {
        self.by_text.get(text).map(Vec::as_slice)
    }

    /// How many values they have, if there are any.
    pub(in crate::routing) fn dimensions(&self) -> Option<usize> {
        self.by_text.values().next().map(Vec::len)
    }
}
