//! Why a model stopped, in the words of OpenAI's API and in those that gateways let through.

use agent_core::{FinishReason, ModelErrorClass};

/// What a server's word for it means.
///
/// # Errors
///
/// The class of failure that it is: some servers say so that they broke off. A word that nobody knows is kept, and no failure.
pub(super) fn read(word: &str) -> Result<FinishReason, ModelErrorClass> {
    Ok(match &*word.to_ascii_lowercase() {
        "stop" | "end_turn" | "stop_sequence" => FinishReason::Stop,
        "length"
        | "max_tokens"
        | "model_length"
        | "max_output_tokens"
        | "max_new_tokens"
        | "model_context_window_exceeded" => FinishReason::Length,
        "tool_calls" | "function_call" | "tool_use" => FinishReason::Calls,
        "content_filter"
        | "content_filtered"
        | "safety"
        | "image_safety"
        | "recitation"
        | "blocklist"
        | "prohibited_content"
        | "spii"
        | "sensitive"
        | "refusal"
        | "guardrail_intervened" => FinishReason::ContentFilter,
        "error" | "abort" | "aborted" | "cancelled" => return Err(ModelErrorClass::Cut),
        "malformed_function_call" => return Err(ModelErrorClass::Malformed),
        "insufficient_system_resource" => return Err(ModelErrorClass::Overloaded),
        _ => FinishReason::Other(word.into()),
    })
}
