//! Fallback: models, rules and people as one plan with one budget.

mod attempt;
mod bounds;
mod breaker;
mod chain;
mod choose;
mod decision_table;
mod follow;
mod limiter;
mod model;
mod progress;
mod recovery;
mod rules;
mod step;
mod table;
mod targets;

pub use breaker::{BreakerSettings, BreakerState};
pub(crate) use decision_table::Phrase;
pub use decision_table::{DecisionRow, DecisionTable};
pub use limiter::StepLimits;
pub use model::{FallbackBuilder, FallbackModel, Waits};
pub use recovery::TableRecovery;
pub use rules::{Asked, FnRules, Rules, RulesModel, rules};
pub use step::PlanStep;
pub use table::{Again, FailureClass, FailureRow, FailureTable, Mark, NextStep, RunFailureClass, Wait};
pub use targets::{TargetKey, TargetState, Targets};
