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
use super::wire::{Audio, CallPiece, Choice, Choices, Document, Groq, Message, ProviderFields, is_something, read};
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
    finish: Option<FinishReason>,
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
            finish: None,
            model: None,
            cost: None,
        }
    }

    /// Takes the next document.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when it is none, or an error.
    pub(crate) fn push(&mut self, document: &str) -> Result<(), ModelError> {
        let parsed = serde_json::from_str(document);
        let Document { choices, model, usage, x_groq, error, object, detail } = match parsed {
            Ok(document) => document,
            // Google puts errors into a list.
            Err(_) if document.starts_with('[') && document.contains("\"error\"") => return Err(self.error(document)),
            Err(_) => return Err(self.unreadable(document)),
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
            Some(Choices(Some(choice))) => self.push_choice(choice)?,
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
        finish.map_or(Ok(()), |reason| self.push_finish(&reason))
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

    /// Whether the model said why it stopped.
    pub(crate) fn has_finish(&self) -> bool {
        self.finish.is_some()
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
        let reason = match (self.finish.take(), self.progress) {
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
        if let Some(opaque) = self.kept.seal(&self.asked) {
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
        if self.progress >= Progress::Reasoned && self.finish.is_none() {
            self.finish = Some(if self.calls.is_empty() { FinishReason::Stop } else { FinishReason::Calls });
        }
        self.end()
    }

    fn reach(&mut self, progress: Progress) {
        if progress > self.progress {
            self.progress = progress;
        }
    }

    /// Takes a choice, and gives back why the model stopped, if it says so.
    fn push_choice<'a>(&mut self, choice: Choice<'a>) -> Result<Option<Cow<'a, str>>, ModelError> {
        let Choice { delta, message, finish_reason, usage, error, .. } = choice;
        if let Some(delta) = delta {
            self.push_message(*delta, Elements::Pieces)?;
        }
        if let Some(message) = message {
            self.push_message(*message, Elements::Whole)?;
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

    fn push_finish(&mut self, reason: &str) -> Result<(), ModelError> {
        let reason = finish::read(reason).map_err(failure::error)?;
        self.finish.get_or_insert(reason);
        Ok(())
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
                self.kept.add_blocks(field, read(blocks));
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
            read::<Vec<Value>>(message.images).iter().for_each(|image| self.push_part(image));
        }
        for call in tool_calls.0.into_iter().flatten() {
            self.reach(Progress::Said);
            let index = self.calls.push(&call, elements, &mut self.chunks)?;
            let extras = extras(&call);
            if !extras.is_empty() {
                self.kept.calls.entry(index).or_default().extend(extras);
            }
        }
        if is_something(message.function_call) {
            self.reach(Progress::Said);
            self.calls.push_function(read(message.function_call), &mut self.chunks)?;
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
        if let Some(signatures) = signatures.filter(|signatures| !signatures.is_null()) {
            let fields = serde_json::json!({ "thought_signatures": signatures });
            self.kept.fields.insert("provider_specific_fields".to_owned(), fields);
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
