//! From the bytes of a stream of server-sent events to chunks.

use std::sync::Arc;

use agent_core::{Chunk, ModelError, ModelErrorClass};
use bytes::{Buf, Bytes};
use sse_core::{SseDecoder, SseEvent};

use super::answer::AnswerDecoder;
use crate::failure::{self, Secrets};
use crate::limits::SizeLimits;

/// Makes chunks of the bytes of a streamed answer, without I/O: for streams that come another way than over HTTP, and for tests.
///
/// However the bytes are split, the chunks are the same. After an error, and after [`Chunk::Finish`], there are none.
///
/// ```
/// use agent_core::Chunk;
/// use model_litellm::{SizeLimits, StreamDecoder};
///
/// let mut decoder = StreamDecoder::new("gpt-4o-mini", SizeLimits::default());
/// decoder.push("data: {\"choices\":[{\"delta\":{\"content\":\"Hel");
/// assert!(decoder.next_chunk().is_none());
/// decoder.push("lo\"}}]}\n\n");
/// assert_eq!(decoder.next_chunk().transpose()?, Some(Chunk::Text("Hello".to_owned())));
/// decoder.end();
/// assert_eq!(decoder.next_chunk().unwrap().unwrap_err().code().as_str(), "model.cut");
/// # Ok::<(), agent_core::ModelError>(())
/// ```
#[derive(Debug)]
pub struct StreamDecoder {
    events: SseDecoder,
    answer: AnswerDecoder,
    /// What came and is not decoded yet.
    input: Bytes,
    /// How many more bytes the answer may have.
    room: usize,
    state: State,
    /// An error that comes after the chunks before it.
    failed: Option<ModelError>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// More bytes may come.
    Open,
    /// No more bytes come, or none that count.
    Ended,
    /// What is left are chunks.
    Over,
}

impl StreamDecoder {
    /// A decoder of an answer of the model that was asked for under this name.
    pub fn new(model: impl Into<Arc<str>>, sizes: SizeLimits) -> Self {
        Self::within(AnswerDecoder::new(model.into(), Secrets::default()), sizes)
    }

    pub(crate) fn within(answer: AnswerDecoder, sizes: SizeLimits) -> Self {
        let events = SseDecoder::with_limit(sizes.event);
        let room = sizes.response.get();
        Self { events, answer, input: Bytes::new(), room, state: State::Open, failed: None }
    }

    /// Takes more bytes. They are decoded by [`next_chunk`](Self::next_chunk), which has to have said `None` before.
    pub fn push(&mut self, bytes: impl Into<Bytes>) {
        if self.state != State::Open {
            return;
        }
        let bytes = bytes.into();
        let within = bytes.slice(..bytes.len().min(self.room));
        let is_too_much = within.len() < bytes.len();
        self.room -= within.len();
        if self.input.has_remaining() {
            self.input = [std::mem::take(&mut self.input), within].concat().into();
        } else {
            self.input = within;
        }
        if is_too_much {
            self.state = State::Ended;
            self.failed = Some(failure::error(ModelErrorClass::TooLarge));
        }
    }

    /// Says that no more bytes come.
    pub fn end(&mut self) {
        if self.state == State::Open {
            self.state = State::Ended;
            // Some servers leave out the blank line after the last event.
            self.input = [std::mem::take(&mut self.input), Bytes::from_static(b"\n\n")].concat().into();
        }
    }

    /// The next chunk, or why there are no more. `None` when more bytes are needed, or all is over.
    pub fn next_chunk(&mut self) -> Option<Result<Chunk, ModelError>> {
        loop {
            if let Some(chunk) = self.answer.pop() {
                return Some(Ok(chunk));
            }
            if self.state == State::Over {
                return self.failed.take().map(Err);
            }
            match self.events.next(&mut self.input) {
                Some(Ok(SseEvent::Message(event))) => self.take(event.data.trim(), &event.event),
                Some(Ok(SseEvent::Retry(_))) => {}
                Some(Err(_)) => self.fail(failure::error(ModelErrorClass::TooLarge)),
                None if self.state == State::Open => return None,
                None => match self.failed.take() {
                    Some(error) => self.fail(error),
                    None => self.finish(),
                },
            }
        }
    }

    /// Whether the model said why it stopped: the answer is complete then, though its usage may come yet.
    #[must_use]
    pub fn has_finish(&self) -> bool {
        self.answer.has_finish()
    }

    /// Whether nothing more comes of it.
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Ends it because of `error`, which it gives back.
    pub(crate) fn give_up(&mut self, error: ModelError) -> ModelError {
        self.state = State::Over;
        error
    }

    fn take(&mut self, data: &str, event: &str) {
        let taken = match data {
            "" => Ok(()),
            "[DONE]" => return self.finish(),
            _ if event == "error" => Err(self.answer.error(data)),
            _ => self.answer.push(data),
        };
        match taken {
            // The last event of a stream that was cut may be half of one.
            Err(error) if self.is_last_half(&error) => {}
            Err(error) => self.fail(error),
            Ok(()) => {}
        }
    }

    fn is_last_half(&self, error: &ModelError) -> bool {
        let has_come_to_its_end = self.state == State::Ended && self.failed.is_none() && !self.input.has_remaining();
        has_come_to_its_end && error.class == ModelErrorClass::Malformed
    }

    fn finish(&mut self) {
        self.state = State::Over;
        self.input.clear();
        self.failed = self.answer.end().err();
    }

    fn fail(&mut self, error: ModelError) {
        self.state = State::Over;
        self.input.clear();
        self.failed = Some(error);
    }
}
