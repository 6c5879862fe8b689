//! One layer of BERT: attention among the tokens of a text, then a network for each token.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, Slice};

use super::math;
use super::weights::Weights;
use crate::error::LoadError;

/// The length of the part of a token's row that one head of attention sees. All MiniLM models have it.
pub(super) const HEAD: usize = 32;

const ROWS: Axis = Axis(0);
const COLUMNS: Axis = Axis(1);

/// A layer's weights. Inputs and outputs are rows, one for each token.
pub(super) struct Layer {
    /// Query, key and value in one, so that the input is read once.
    attention: Linear,
    attended: Linear,
    attended_norm: Norm,
    inner: Linear,
    outer: Linear,
    outer_norm: Norm,
}

/// `input * weightᵀ + bias`.
struct Linear {
    /// A row for each output.
    weight: Array2<f32>,
    bias: Array1<f32>,
}

/// A normalisation of rows.
pub(super) struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Layer {
    /// The layer below `name`, for rows of this length.
    pub(super) fn read(weights: &Weights<'_>, name: &str, width: usize) -> Result<Self, LoadError> {
        let linear = |part: &str, outputs, inputs| Linear::read(weights, &format!("{name}.{part}"), outputs, inputs);
        let query = linear("attention.self.query", width, width)?;
        let key = linear("attention.self.key", width, width)?;
        let value = linear("attention.self.value", width, width)?;
        let inner = format!("{name}.intermediate.dense.weight");
        let inner =
            weights.any_matrix(&inner, &format!("[any, {width}]"), |rows, across| rows > 0 && across == width)?;
        let between = inner.nrows();
        Ok(Self {
            attention: Linear::stacked(&[query, key, value], width),
            attended: linear("attention.output.dense", width, width)?,
            attended_norm: Norm::read(weights, &format!("{name}.attention.output.LayerNorm"), width)?,
            inner: Linear {
                bias: weights.vector(&format!("{name}.intermediate.dense.bias"), between)?.into(),
                weight: inner,
            },
            outer: linear("output.dense", width, between)?,
            outer_norm: Norm::read(weights, &format!("{name}.output.LayerNorm"), width)?,
        })
    }

    /// The rows after this layer. `texts` says which of them belong together.
    pub(super) fn forward(&self, rows: Array2<f32>, texts: &[Range<usize>]) -> Array2<f32> {
        let attention = self.attention.apply(rows.view());
        let mut mixed = Array2::zeros(rows.raw_dim());
        for text in texts {
            let text = Slice::from(text.clone());
            attend(attention.slice_axis(ROWS, text), mixed.slice_axis_mut(ROWS, text));
        }
        let mut rows = self.attended.add_to(rows, mixed.view());
        self.attended_norm.apply(&mut rows);

        let mut inner = self.inner.apply(rows.view());
        for_rows(&mut inner, math::gelu);
        let mut rows = self.outer.add_to(rows, inner.view());
        self.outer_norm.apply(&mut rows);
        rows
    }
}

/// What each token takes from the tokens of its text: for each head the values, by how much their keys fit its query.
fn attend(attention: ArrayView2<'_, f32>, mut mixed: ArrayViewMut2<'_, f32>) {
    let width = mixed.ncols();
    let scale = (HEAD as f32).sqrt().recip();
    let mut fits = Array2::zeros((mixed.nrows(), mixed.nrows()));
    for head in (0..width).step_by(HEAD) {
        let part = |start: usize| attention.slice_axis(COLUMNS, Slice::from(start + head..start + head + HEAD));
        let (query, key, value) = (part(0), part(width), part(2 * width));
        general_mat_mul(scale, &query, &key.t(), 0.0, &mut fits);
        for_rows(&mut fits, math::softmax);
        general_mat_mul(1.0, &fits, &value, 0.0, &mut mixed.slice_axis_mut(COLUMNS, Slice::from(head..head + HEAD)));
    }
}

impl Linear {
    fn read(weights: &Weights<'_>, name: &str, outputs: usize, inputs: usize) -> Result<Self, LoadError> {
        Ok(Self {
            weight: weights.matrix(&format!("{name}.weight"), outputs, inputs)?,
            bias: weights.vector(&format!("{name}.bias"), outputs)?.into(),
        })
    }

    /// One after the other, for inputs of this length.
    fn stacked(parts: &[Self], inputs: usize) -> Self {
        let outputs = parts.iter().map(|part| part.bias.len()).sum();
        let mut all = Self { weight: Array2::zeros((outputs, inputs)), bias: Array1::zeros(outputs) };
        let mut start = 0;
        for part in parts {
            let end = start + part.bias.len();
            all.weight.slice_axis_mut(ROWS, Slice::from(start..end)).assign(&part.weight);
            all.bias.slice_axis_mut(ROWS, Slice::from(start..end)).assign(&part.bias);
            start = end;
        }
        all
    }

    fn apply(&self, input: ArrayView2<'_, f32>) -> Array2<f32> {
        self.add_to(Array2::zeros((input.nrows(), self.bias.len())), input)
    }

    /// The outputs added to `sum`.
    fn add_to(&self, mut sum: Array2<f32>, input: ArrayView2<'_, f32>) -> Array2<f32> {
        sum += &self.bias;
        // Outputs as rows of the product: the weights, of which there are most, are then packed in pieces that stay in the cache.
        general_mat_mul(1.0, &self.weight, &input.t(), 1.0, &mut sum.view_mut().reversed_axes());
        sum
    }
}

impl Norm {
    pub(super) fn read(weights: &Weights<'_>, name: &str, width: usize) -> Result<Self, LoadError> {
        Ok(Self {
            scale: weights.vector(&format!("{name}.weight"), width)?,
            shift: weights.vector(&format!("{name}.bias"), width)?,
        })
    }

    pub(super) fn apply(&self, rows: &mut Array2<f32>) {
        for_rows(rows, |row| math::layer_norm(row, &self.scale, &self.shift));
    }
}

/// Changes each row in place. Rows of owned arrays are contiguous.
fn for_rows(rows: &mut Array2<f32>, change: impl Fn(&mut [f32])) {
    for mut row in rows.rows_mut() {
        if let Some(row) = row.as_slice_mut() {
            change(row);
        }
    }
}
