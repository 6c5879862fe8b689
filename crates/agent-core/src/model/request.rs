//! What a model is asked.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::amount::{Tokens, estimate_tokens};
use crate::conversation::Conversation;
use crate::error::ErrorCode;
use crate::function::FunctionSpec;
use crate::schema::Schema;

/// What a model is asked: instructions, a conversation, and functions that it may call.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ChatRequest {
    /// The agent's instructions, which providers call the system prompt. Empty for none.
    pub instructions: Arc<str>,
    /// What was said.
    pub conversation: Conversation,
    /// The functions: tools and Sub-Agents alike.
    pub functions: Arc<[FunctionSpec]>,
    /// Which functions it may or must call.
    pub choice: FunctionChoice,
    /// The schema that a final answer has to fit.
    pub answer: Option<Schema>,
    /// How many tokens it may write. The run clamps this to what its budget leaves.
    pub max_output: Option<Tokens>,
    /// How it answers.
    pub options: Arc<ModelOptions>,
    /// How many entries at the end of the conversation are about repairing an answer: replies that did not fit, and the run's own
    /// messages that say why. They will not stand in the conversation that the run gives back.
    pub repairs: usize,
    /// The answers that did not fit and are being repaired, in order: for each the step of a plan that gave it, where one did.
    pub bad_answers: Vec<Option<Arc<str>>>,
    /// How often the same was asked before in this turn and was too long. It was shortened since.
    pub overflows: u32,
    /// Why it cannot be made short enough, where that is so: no model is to be asked then, only what a plan has besides.
    pub unfit: Option<ErrorCode>,
    /// Whether an answer that has begun may begin anew.
    pub restarts: Restarts,
}

/// Whether an answer that has begun may begin anew, by another attempt, when it is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Restarts {
    /// No: what was read counts, and a cut is a failure.
    #[default]
    Forbidden,
    /// Yes: whoever reads takes back what came before a [`Chunk::Restart`](crate::Chunk::Restart).
    Allowed,
}

/// Which functions a model may or must call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FunctionChoice {
    /// It decides.
    #[default]
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(Arc<str>),
}

/// How a model answers. A model ignores what it does not know.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ModelOptions {
    /// Randomness, from 0.
    pub temperature: Option<f32>,
    /// Nucleus sampling, above 0 up to 1.
    pub top_p: Option<f32>,
    /// Seed, where the provider is reproducible.
    pub seed: Option<i64>,
    /// Texts at which the answer stops.
    pub stop: Vec<String>,
    /// How much it should reason.
    pub reasoning: Option<ReasoningEffort>,
    /// Whether it may make several calls in one answer; `None` is the provider's default.
    pub parallel_calls: Option<bool>,
    /// Further fields for the provider, as they are.
    pub extra: Map<String, Value>,
}

/// How much a model should reason before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReasoningEffort {
    /// As little as it can.
    Minimal,
    /// A little.
    Low,
    /// Its usual.
    Medium,
    /// Much.
    High,
}

impl ChatRequest {
    /// A request to continue `conversation`.
    #[must_use]
    pub fn new(conversation: Conversation) -> Self {
        Self { conversation, ..Self::default() }
    }

    /// How many tokens the model will probably read, all parts together.
    #[must_use]
    pub fn estimate_input(&self) -> Tokens {
        let answer = self.answer.as_ref().map_or(0, Schema::size);
        let functions: usize = self.functions.iter().map(FunctionSpec::size).sum();
        estimate_tokens(self.instructions.len() + self.conversation.size() + functions + answer)
    }

    /// The same with instructions.
    #[must_use]
    pub fn with_instructions(mut self, instructions: impl Into<Arc<str>>) -> Self {
        self.instructions = instructions.into();
        self
    }

    /// The same with these functions.
    #[must_use]
    pub fn with_functions(mut self, functions: impl Into<Arc<[FunctionSpec]>>) -> Self {
        self.functions = functions.into();
        self
    }

    /// The same with a rule for calls.
    #[must_use]
    pub fn with_choice(mut self, choice: FunctionChoice) -> Self {
        self.choice = choice;
        self
    }

    /// The same with a schema for the final answer.
    #[must_use]
    pub fn with_answer(mut self, schema: Schema) -> Self {
        self.answer = Some(schema);
        self
    }

    /// The same with a maximum output.
    #[must_use]
    pub fn with_max_output(mut self, tokens: Tokens) -> Self {
        self.max_output = Some(tokens);
        self
    }

    /// The same, where an answer may begin anew or not.
    #[must_use]
    pub fn with_restarts(mut self, restarts: Restarts) -> Self {
        self.restarts = restarts;
        self
    }

    /// The same with these options.
    #[must_use]
    pub fn with_options(mut self, options: impl Into<Arc<ModelOptions>>) -> Self {
        self.options = options.into();
        self
    }
}
