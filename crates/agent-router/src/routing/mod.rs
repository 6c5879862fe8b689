//! Hierarchical routing: which agent a request is for.

mod asking;
mod card;
mod doubts;
mod hybrid;
mod known;
mod parts;
mod ranking;
mod recorded;
mod router;
mod snapshot;
mod stage;
mod thresholds;

pub use asking::AskingRouter;
pub use card::{Grant, LifeCycle, RouteCard};
pub use hybrid::{HybridError, HybridRouter};
pub use recorded::{RecordedRoute, RouteChange};
pub use router::{HierarchicalRouter, RouterBuilder};
pub use snapshot::{RouterSnapshot, SnapshotError};
pub use stage::EmbeddingStage;
pub use thresholds::RoutePrecision;
