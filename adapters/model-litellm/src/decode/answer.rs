//! From an answer's documents to chunks: a whole answer is one document, a stream's events are several. One way for both, so that
//! they cannot differ.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use agent_core::{Attachment, Chunk, Finish, FinishReason, MicroUsd, ModelError, ModelErrorClass, Tokens, Usage};
use data_encoding::BASE64;
use serde_json::Value;

use super::calls::Calls;
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
            Err(problem) => return Err(failure::error(ModelErrorClass::Malformed).with_source(problem)),
        };
        if is_something(error) || object.0 == "error" || (choices.is_none() && is_something(detail)) {
            return Err(self.error(document));
        }
        if !model.is_empty() && self.model.as_deref() != Some(&*model.0) {
            self.model = Some(model.0.into());
        }
        self.reach(if choices.is_some() { Progress::Begun } else { Progress::Documents });
        if let Some(Choices(Some(choice))) = choices {
            self.push_choice(choice);
        }
        if let Some(usage) = usage {
            self.push_usage(&usage.0);
        }
        if x_groq.is_some() {
            let OrDefault(Groq { usage }) = read(x_groq);
            self.push_usage(&usage.0);
        }
        Ok(())
    }

    /// The failure that a document tells of.
    pub(crate) fn error(&self, document: &str) -> ModelError {
        failure::in_answer(document, &self.secrets)
    }

    /// Notes what the answer cost, where that is known and does not stand in the answer.
    pub(crate) fn set_cost(&mut self, cost: Option<MicroUsd>) {
        self.cost = cost;
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
        let reason = match (self.finish.take(), self.progress) {
            (_, Progress::Documents) => return Err(failure::error(ModelErrorClass::Malformed)),
            (None, Progress::Reasoned | Progress::Said) => return Err(failure::error(ModelErrorClass::Cut)),
            (Some(reason), Progress::Said) => reason,
            (Some(FinishReason::ContentFilter), _) => return Err(failure::error(ModelErrorClass::ContentPolicy)),
            // All its output may have gone into reasoning, and the caller may give it more.
            (Some(FinishReason::Length), _) => FinishReason::Length,
            _ => return Err(failure::error(ModelErrorClass::Empty)),
        };
        self.calls.begin_all(&mut self.chunks);
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

    fn push_choice(&mut self, choice: Choice<'_>) {
        let Choice { delta, message, finish_reason, usage, .. } = choice;
        for message in [delta, message].into_iter().flatten() {
            self.push_message(*message);
        }
        if !finish_reason.is_empty() && self.finish.is_none() {
            self.finish = Some(reason(&finish_reason.0));
        }
        if usage.is_some() {
            let OrDefault(usage) = read(usage);
            self.push_usage(&usage);
        }
    }

    fn push_message(&mut self, message: Message<'_>) {
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
        for mut call in tool_calls.into_iter().flatten() {
            let extras = take_extras(&mut call);
            self.reach(Progress::Said);
            let index = self.calls.push(call, &mut self.chunks);
            if !extras.is_empty() {
                self.kept.calls.entry(index).or_default().extend(extras);
            }
        }
        if is_something(message.function_call) {
            self.reach(Progress::Said);
            self.calls.push_function(read(message.function_call), &mut self.chunks);
        }
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
        // A gateway that was told nothing says that nothing was written.
        let is_wrong = |usage: &Usage| usage.output == Tokens::ZERO && self.progress >= Progress::Reasoned;
        if let Some(usage) = reported.usage.filter(|usage| !is_wrong(usage)) {
            self.chunks.push_back(Chunk::Usage(usage));
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
        if !self.calls.is_empty() {
            self.calls.begin_all(&mut self.chunks);
        }
        self.chunks.push_back(chunk);
    }
}

fn reason(text: &str) -> FinishReason {
    match text {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::Calls,
        "content_filter" => FinishReason::ContentFilter,
        _ => FinishReason::Other(text.into()),
    }
}

/// What a call holds that its server wants to see again.
fn take_extras(call: &mut CallPiece<'_>) -> serde_json::Map<String, Value> {
    let fields = [
        ("extra_content", call.extra_content.take()),
        ("provider_specific_fields", call.provider_specific_fields.take()),
    ];
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
