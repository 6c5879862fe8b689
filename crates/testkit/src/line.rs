//! One answer of a scripted model.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Call, ChatRequest, Chunk, Finish, FinishReason, ModelError, ModelErrorClass, Usage};
use serde_json::Value;

/// One answer of a scripted model: what it says, how it fails, and what it expects to be asked.
#[derive(Clone, Default)]
pub struct Line {
    pub(crate) plays: Vec<Play>,
    pub(crate) expectation: Option<Expectation>,
}

/// Looks at the request and panics when it is not as it should be.
pub(crate) type Expectation = Arc<dyn Fn(&ChatRequest) + Send + Sync>;

/// One thing that happens in an answer.
#[derive(Debug, Clone)]
pub(crate) enum Play {
    Chunk(Chunk),
    Delay(Duration),
    /// A failure: before the stream begins if it is the first play, else in the stream.
    Fail(ModelErrorClass),
    /// Pending once, without any clock.
    Yield,
    /// Nothing ever comes again.
    Hang,
    Panic,
}

impl Line {
    /// A final answer, which comes in words.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::silence().then_text(text).then_finish(FinishReason::Stop)
    }

    /// One call.
    #[must_use]
    pub fn call(name: &str, arguments: Value) -> Self {
        Self::calls([Call::new(name, arguments)])
    }

    /// Several calls at once.
    #[must_use]
    pub fn calls(calls: impl IntoIterator<Item = Call>) -> Self {
        let line = calls.into_iter().zip(0..).fold(Self::silence(), |line, (call, index)| {
            line.then_call(index, &call.label, &call.name, call.arguments.as_text())
        });
        line.then_finish(FinishReason::Calls)
    }

    /// A refusal.
    #[must_use]
    pub fn refusal(text: &str) -> Self {
        Self::silence().then(Chunk::Refusal(text.to_owned())).then_finish(FinishReason::Stop)
    }

    /// A failure before anything comes.
    #[must_use]
    pub fn fails(class: ModelErrorClass) -> Self {
        Self::silence().then_play(Play::Fail(class))
    }

    /// Nothing at all, not even an end: begin with this to put a line together.
    #[must_use]
    pub fn silence() -> Self {
        Self::default()
    }

    /// The same, and then this chunk.
    #[must_use]
    pub fn then(self, chunk: Chunk) -> Self {
        self.then_play(Play::Chunk(chunk))
    }

    /// The same, and then text in words.
    #[must_use]
    pub fn then_text(self, text: &str) -> Self {
        text.split_inclusive(' ').fold(self, |line, word| line.then(Chunk::Text(word.to_owned())))
    }

    /// The same, and then a call whose arguments come in two pieces, be they JSON or not.
    #[must_use]
    pub fn then_call(self, index: u32, id: &str, name: &str, arguments: &str) -> Self {
        let middle = arguments.char_indices().nth(arguments.chars().count() / 2).map_or(0, |(at, _)| at);
        let (head, tail) = arguments.split_at(middle);
        self.then(Chunk::CallStart { index, id: id.to_owned(), name: name.to_owned() })
            .then(Chunk::CallArguments { index, text: head.to_owned() })
            .then(Chunk::CallArguments { index, text: tail.to_owned() })
    }

    /// The same, and then the end.
    #[must_use]
    pub fn then_finish(self, reason: FinishReason) -> Self {
        self.then(Chunk::Finish(Finish::new(reason)))
    }

    /// The same, and then a failure in the stream.
    #[must_use]
    pub fn then_fails(self, class: ModelErrorClass) -> Self {
        self.then_play(Play::Fail(class))
    }

    /// The same, and then nothing ever again.
    #[must_use]
    pub fn then_hangs(self) -> Self {
        self.then_play(Play::Hang)
    }

    /// The same, and then a panic.
    #[must_use]
    pub fn then_panics(self) -> Self {
        self.then_play(Play::Panic)
    }

    /// The same, with this usage before everything else.
    #[must_use]
    pub fn with_usage(mut self, usage: Usage) -> Self {
        self.plays.insert(0, Play::Chunk(Chunk::Usage(usage)));
        self
    }

    /// The same, after a while.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.plays.insert(0, Play::Delay(delay));
        self
    }

    /// The same, yielding to the executor before each of its pieces, without any clock.
    #[must_use]
    pub fn yielding(mut self) -> Self {
        self.plays = self.plays.into_iter().flat_map(|play| [Play::Yield, play]).collect();
        self
    }

    /// The same, where the request has to satisfy `check`, which panics if it does not.
    #[must_use]
    pub fn expecting(mut self, check: impl Fn(&ChatRequest) + Send + Sync + 'static) -> Self {
        self.expectation = Some(Arc::new(check));
        self
    }

    fn then_play(mut self, play: Play) -> Self {
        self.plays.push(play);
        self
    }

    /// The failure that comes instead of a stream.
    pub(crate) fn initial_failure(&self) -> Option<ModelError> {
        let first = self.plays.iter().find(|play| !matches!(play, Play::Delay(_) | Play::Yield));
        match first {
            Some(Play::Fail(class)) => Some(failure(*class)),
            _ => None,
        }
    }
}

pub(crate) fn failure(class: ModelErrorClass) -> ModelError {
    ModelError::new(class, "the script says so")
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.plays).finish()
    }
}
