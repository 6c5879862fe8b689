//! The plan of fallbacks.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod behaviour;
mod breaker;
mod golden;
mod hosts;
mod invariants;
mod marks;
mod neighbours;
mod order;
mod script;
mod shares;
mod time;
mod too_long;
mod upstream;
