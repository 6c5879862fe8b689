//! Why a model could not be loaded.

use std::io;
use std::path::PathBuf;

use agent_core::{BoxError, ErrorCode};

/// The model's files cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file cannot be read.
    #[error("{} cannot be read", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The weights are no safetensors file, or not all of one: a truncated download.
    #[error("the weights are no complete safetensors file")]
    Weights {
        /// What is wrong with them.
        source: BoxError,
    },
    /// The weights lack a tensor: they are another model's.
    #[error("the weights have no tensor {tensor}")]
    MissingTensor {
        /// The name of the tensor.
        tensor: String,
    },
    /// A tensor has another shape than the model's.
    #[error("tensor {tensor} has the shape {found:?}, expected {expected}")]
    TensorShape {
        /// The name of the tensor.
        tensor: String,
        /// The shape that it has.
        found: Vec<usize>,
        /// The shape that it has to have.
        expected: String,
    },
    /// A tensor does not hold 32-bit floats.
    #[error("tensor {tensor} holds {found}, expected F32")]
    TensorType {
        /// The name of the tensor.
        tensor: String,
        /// What it holds.
        found: String,
    },
    /// A tensor holds a value that is not finite.
    #[error("tensor {tensor} holds a value that is not finite")]
    TensorValue {
        /// The name of the tensor.
        tensor: String,
    },
    /// The vocabulary lacks one of the tokens that every text needs.
    #[error("the vocabulary has no {token}")]
    MissingToken {
        /// The token.
        token: &'static str,
    },
    /// The vocabulary is longer than the model's table of words: it is another model's.
    #[error("the vocabulary has {found} entries, expected at most {expected}, as many as the weights have words")]
    VocabularySize {
        /// How many entries it has.
        found: usize,
        /// How many words the weights have.
        expected: usize,
    },
}

impl LoadError {
    /// The failure's stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::new(match self {
            Self::File { .. } => "minilm.file",
            Self::Weights { .. } => "minilm.weights",
            Self::MissingTensor { .. }
            | Self::TensorShape { .. }
            | Self::TensorType { .. }
            | Self::TensorValue { .. } => "minilm.tensor",
            Self::MissingToken { .. } | Self::VocabularySize { .. } => "minilm.vocabulary",
        })
    }

    /// Whether the same files may load later: never, unless somebody changes them.
    #[must_use]
    pub fn retryable(&self) -> bool {
        false
    }
}
