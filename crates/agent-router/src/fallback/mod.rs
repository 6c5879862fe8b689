//! Fallback: models, rules and people as one plan with one budget.

mod attempt;
mod breaker;
mod chain;
mod limiter;
mod model;
mod progress;
mod step;
mod table;
mod targets;

pub use breaker::{BreakerSettings, BreakerState};
pub use limiter::StepLimits;
pub use model::{FallbackBuilder, FallbackModel, Waits};
pub use step::Step;
pub use table::{Again, FailureClass, FailureRow, FailureTable, Mark, NextStep, RunFailureClass, Wait};
pub use targets::{TargetKey, TargetState, Targets};
