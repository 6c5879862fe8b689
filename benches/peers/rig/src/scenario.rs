//! What both sides must do, so that they can only differ in *how*.
//!
//! * one tool loop: the model calls `add`, sees its result, answers.
//! * delegation: a parent model calls the sub-agent `calculator`, whose own
//!   model runs the loop above; then the parent answers.
//!
//! Final answers are built from the tool results the model was shown, so a
//! right answer proves that arguments and results really went through.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub const ADD: &str = "add";
pub const ADD_DESCRIPTION: &str = "Add two integers";
pub const CALCULATOR: &str = "calculator";
pub const CALCULATOR_DESCRIPTION: &str = "Does arithmetic";

pub const PREAMBLE: &str = "You are a calculator. Use your tools.";
pub const PARENT_PREAMBLE: &str = "You are an assistant. Delegate arithmetic.";
pub const PROMPT: &str = "What is 19 + 23?";

pub const CALL_ID: &str = "call_1";
pub const CHILD_PREFIX: &str = "The sum is ";
pub const PARENT_PREFIX: &str = "The calculator says: ";
pub const ONE_TOOL_ANSWER: &str = "The sum is 42";
pub const DELEGATION_ANSWER: &str = "The calculator says: The sum is 42";

/// Every model call reports usage, as real providers do.
pub const INPUT_TOKENS: u64 = 10;
pub const OUTPUT_TOKENS: u64 = 5;

/// Arguments the scripted model calls [`ADD`] with.
pub fn add_arguments() -> serde_json::Value {
    serde_json::json!({ "a": 19, "b": 23 })
}

/// Arguments the scripted parent model calls [`CALCULATOR`] with.
pub fn delegate_arguments() -> serde_json::Value {
    serde_json::json!({ "prompt": PROMPT })
}

/// How much work was done: the mock models and the leaf tool report here, and
/// the harness checks the totals of each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub model_calls: u64,
    pub leaf_tool_calls: u64,
}

static MODEL_CALLS: AtomicU64 = AtomicU64::new(0);
static LEAF_TOOL_CALLS: AtomicU64 = AtomicU64::new(0);

pub fn model_called() {
    MODEL_CALLS.fetch_add(1, Relaxed);
}

pub fn leaf_tool_called() {
    LEAF_TOOL_CALLS.fetch_add(1, Relaxed);
}

impl Work {
    pub const ONE_TOOL: Self = Self { model_calls: 2, leaf_tool_calls: 1 };
    /// The second tool call is the sub-agent itself: its two model calls are
    /// the evidence for it.
    pub const DELEGATION: Self = Self { model_calls: 4, leaf_tool_calls: 1 };

    /// The work reported since the last call.
    pub fn take() -> Self {
        Self { model_calls: MODEL_CALLS.swap(0, Relaxed), leaf_tool_calls: LEAF_TOOL_CALLS.swap(0, Relaxed) }
    }

    pub fn times(self, runs: u64) -> Self {
        Self { model_calls: self.model_calls * runs, leaf_tool_calls: self.leaf_tool_calls * runs }
    }
}
