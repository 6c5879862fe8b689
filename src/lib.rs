//! Adjutant.
pub use agent_core::*;
pub use agent_router::*;
