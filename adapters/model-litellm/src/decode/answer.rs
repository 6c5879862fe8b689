//! From an answer's documents to chunks: a whole answer is one document, a stream's events are several. One way for both, so that
//! they cannot differ.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use agent_core::{Attachment, Chunk, Finish, FinishReason, MicroUsd, ModelError, ModelErrorClass, Tokens, Usage};
use data_encoding::BASE64;
use serde_json::Value;

use super::calls::{Calls, Elements};
use super::finish;
use super::lenient::{Content, OrDefault};
use super::usage::UsageFields;
use super::utf16;
use super::wire::{
    Audio, CallPiece, Choice, Choices, Document, Groq, Message, ProviderFields, is_something, read, read_list,
};
use crate::failure::{self, Secrets};
use crate::opaque::Kept;

/// Makes chunks of one answer's documents.
#[derive(Debug)]
pub(crate) struct AnswerDecoder {
    /// The name under which the model was asked for.
    asked: Arc<str>,
    secrets: Secrets,
    chunks: VecDeque<Chunk>,
    calls: Calls,
    kept: Kept,
    progress: Progress,
    /// A first document that is no part of an answer.
    stray: Option<ModelError>,
    /// A usage that says that nothing was written.
    unwritten: Option<Usage>,
    /// Why the model stopped. The last reason counts, but `stop` is what is said when nothing else is.
    reason: Option<FinishReason>,
    ending: Ending,
    /// Whether the last document said something.
    says_more: bool,
    /// Whether it had an answer, if only an empty one.
    has_choices: bool,
    /// What came in pieces, and is no news in a whole message.
    brought: Brought,
    model: Option<Arc<str>>,
    cost: Option<MicroUsd>,
}

/// How far an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Progress {
    /// Nothing came.
    Nothing,
    /// Documents came, but none of them is one of an answer.
    Documents,
    /// An answer began.
    Begun,
    /// The model reasons.
    Reasoned,
    /// It says something to whoever asked, or calls.
    Said,
}

/// Whether a stream has come to its end, as far as its events tell: some servers give every one of them a reason why it ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ending {
    /// Nothing was said.
    Silent,
    /// Something was said without a reason: the next reason is one.
    Saying,
    /// A reason was given, and nothing was said since.
    Reached,
    /// The first event that said something had the reason `stop`: an answer in one event, or a server that gives each one a reason.
    Doubtful,
    /// Something was said after a reason: nothing but the end of the stream is the end.
    Unknown,
}

/// What came in pieces.
#[derive(Debug, Clone, Copy, Default)]
struct Brought {
    words: bool,
    thoughts: bool,
    calls: bool,
}

impl AnswerDecoder {
    /// A decoder of an answer of the model that was asked for under this name.
    pub(crate) fn new(asked: Arc<str>, secrets: Secrets) -> Self {
        Self {
            asked,
            secrets,
            chunks: VecDeque::new(),
            calls: Calls::default(),
            kept: Kept::default(),
            progress: Progress::Nothing,
            stray: None,
            unwritten: None,
            reason: None,
            ending: Ending::Silent,
            says_more: false,
            has_choices: false,
            brought: Brought::default(),
            model: None,
            cost: None,
        }
    }

    /// Takes the next event of a stream. What comes after the end of an answer takes nothing of it back.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when it is no document, or an error.
    pub(crate) fn push_event(&mut self, document: &str) -> Result<(), ModelError> {
        (self.says_more, self.has_choices) = (false, false);
        let reason = self.push(document, Elements::Pieces)?;
        let is_plain = reason.is_none() || reason == Some(FinishReason::Stop);
        self.ending = match (self.ending, reason.is_some(), self.says_more) {
            (Ending::Silent, _, false) if is_plain => Ending::Silent,
            (Ending::Silent, false, true) => Ending::Saying,
            (Ending::Silent, true, true) if is_plain => Ending::Doubtful,
            (Ending::Silent | Ending::Saying, true, _) => Ending::Reached,
            (Ending::Doubtful | Ending::Reached, _, true) => Ending::Unknown,
            // Usage without an answer comes last.
            (Ending::Doubtful, false, false) if !self.has_choices => Ending::Reached,
            (unchanged, ..) => unchanged,
        };
        self.reason = match reason {
            Some(FinishReason::Stop) | None => self.reason.take().or(reason),
            other => other,
        };
        Ok(())
    }

