//! From the bytes of an answer to chunks, be it a stream of server-sent events or one document.

use std::borrow::Cow;
use std::sync::Arc;

use agent_core::{Chunk, ModelError, ModelErrorClass};
use bytes::{Buf, Bytes};
use serde::de::IgnoredAny;
use sse_core::{SseDecoder, SseEvent};

use super::answer::AnswerDecoder;
use crate::failure::{self, Secrets};
use crate::limits::SizeLimits;

/// Makes chunks of the bytes of an answer, without I/O: for answers that come another way than over HTTP, and for tests.
///
/// The bytes themselves tell whether they are a stream of server-sent events or one document: servers send either, whatever they are
/// asked and whatever they call it. However they are split, the chunks are the same. After an error, and after [`Chunk::Finish`],
/// there are none.
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
    form: Form,
    events: SseDecoder,
    answer: AnswerDecoder,
    /// What came and is not decoded yet.
    input: Bytes,
    /// The beginning of what came, for as long as nothing of it was an event.
    beginning: Vec<u8>,
    /// How many more bytes the answer may have.
    room: usize,
    state: State,
    /// An error that comes after the chunks before it.
    failed: Option<ModelError>,
}

/// What the bytes are.
#[derive(Debug)]
enum Form {
    /// Nobody can tell yet.
    Unknown,
    Events,
    /// One document.
    Document(Vec<u8>),
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

/// How much of an answer is looked at to tell what it is, when it is no answer.
const BEGINNING: usize = 1_024;

impl StreamDecoder {
    /// A decoder of an answer of the model that was asked for under this name.
    pub fn new(model: impl Into<Arc<str>>, sizes: SizeLimits) -> Self {
        Self::within(AnswerDecoder::new(model.into(), Secrets::default()), sizes)
    }

    pub(crate) fn within(answer: AnswerDecoder, sizes: SizeLimits) -> Self {
        Self {
            form: Form::Unknown,
            events: SseDecoder::with_limit(sizes.event),
            answer,
            input: Bytes::new(),
            beginning: Vec::new(),
            room: sizes.response.get(),
            state: State::Open,
            failed: None,
        }
    }

    /// Takes more bytes. They are decoded by [`next_chunk`](Self::next_chunk), which has to have said `None` before.
    pub fn push(&mut self, bytes: impl Into<Bytes>) {
        if self.state != State::Open {
            return;
        }
        let bytes = bytes.into();
        let mut within = bytes.slice(..bytes.len().min(self.room));
        let is_too_much = within.len() < bytes.len();
        self.room -= within.len();
        if matches!(self.form, Form::Unknown) && !self.input.has_remaining() {
            // Nothing begins before the first byte that says something.
            within.advance(within.iter().take_while(|byte| says_nothing(**byte)).count());
        }
        if !self.answer.has_begun() {
            let room = BEGINNING.saturating_sub(self.beginning.len()).min(within.len());
            self.beginning.extend_from_slice(&within[..room]);
        }
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
        if self.state != State::Open {
            return;
        }
        self.state = State::Ended;
        if !matches!(self.form, Form::Document(_)) {
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
                return self.failed.take().map(|error| Err(self.answer.with_cost(error)));
            }
            if !self.decode() {
                return None;
            }
        }
    }

    /// Whether the model said why it stopped: the answer is complete then, though its usage may come yet. Where a server gives a
    /// reason with every event, only the end of the stream tells, and this is never so.
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
        self.answer.with_cost(error)
    }

    /// Goes on with what came. Tells whether there was anything to do.
    fn decode(&mut self) -> bool {
        match &mut self.form {
            Form::Unknown => self.tell_form(),
            Form::Document(document) => {
                document.extend_from_slice(&std::mem::take(&mut self.input));
                if self.state == State::Open {
                    return false;
                }
                let document = std::mem::take(document);
                match self.failed.take() {
                    Some(error) => self.fail(error),
                    None => self.finish_document(&document),
                }
                true
            }
            Form::Events => self.decode_event(),
        }
    }

    /// Tells by the first byte that says something what the bytes are. No event begins with a bracket.
    fn tell_form(&mut self) -> bool {
        self.form = match self.input.iter().find(|byte| !says_nothing(**byte)) {
            Some(b'{' | b'[') => Form::Document(Vec::new()),
            Some(b'<') => {
                // Something for people: whatever answers there is no API.
                self.fail(failure::error(ModelErrorClass::NotFound));
                Form::Events
            }
            None if self.state == State::Open => return false,
            _ => Form::Events,
        };
        true
    }

    fn finish_document(&mut self, document: &[u8]) {
        // Most are sound, which is seen in less time than a repaired one is made.
        let document = str::from_utf8(document).map_or_else(|_| String::from_utf8_lossy(document), Cow::Borrowed);
        let pushed = self.answer.push_whole(document.trim_start_matches('\u{feff}').trim());
        self.state = State::Over;
        self.failed = pushed.and_then(|()| self.answer.end_whole()).err();
    }

    fn decode_event(&mut self) -> bool {
        match self.events.next(&mut self.input) {
            Some(Ok(SseEvent::Message(event))) => self.take(event.data.trim(), &event.event),
            Some(Ok(SseEvent::Retry(_))) => {}
            Some(Err(_)) => self.fail(failure::error(ModelErrorClass::TooLarge)),
            None if self.state == State::Open => return false,
            None => match self.failed.take() {
                Some(error) => self.fail(error),
                None => self.finish_without_done(),
            },
        }
        true
    }

    fn take(&mut self, data: &str, event: &str) {
        let taken = match data {
            "" => Ok(()),
            done if done.eq_ignore_ascii_case("[DONE]") => return self.finish(),
            _ if event == "error" => Err(self.answer.error(data)),
            _ => self.answer.push_event(data),
        };
        match taken {
            // The last event of a stream that was cut may be half of one.
            Err(_) if self.is_last_half(data) => {}
            // Nothing takes a complete answer back.
            Err(_) if self.answer.has_finish() => self.finish(),
            Err(error) => self.fail(error),
            Ok(()) => {}
        }
    }

    fn is_last_half(&self, data: &str) -> bool {
        let has_come_to_its_end = self.state == State::Ended && self.failed.is_none() && !self.input.has_remaining();
        has_come_to_its_end && self.answer.has_begun() && serde_json::from_str::<IgnoredAny>(data).is_err()
    }

    fn finish(&mut self) {
        self.state = State::Over;
        self.input.clear();
        self.failed = self.answer.end().err();
    }

    /// Ends a stream that has no more bytes. What came may be nothing of events.
    fn finish_without_done(&mut self) {
        self.finish();
        let beginning = String::from_utf8_lossy(&self.beginning);
        // Of the last line there may be a part only.
        let cut = if self.beginning.len() == BEGINNING { 1 } else { 0 };
        let lines = beginning.lines().count().saturating_sub(cut);
        if !self.answer.has_begun() && !beginning.lines().take(lines).all(is_of_events) {
            self.failed = Some(self.answer.unreadable(&beginning));
        }
    }

    fn fail(&mut self, error: ModelError) {
        self.state = State::Over;
        self.input.clear();
        self.failed = Some(error);
    }
}

const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

fn says_nothing(byte: u8) -> bool {
    byte.is_ascii_whitespace() || BYTE_ORDER_MARK.contains(&byte)
}

/// Whether a line may stand in a stream of events.
fn is_of_events(line: &str) -> bool {
    let line = line.trim_start_matches('\u{feff}');
    let field = line.split(':').next().unwrap_or_default();
    matches!(field.trim_end(), "" | "data" | "event" | "id" | "retry")
}
