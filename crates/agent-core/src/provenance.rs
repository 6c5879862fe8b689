//! Where an answer comes from.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The level of fallback that an answer comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Level {
    /// A model.
    #[default]
    Model,
    /// Rules: deterministic code.
    Rule,
    /// A person.
    Human,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::Rule => "rule",
            Self::Human => "human",
        })
    }
}

/// Where an answer comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Provenance {
    /// The levels that were gone through, in order. The last one gave the answer.
    pub levels: Vec<Level>,
    /// The model that gave it, or `None` where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
}

impl Provenance {
    /// An answer of `model`, at this level.
    pub(crate) fn of_model(level: Level, model: Arc<str>) -> Self {
        Self { levels: vec![level], model: Some(model) }
    }

    /// An answer of another level, after these had none.
    pub(crate) fn after(mut failed: Vec<Level>, level: Level) -> Self {
        failed.push(level);
        Self { levels: failed, model: None }
    }

    /// The level that gave the answer.
    #[must_use]
    pub fn level(&self) -> Level {
        self.levels.last().copied().unwrap_or_default()
    }

    /// The levels as they stand in spans and events: `model`, `model>rule`.
    #[must_use]
    pub fn fallback_path(&self) -> String {
        self.levels.iter().map(Level::to_string).collect::<Vec<_>>().join(">")
    }
}