    /// Takes the one document of a whole answer.
    ///
    /// # Errors
    ///
    /// As with [`push_event`](Self::push_event).
    pub(crate) fn push_whole(&mut self, document: &str) -> Result<(), ModelError> {
        self.reason = self.push(document, Elements::Whole)?;
        Ok(())
    }

    /// Takes a document, and gives back why the model stopped, if it says so.
    fn push(&mut self, document: &str, elements: Elements) -> Result<Option<FinishReason>, ModelError> {
        let parsed = serde_json::from_str(document);
        let Document { choices, model, usage, x_groq, error, object, detail } = match parsed {
            Ok(document) => document,
            // Google puts errors into a list.
            Err(_) if document.starts_with('[') && document.contains("\"error\"") => return Err(self.error(document)),
            Err(_) => match utf16::mend(document) {
                Some(mended) => return self.push(&mended, elements),
                None => return Err(self.unreadable(document)),
            },
        };
        if is_something(error) || object.0 == "error" || (choices.is_none() && is_something(detail)) {
            return Err(self.error(document));
        }
        if !model.is_empty() && self.model.as_deref() != Some(&*model.0) {
            self.model = Some(model.0.into());
        }
        if choices.is_none() && usage.is_none() && self.progress == Progress::Nothing {
            self.stray = Some(self.unreadable(document));
        }
        self.reach(if choices.is_some() { Progress::Begun } else { Progress::Documents });
        let finish = match choices {
            Some(Choices(Some(choice))) => {
                self.has_choices = true;
                self.push_choice(choice, elements)?
            }
            _ => None,
        };
        if let Some(usage) = usage {
            self.push_usage(&usage.0);
        }
        if x_groq.is_some() {
            let OrDefault(Groq { usage }) = read(x_groq);
            self.push_usage(&usage.0);
        }
        // After the usage, since some reasons are failures.
        finish.map(|reason| finish::read(&reason).map_err(failure::error)).transpose()
    }

    /// The failure that a document tells of.
    pub(crate) fn error(&self, document: &str) -> ModelError {
        failure::in_answer(document, &self.secrets)
    }

    /// The failure of what came instead of a document.
    pub(crate) fn unreadable(&self, document: &str) -> ModelError {
        failure::unreadable(document, &self.secrets)
    }

    /// Notes what the answer cost, where that is known and does not stand in the answer.
    pub(crate) fn set_cost(&mut self, cost: Option<MicroUsd>) {
        self.cost = cost;
    }

    /// `error` with what the answer cost all the same.
    pub(crate) fn with_cost(&self, error: ModelError) -> ModelError {
        match self.cost {
            Some(cost) => error.with_cost(cost),
            None => error,
        }
    }

    /// Whether a document came.
    pub(crate) fn has_begun(&self) -> bool {
        self.progress > Progress::Nothing
    }

    /// The next chunk.
    pub(crate) fn pop(&mut self) -> Option<Chunk> {
        self.chunks.pop_front()
    }

    /// Whether the model said why it stopped, and nothing speaks against that this is the end.
    pub(crate) fn has_finish(&self) -> bool {
        self.ending == Ending::Reached
    }

    /// Ends the answer: what is left of it comes as chunks.
    ///
    /// # Errors
    ///
    /// [`ModelErrorClass::Cut`] when the model did not say why it stopped; [`ModelErrorClass::ContentPolicy`] when a filter left
    /// nothing; [`ModelErrorClass::Empty`] when it said nothing, though it had room; [`ModelErrorClass::Malformed`] when nothing that
    /// came is part of an answer.
    pub(crate) fn end(&mut self) -> Result<(), ModelError> {
        if let Some(usage) = self.unwritten.take().filter(|_| self.progress < Progress::Reasoned) {
            self.chunks.push_back(Chunk::Usage(usage));
        }
        let reason = match (self.reason.take(), self.progress) {
            (_, Progress::Documents) => {
                return Err(self.stray.take().unwrap_or_else(|| failure::error(ModelErrorClass::Malformed)));
            }
            (None, Progress::Reasoned | Progress::Said) => return Err(failure::error(ModelErrorClass::Cut)),
            (Some(reason), Progress::Said) => reason,
            (Some(FinishReason::ContentFilter), _) => return Err(failure::error(ModelErrorClass::ContentPolicy)),
            // All its output may have gone into reasoning, and the caller may give it more.
            (Some(FinishReason::Length), _) => FinishReason::Length,
            _ => return Err(failure::error(ModelErrorClass::Empty)),
        };
        self.calls.begin_last(&mut self.chunks);
        // Ids of calls, too, mean something to their own model only.
        let opaque = (!self.kept.is_empty() || self.calls.have_ids()).then(|| self.kept.seal(&self.asked));
        if let Some(opaque) = opaque.flatten() {
            self.chunks.push_back(Chunk::ReasoningOpaque(opaque));
        }
        let mut finish = Finish::new(reason);
        finish.cost = self.cost;
        finish.model = self.model.take();
        self.chunks.push_back(Chunk::Finish(finish));
        Ok(())
    }

