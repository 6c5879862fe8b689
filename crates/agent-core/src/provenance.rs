//! Where an answer comes from.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::amount::{MicroUsd, Spend, Tokens};
use crate::model::ModelErrorClass;

/// The level of fallback that an answer comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Level {
    /// A model.
    #[default]
    Model,
    /// Rules: deterministic code.
    Rule,
    /// A person.
    Human,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::Rule => "rule",
            Self::Human => "human",
        })
    }
}

/// Where an answer comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Provenance {
    /// The levels that were gone through, in order. The last one gave the answer.
    pub levels: Vec<Level>,
    /// The model that gave it, or `None` where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// The step of a plan of fallbacks that gave it, where there is a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Arc<str>>,
    /// Every time that a model, or rules in its place, were asked by this agent, in order. Sub-Agents have their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempted>,
}

/// One attempt at an answer; or several in a row of the same model, if all of them gave one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attempted {
    /// The model that was asked.
    pub model: Arc<str>,
    /// The step of the plan of fallbacks, where there is a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Arc<str>>,
    /// Whether that is a model, or rules.
    #[serde(default)]
    pub level: Level,
    /// How it ended.
    pub end: AttemptEnd,
    /// How often it was asked in a row: more than once only if each time gave an answer.
    pub calls: u32,
    /// Tokens that were charged for all of them.
    pub tokens: Tokens,
    /// What they cost, as far as prices are known.
    pub micro_usd: MicroUsd,
}

/// How an attempt at an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttemptEnd {
    /// With a complete answer, be it good enough or not.
    Answered,
    /// The model failed.
    Failed(ModelErrorClass),
    /// It was given up before its end: the time was over, or nobody wanted it any more.
    Stopped,
}

impl Attempted {
    /// One attempt.
    #[must_use]
    pub fn new(model: Arc<str>, step: Option<Arc<str>>, level: Level, end: AttemptEnd, spent: Spend) -> Self {
        Self { model, step, level, end, calls: 1, tokens: spent.tokens, micro_usd: spent.micro_usd }
    }

    /// Appends this to `attempts`: as one more call of the last one where both gave answers.
    pub(crate) fn append_to(self, attempts: &mut Vec<Self>) {
        if let Some(last) = attempts.last_mut().filter(|last| last.is_alike(&self)) {
            last.calls = last.calls.saturating_add(self.calls);
            last.tokens = last.tokens.plus(self.tokens);
            last.micro_usd = last.micro_usd.plus(self.micro_usd);
            return;
        }
        // Most runs ask one model, and there are many runs.
        attempts.reserve_exact(1);
        attempts.push(self);
    }

    fn is_alike(&self, other: &Self) -> bool {
        self.end == AttemptEnd::Answered
            && other.end == AttemptEnd::Answered
            && (&self.model, &self.step, self.level) == (&other.model, &other.step, other.level)
    }
}

impl Provenance {
    /// An answer of `model`, or of the rules in its place, by the last of these attempts.
    pub(crate) fn of_model(model: Arc<str>, attempts: &[Attempted]) -> Self {
        let last = attempts.last();
        let model = last.is_none_or(|last| last.level == Level::Model).then_some(model);
        Self { levels: levels_of(attempts), model, step: last.and_then(|last| last.step.clone()), attempts: Vec::new() }
    }

    /// An answer of another level, after these had none.
    pub(crate) fn after(attempts: &[Attempted], level: Level) -> Self {
        let mut levels = levels_of(attempts);
        if levels.last() != Some(&level) {
            levels.push(level);
        }
        Self { levels, ..Self::default() }
    }

    /// The level that gave the answer.
    #[must_use]
    pub fn level(&self) -> Level {
        self.levels.last().copied().unwrap_or_default()
    }

    /// The levels as they stand in spans and events: `model`, `model>rule`.
    #[must_use]
    pub fn fallback_path(&self) -> String {
        self.levels.iter().map(Level::to_string).collect::<Vec<_>>().join(">")
    }

    /// How often models were asked, rules not counted.
    #[must_use]
    pub fn model_calls(&self) -> u32 {
        let of_models = self.attempts.iter().filter(|attempt| attempt.level == Level::Model);
        of_models.fold(0, |sum, attempt| sum.saturating_add(attempt.calls))
    }
}

/// The levels of attempts, each change once.
fn levels_of(attempts: &[Attempted]) -> Vec<Level> {
    let mut levels: Vec<Level> = attempts.iter().map(|attempt| attempt.level).collect();
    levels.dedup();
    levels
}
