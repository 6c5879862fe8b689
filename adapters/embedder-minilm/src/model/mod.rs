//! The model: from ids of tokens to vectors.

mod layer;
mod math;
mod weights;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::{Array2, Axis, Slice};

use self::layer::{HEAD, Layer, Norm};
use self::weights::Weights;
use crate::error::LoadError;

/// The most tokens of a text that the model was trained to read. Its table of places is longer.
const TRAINED_WINDOW: usize = 256;

/// A BERT encoder whose outputs are averaged.
pub(crate) struct Model {
    words: Array2<f32>,
    /// For each place of a text, with the row of the only kind of token that is used here added.
    places: Array2<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

impl Model {
    /// Reads a safetensors file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, LoadError> {
        let weights = Weights::parse(bytes)?;
        let expected = format!("[any, a multiple of {HEAD}]");
        let words = weights.any_matrix("embeddings.word_embeddings.weight", &expected, |rows, across| {
            rows > 0 && across > 0 && across.is_multiple_of(HEAD)
        })?;
        let width = words.ncols();
        let expected = |least| format!("[at least {least}, {width}]");
        let table =
            |name, least| weights.any_matrix(name, &expected(least), |rows, across| rows >= least && across == width);
        // The first and the last token need a place each, and a text something between them.
        let places = table("embeddings.position_embeddings.weight", 3)?;
        let kinds = table("embeddings.token_type_embeddings.weight", 1)?;
        let window = places.nrows().min(TRAINED_WINDOW);
        let places = places.slice_axis(Axis(0), Slice::from(..window)).to_owned() + kinds.row(0);

        let mut layers = vec![Layer::read(&weights, "encoder.layer.0", width)?];
        while weights.has(&format!("encoder.layer.{}.attention.self.query.weight", layers.len())) {
            layers.push(Layer::read(&weights, &format!("encoder.layer.{}", layers.len()), width)?);
        }
        Ok(Self { words, places, norm: Norm::read(&weights, "embeddings.LayerNorm", width)?, layers })
    }

    /// How many words have a row: ids are smaller.
    pub(crate) fn words(&self) -> usize {
        self.words.nrows()
    }

    /// How many tokens of a text are read.
    pub(crate) fn window(&self) -> usize {
        self.places.nrows()
    }

    /// One vector of length 1 for each of several texts, which are lists of ids, at most as long as the window; `None` when it was
    /// stopped. Looks whether it is between layers.
    pub(crate) fn forward(&self, texts: &[Vec<u32>], stop: &AtomicBool) -> Option<Vec<Vec<f32>>> {
        let ranges = ranges(texts);
        let mut rows = self.embed(texts);
        for layer in &self.layers {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            rows = layer.forward(rows, &ranges);
        }
        let mean = |range: Range<usize>| {
            let length = range.len() as f32;
            let mut vector = (rows.slice_axis(Axis(0), Slice::from(range)).sum_axis(Axis(0)) / length).to_vec();
            math::normalise(&mut vector);
            vector
        };
        Some(ranges.into_iter().map(mean).collect())
    }

    /// The rows of all tokens of all texts, one after the other: nothing is padded.
    fn embed(&self, texts: &[Vec<u32>]) -> Array2<f32> {
        let tokens = texts.iter().flat_map(|ids| ids.iter().zip(self.places.rows()));
        let mut rows = Array2::zeros((texts.iter().map(Vec::len).sum(), self.words.ncols()));
        for (mut row, (id, place)) in rows.rows_mut().into_iter().zip(tokens) {
            row.assign(&place);
            // The tokenizer's ids are below the number of words: it was checked when both were loaded.
            row += &self.words.row(*id as usize);
        }
        self.norm.apply(&mut rows);
        rows
    }
}

/// Which rows are which text's.
fn ranges(texts: &[Vec<u32>]) -> Vec<Range<usize>> {
    let mut start = 0;
    let range = |ids: &Vec<u32>| {
        let range = start..start + ids.len();
        start = range.end;
        range
    };
    texts.iter().map(range).collect()
}
