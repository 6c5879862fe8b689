//! Hierarchical routing: which agent a request is for.

mod card;
mod doubts;
mod known;
mod lexical;
mod parts;
mod recorded;
mod router;
mod snapshot;

pub use card::{Grant, LifeCycle, RouteCard};
pub use recorded::{RecordedRoute, RouteChange};
pub use router::{HierarchicalRouter, RouterBuilder};
pub use snapshot::{RouterSnapshot, SnapshotError};