    /// Ends an answer that came as one document, and so is complete, whether or not the model said why it stopped.
    ///
    /// # Errors
    ///
    /// As with [`end`](Self::end), but for an answer that was cut.
    pub(crate) fn end_whole(&mut self) -> Result<(), ModelError> {
        if self.progress >= Progress::Reasoned {
            let unsaid = if self.calls.is_empty() { FinishReason::Stop } else { FinishReason::Calls };
            self.reason.get_or_insert(unsaid);
        }
        self.end()
    }

    fn reach(&mut self, progress: Progress) {
        self.says_more |= progress >= Progress::Reasoned;
        if progress > self.progress {
            self.progress = progress;
        }
    }

    /// Takes a choice, and gives back why the model stopped, if it says so.
    fn push_choice<'a>(&mut self, choice: Choice<'a>, elements: Elements) -> Result<Option<Cow<'a, str>>, ModelError> {
        let Choice { delta, message, finish_reason, usage, error, .. } = choice;
        if let Some(delta) = delta {
            self.brought.note(&delta);
            self.push_message(*delta, elements)?;
        }
        // Some servers send all that they said in pieces again, with the last one or with each.
        if let Some(message) = message {
            self.push_message(self.brought.rest_of(*message), Elements::Whole)?;
        }
        if usage.is_some() {
            let OrDefault(usage) = read(usage);
            self.push_usage(&usage);
        }
        if let Some(error) = error.filter(|error| is_something(Some(error))) {
            return Err(self.error(error.get()));
        }
        Ok((!finish_reason.is_empty()).then_some(finish_reason.0))
    }

    fn push_message(&mut self, message: Message<'_>, elements: Elements) -> Result<(), ModelError> {
        let Message { content, reasoning_content, reasoning, refusal, tool_calls, .. } = message;
        let (field, thoughts) = match reasoning_content.is_empty() {
            false => ("reasoning_content", reasoning_content.0),
            true => ("reasoning", reasoning.0),
        };
        if !thoughts.is_empty() {
            self.kept.reasoning.get_or_insert_with(|| field.to_owned());
            self.say(Chunk::Reasoning(thoughts.into_owned()));
        }
        for (field, blocks) in
            [("thinking_blocks", message.thinking_blocks), ("reasoning_details", message.reasoning_details)]
        {
            if blocks.is_some() {
                self.kept.add_blocks(field, read_list(blocks), elements);
            }
        }
        match content {
            Content::None => {}
            Content::Text(text) => self.say_text(text),
            Content::Parts(parts) => parts.iter().for_each(|part| self.push_part(part)),
        }
        if !refusal.is_empty() {
            self.say(Chunk::Refusal(refusal.0.into_owned()));
        } else if message.provider_specific_fields.is_some() {
            let OrDefault(ProviderFields { refusal, thought_signatures }) = read(message.provider_specific_fields);
            self.keep_signatures(thought_signatures);
            if !refusal.is_empty() {
                self.say(Chunk::Refusal(refusal.0.into_owned()));
            }
        }
        if message.audio.is_some() {
            let OrDefault(Audio { transcript }) = read(message.audio);
            self.say_text(transcript.0);
        }
        if message.images.is_some() {
            read_list(message.images).iter().for_each(|image| self.push_part(image));
        }
        // Servers that know both forms of calls send each in both.
        let function_call = message.function_call.filter(|_| tool_calls.0.is_empty());
        for call in tool_calls.0.into_iter().flatten() {
            self.reach(Progress::Said);
            let index = self.calls.push(&call, elements, &mut self.chunks)?;
            let extras = extras(&call);
            if !extras.is_empty() {
                self.kept.calls.entry(index).or_default().extend(extras);
            }
        }
        if is_something(function_call) {
            self.reach(Progress::Said);
            self.calls.push_function(read(function_call), &mut self.chunks)?;
        }
        Ok(())
    }

    /// A part of a content that is a list: text, Mistral's thoughts, a picture. Others are nothing that a conversation could keep.
    fn push_part(&mut self, part: &Value) {
        match part["type"].as_str() {
            Some("text") => self.say_text(part["text"].as_str().unwrap_or_default().into()),
            Some("thinking") => {
                let thoughts =
                    part["thinking"].as_array().into_iter().flatten().filter_map(|part| part["text"].as_str());
                let thoughts: String = part["thinking"].as_str().into_iter().chain(thoughts).collect();
                if !thoughts.is_empty() {
                    self.say(Chunk::Reasoning(thoughts));
                }
            }
            Some("image_url") => {
                if let Some(picture) = part["image_url"]["url"].as_str().and_then(attachment) {
                    self.say(Chunk::Attachment(picture));
                }
            }
            _ => {}
        }
    }

    fn keep_signatures(&mut self, signatures: Option<Value>) {
        if let Some(Value::Array(signatures)) = signatures {
            self.kept.add_signatures(signatures);
        }
    }

    fn push_usage(&mut self, usage: &UsageFields<'_>) {
        let reported = usage.report();
        self.cost = reported.cost.or(self.cost);
        match reported.usage {
            // A gateway that was told nothing says that nothing was written, which is wrong as soon as something came.
            Some(usage) if usage.output == Tokens::ZERO => self.unwritten = Some(usage),
            Some(usage) => self.chunks.push_back(Chunk::Usage(usage)),
            None => {}
        }
    }

    fn say_text(&mut self, text: Cow<'_, str>) {
        if !text.is_empty() {
            self.say(Chunk::Text(text.into_owned()));
        }
    }

    fn say(&mut self, chunk: Chunk) {
        self.reach(if matches!(chunk, Chunk::Reasoning(_)) { Progress::Reasoned } else { Progress::Said });
        // Calls whose name was all there is of them come before what follows them.
        self.calls.begin_last(&mut self.chunks);
        self.chunks.push_back(chunk);
    }
}

