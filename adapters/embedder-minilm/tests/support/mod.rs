//! A model of one layer and a few words, with weights by chance.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;

use embedder_minilm::{LoadError, MiniLmEmbedder};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// The length of a vector: one head of attention.
pub(crate) const WIDTH: usize = 32;

/// Every letter and digit, so that every word is known; and a few whole words.
pub(crate) const PIECES: [&str; 18] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "order", "where", "is", "my", "un", "##aff", "##able", "cafe", "?", "!", ",",
    "(", "¿", "strasse",
];

/// The files of a model, to be broken.
#[derive(Clone)]
pub(crate) struct Tiny {
    pub(crate) tensors: BTreeMap<String, (Vec<usize>, Dtype, Vec<u8>)>,
    pub(crate) vocabulary: String,
}

impl Tiny {
    pub(crate) fn new() -> Self {
        let letters = ('a'..='z').chain('0'..='9').flat_map(|letter| [letter.to_string(), format!("##{letter}")]);
        let pieces: Vec<String> = PIECES.iter().map(|piece| (*piece).to_owned()).chain(letters).collect();
        let mut tiny = Self { tensors: BTreeMap::new(), vocabulary: pieces.join("\n") + "\n" };
        tiny.chance("embeddings.word_embeddings.weight", &[pieces.len(), WIDTH]);
        tiny.chance("embeddings.position_embeddings.weight", &[512, WIDTH]);
        tiny.chance("embeddings.token_type_embeddings.weight", &[2, WIDTH]);
        tiny.norm("embeddings.LayerNorm");
        for part in ["query", "key", "value"] {
            tiny.linear(&format!("encoder.layer.0.attention.self.{part}"), WIDTH, WIDTH);
        }
        tiny.linear("encoder.layer.0.attention.output.dense", WIDTH, WIDTH);
        tiny.norm("encoder.layer.0.attention.output.LayerNorm");
        tiny.linear("encoder.layer.0.intermediate.dense", 64, WIDTH);
        tiny.linear("encoder.layer.0.output.dense", WIDTH, 64);
        tiny.norm("encoder.layer.0.output.LayerNorm");
        tiny
    }

    /// Puts a tensor in.
    pub(crate) fn put(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.insert(name.to_owned(), (shape.to_vec(), Dtype::F32, bytes));
    }

    pub(crate) fn weights(&self) -> Vec<u8> {
        let views = self
            .tensors
            .iter()
            .map(|(name, (shape, kind, bytes))| (name, TensorView::new(*kind, shape.clone(), bytes).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    pub(crate) fn load(&self) -> Result<MiniLmEmbedder, LoadError> {
        MiniLmEmbedder::from_bytes(&self.weights(), &self.vocabulary)
    }

    /// Why it does not load.
    pub(crate) fn refused(&self) -> LoadError {
        self.load().map(drop).unwrap_err()
    }

    pub(crate) fn chance(&mut self, name: &str, shape: &[usize]) {
        let mut random = fastrand::Rng::with_seed(name.len() as u64);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.f32() - 0.5).collect();
        self.put(name, shape, &values);
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) {
        self.chance(&format!("{name}.weight"), &[outputs, inputs]);
        self.chance(&format!("{name}.bias"), &[outputs]);
    }

    fn norm(&mut self, name: &str) {
        self.put(&format!("{name}.weight"), &[WIDTH], &[1.0; WIDTH]);
        self.put(&format!("{name}.bias"), &[WIDTH], &[0.0; WIDTH]);
    }
}
