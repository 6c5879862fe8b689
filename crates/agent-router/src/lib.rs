//! Rules that speak the models' protocol: [`RuleModel`] is the embedded default when no model is configured, and the rule level
//! of a fallback chain.
//!
//! [`LexicalIndex`] is what it ranks functions with, of use for ranking any short texts by words.

mod lexical_index;
mod rule_model;
mod text;

pub use lexical_index::LexicalIndex;
pub use rule_model::RuleModel;
