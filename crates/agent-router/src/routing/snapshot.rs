//! What a router knows, as a value that is kept and loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::{ErrorCode, RouteThresholds};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::card::RouteCard;
use super::ranking::Classifier;

/// The version of the format.
pub(super) const FORMAT: u32 = 1;

/// What a router knows: its cards, what it learnt, its thresholds. serde writes it.
///
/// It is trusted as the router's own memory is: keep it where nobody else writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RouterSnapshot {
    /// The version of the format.
    pub(super) format: u32,
    pub(super) digest: Arc<str>,
    pub(super) cards: Vec<RouteCard>,
    pub(super) thresholds: BTreeMap<String, RouteThresholds>,
    pub(super) classifier: Classifier,
}

/// Why a snapshot cannot be loaded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It is of another version.
    #[error("the snapshot has format {found}, this version reads {FORMAT}")]
    Format {
        /// Its version.
        found: u32,
    },
    /// It has no vectors of this embedding model.
    #[error("the snapshot has vectors of {}, not of {asked}", found.as_deref().unwrap_or("no model"))]
    Embedder {
        /// The model whose vectors it has, if any.
        found: Option<String>,
        /// The model that was given.
        asked: String,
    },
    /// Its parts do not belong together.
    #[error("the snapshot's cards and classes differ: {name}")]
    Inconsistent {
        /// An agent that is in one of them only.
        name: String,
    },
}

impl SnapshotError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Format { .. } => ErrorCode::new("route.snapshot_format"),
            Self::Embedder { .. } => ErrorCode::new("route.snapshot_embedder"),
            Self::Inconsistent { .. } => ErrorCode::new("route.snapshot_inconsistent"),
        }
    }

    /// Whether the same may succeed later: never.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        false
    }
}

impl RouterSnapshot {
    /// The digest by which decisions name it.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// The digest of what was known and what was learnt then: the same beginnings and changes give the same one.
pub(super) fn extended(digest: &str, change: &impl Serialize) -> Arc<str> {
    let mut hash = Sha256::new_with_prefix(digest.as_bytes());
    // Cards and texts can always be written.
    hash.update(serde_json::to_vec(change).unwrap_or_default());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
