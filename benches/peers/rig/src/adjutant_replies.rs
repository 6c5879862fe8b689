//! Replies that Adjutant's mock models give: chunks that are all there at once.

use agent_core::{Chunk, Finish, FinishReason, ModelInfo, ModelStream, Price, Tokens, Usage};
use futures::stream;

use crate::scenario;

/// What is known about a mock model. It is free, so that money is counted as for a real one.
pub fn info() -> ModelInfo {
    ModelInfo::new("mock", "mock").with_price(Price::FREE)
}

/// A reply that calls `function` with `arguments`, which are JSON as providers send it.
pub fn call(function: &str, arguments: String) -> ModelStream {
    reply(
        [
            Chunk::CallStart { index: 0, id: scenario::CALL_ID.to_owned(), name: function.to_owned() },
            Chunk::CallArguments { index: 0, text: arguments },
        ],
        FinishReason::Calls,
    )
}

/// A final answer in these pieces.
pub fn answer(pieces: impl IntoIterator<Item = String>) -> ModelStream {
    reply(pieces.into_iter().map(Chunk::Text), FinishReason::Stop)
}

fn reply(chunks: impl IntoIterator<Item = Chunk>, reason: FinishReason) -> ModelStream {
    let usage = Usage::new(Tokens(scenario::INPUT_TOKENS), Tokens(scenario::OUTPUT_TOKENS));
    let end = [Chunk::Usage(usage), Chunk::Finish(Finish::new(reason))];
    let chunks: Vec<_> = chunks.into_iter().chain(end).map(Ok).collect();
    Box::pin(stream::iter(chunks))
}
