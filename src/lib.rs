//! Adjutant.
pub use agent_core::*;
