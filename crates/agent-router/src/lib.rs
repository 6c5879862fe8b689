//! Fallback, and rules that speak the models' protocol.
//!
//! - [`FallbackModel`] is a plan of models, rules and people with one number of attempts, one deadline and one budget. What follows
//!   which failure is a [`FailureTable`], which is data; what is known about models is in [`Targets`].
//! - [`RuleModel`] is the embedded default when no model is configured, and the rule level of a plan. [`LexicalIndex`] is what it
//!   ranks functions with, of use for ranking any short texts by words.

mod fallback;
mod lexical_index;
mod routing;
mod rule_model;
mod text;

pub use fallback::{
    Again, Asked, BreakerSettings, BreakerState, DecisionRow, DecisionTable, FailureClass, FailureRow, FailureTable,
    FallbackBuilder, FallbackModel, FnRules, Mark, NextStep, PlanStep, Rules, RulesModel, RunFailureClass, StepLimits,
    TableRecovery, TargetKey, TargetState, Targets, Wait, Waits, rules,
};
pub use lexical_index::LexicalIndex;
pub use routing::{
    AskingRouter, EmbeddingStage, Grant, HierarchicalRouter, HybridError, HybridRouter, LifeCycle, RecordedRoute,
    RouteCard, RouteChange, RoutePrecision, RouterBuilder, RouterSnapshot, SnapshotError,
};
pub use rule_model::RuleModel;
