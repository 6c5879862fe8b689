//! Events: the one stream that streaming to users, audit, evals and recordings read.

mod emitter;
mod ending;
mod kind;
mod payload;
mod queue;

use std::sync::Arc;

use serde::Serialize;

pub(crate) use emitter::{Emitter, Sinks};
pub use ending::{Ending, ModelFailed, ModelFinished, RequestRouted, ResultStatus};
pub use kind::{DeltaPart, EventKind, Verdict};
pub use payload::Payload;
pub use queue::EventStream;
pub(crate) use queue::Queue;

use crate::clock::now_ms;
use crate::identity::Identity;
use crate::path::CallPath;

/// Something that happened in a run.
///
/// Its identity is (`path`, `n`): `n` grows along each path, over resumptions too, so that a reader can drop what it has seen.
/// A life of a run that was lost in a crash, and is repeated from the same state, numbers anew: of the two, the one counts whose
/// state was kept.
///
/// Order holds along a path, and a parent's event about a child comes before the child's own. Between siblings there is none. The
/// end of an agent ends everything below it that has no end of its own: a run that is stopped says so once.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// Where it happened, and whose run it is.
    #[serde(flatten)]
    pub origin: Arc<Origin>,
    /// Its number on the path. The upper 32 bits count the run's resumptions.
    pub n: u64,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Where in which run events happen: shared by all events of a path.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Origin {
    /// Where.
    pub path: CallPath,
    /// Whose run it is.
    #[serde(flatten)]
    pub identity: Arc<Identity>,
}

impl Event {
    /// An event of now, for tests of observers: a run makes its own.
    #[must_use]
    pub fn new(origin: Arc<Origin>, n: u64, kind: EventKind) -> Self {
        Self { origin, n, at: now_ms(), kind }
    }

    /// Where it happened.
    #[must_use]
    pub fn path(&self) -> &CallPath {
        &self.origin.path
    }

    /// Whose run it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.origin.identity
    }
}

impl Origin {
    /// This path of this run.
    #[must_use]
    pub const fn new(path: CallPath, identity: Arc<Identity>) -> Self {
        Self { path, identity }
    }
}