impl Brought {
    fn note(&mut self, delta: &Message<'_>) {
        self.words |= delta.has_words();
        self.thoughts |= delta.has_thoughts();
        self.calls |= delta.has_calls();
    }

    /// What of a whole message did not come in pieces.
    fn rest_of<'a>(self, mut message: Message<'a>) -> Message<'a> {
        let nothing = Message::default();
        if self.words {
            (message.content, message.refusal) = (nothing.content, nothing.refusal);
            (message.images, message.audio) = (None, None);
        }
        if self.thoughts {
            (message.reasoning_content, message.reasoning) = (nothing.reasoning_content, nothing.reasoning);
            (message.thinking_blocks, message.reasoning_details) = (None, None);
        }
        if self.calls {
            (message.tool_calls, message.function_call) = (nothing.tool_calls, None);
        }
        message
    }
}

/// What a call holds that its server wants to see again.
fn extras(call: &CallPiece<'_>) -> serde_json::Map<String, Value> {
    let fields = [("extra_content", call.extra_content), ("provider_specific_fields", call.provider_specific_fields)];
    let kept = fields.into_iter().filter_map(|(name, raw)| {
        let value: Value = serde_json::from_str(raw?.get()).ok()?;
        let is_empty = value.as_object().is_none_or(|fields| fields.values().all(Value::is_null));
        (!is_empty).then(|| (name.to_owned(), value))
    });
    kept.collect()
}

/// A picture at a URL, which is most often the picture itself.
fn attachment(url: &str) -> Option<Attachment> {
    let Some(data) = url.strip_prefix("data:") else { return Some(Attachment::uri("image/*", url)) };
    let (kind, data) = data.split_once(',')?;
    let bytes = BASE64.decode(data.as_bytes()).ok()?;
    Some(Attachment::bytes(kind.strip_suffix(";base64")?, bytes))
}
