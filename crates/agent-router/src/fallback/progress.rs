//! How far a request is with a step.

use tokio::time::Instant;

/// How far a request is with a step.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whether it is left behind for the rest of the request.
    pub(super) is_over: bool,
    /// How often it failed.
    pub(super) failures: u32,
    /// When it may be asked again.
    pub(super) not_before: Option<Instant>,
    /// The reason that was told last for leaving it out.
    pub(super) told: Option<&'static str>,
}
