//! Hierarchical routing.
//!
//! 50 random routers for each property by default; `ADJUTANT_CASES` sets another number.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod asking;
mod behaviour;
mod corrections;
mod hybrid;
mod properties;
mod runs;
mod thresholds;
