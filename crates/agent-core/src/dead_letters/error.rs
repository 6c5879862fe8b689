//! What can go wrong with dead letters.

use crate::error::{BoxError, ErrorCode};

/// Why a store of dead letters did not do what it was asked for.
///
/// `Display` has nothing of what the letters hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// The store failed.
    #[error("the store of dead letters failed")]
    Failed(#[source] BoxError),
    /// A line of the store's file is none that this store wrote: the file was damaged, or is another one. Nothing of it was
    /// changed. Without a source, since that could quote a conversation.
    #[error("line {line} of the file of dead letters cannot be read")]
    Unreadable {
        /// The line, counted from one.
        line: u64,
    },
    /// A line of the store's file has a format that this version does not know: a later version wrote it.
    #[error("line {line} of the file of dead letters has format {found}, expected {expected}")]
    UnknownFormat {
        /// The line, counted from one.
        line: u64,
        /// The line's format.
        found: u32,
        /// The newest format that is known.
        expected: u32,
    },
}

impl DeadLetterError {
    /// A failure of the store.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self::Failed(source.into())
    }

    /// Whether the same may succeed later: unless the file needs a person's hand, or another version.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Failed(_) => true,
            Self::Unreadable { .. } | Self::UnknownFormat { .. } => false,
        }
    }

    /// The stable code: `dead_letters.failed`, `dead_letters.unreadable` or `dead_letters.unknown_format`.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        ErrorCode::new(match self {
            Self::Failed(_) => "dead_letters.failed",
            Self::Unreadable { .. } => "dead_letters.unreadable",
            Self::UnknownFormat { .. } => "dead_letters.unknown_format",
        })
    }
}

impl From<std::io::Error> for DeadLetterError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}
