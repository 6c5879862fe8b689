//! Tensors out of a safetensors file.

use ndarray::Array2;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::error::LoadError;

/// The tensors of a file, by name.
pub(super) struct Weights<'a>(SafeTensors<'a>);

impl<'a> Weights<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, LoadError> {
        SafeTensors::deserialize(bytes).map(Self).map_err(|source| LoadError::Weights { source: source.into() })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.tensor(name).is_ok()
    }

    /// A tensor of two dimensions whose shape says something about the model: `expected` says in words what it may be.
    pub(super) fn any_matrix(
        &self,
        name: &str,
        expected: &str,
        fits: impl Fn(usize, usize) -> bool,
    ) -> Result<Array2<f32>, LoadError> {
        let tensor = self.tensor(name)?;
        let shape = match *tensor.shape() {
            [rows, columns] if fits(rows, columns) => (rows, columns),
            _ => return Err(wrong_shape(name, &tensor, expected.to_owned())),
        };
        let values = values(name, &tensor)?;
        Array2::from_shape_vec(shape, values).map_err(|_| wrong_shape(name, &tensor, expected.to_owned()))
    }

    /// A tensor of this shape.
    pub(super) fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Array2<f32>, LoadError> {
        self.any_matrix(name, &format!("[{rows}, {columns}]"), |found, across| (found, across) == (rows, columns))
    }

    /// A tensor of one dimension of this length.
    pub(super) fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        let tensor = self.tensor(name)?;
        match *tensor.shape() {
            [found] if found == length => values(name, &tensor),
            _ => Err(wrong_shape(name, &tensor, format!("[{length}]"))),
        }
    }

    fn tensor(&self, name: &str) -> Result<TensorView<'a>, LoadError> {
        self.0.tensor(name).map_err(|_| LoadError::MissingTensor { tensor: name.to_owned() })
    }
}

fn values(name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>, LoadError> {
    if tensor.dtype() != Dtype::F32 {
        return Err(LoadError::TensorType { tensor: name.to_owned(), found: format!("{:?}", tensor.dtype()) });
    }
    let (floats, _) = tensor.data().as_chunks::<4>();
    let values: Vec<f32> = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(LoadError::TensorValue { tensor: name.to_owned() }),
    }
}

fn wrong_shape(name: &str, tensor: &TensorView<'_>, expected: String) -> LoadError {
    LoadError::TensorShape { tensor: name.to_owned(), found: tensor.shape().to_vec(), expected }
}
