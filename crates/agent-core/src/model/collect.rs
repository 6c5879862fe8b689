//! From chunks to a whole reply.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::task::coop::consume_budget;

use super::{Chunk, Finish, ModelError, ModelErrorClass, ModelStream};
use crate::amount::MicroUsd;
use crate::message::{Call, FinishReason, Reasoning, Reply, ReplyPart, Usage};

/// More than any sensible answer; a stream that goes on past it is broken.
const MAX_REPLY_BYTES: usize = 16 << 20;

/// As many pieces as that has with four letters in each.
const MAX_PIECES: usize = MAX_REPLY_BYTES / 4;

/// What a part takes beside its text, however short that is.
const PART_BYTES: usize = 128;

/// Reads `stream` to its [`Chunk::Finish`] and makes a whole reply of it.
///
/// # Errors
///
/// The stream's own error; [`ModelErrorClass::Cut`] when it ends without [`Chunk::Finish`]; [`ModelErrorClass::Malformed`] when it
/// breaks the protocol; [`ModelErrorClass::TooLarge`] when it is larger than 16 MiB.
///
/// # Cancel safety
///
/// Dropping the future drops the stream.
pub async fn collect(mut stream: ModelStream) -> Result<(Reply, Finish), ModelError> {
    let mut collector = Collector::default();
    while let Some(chunk) = stream.next().await {
        // A stream that is always ready gives nobody else a chance to stop it.
        consume_budget().await;
        collector.push(chunk?)?;
        if collector.is_complete() {
            break;
        }
    }
    collector.finish()
}

/// Makes a reply of chunks, one by one.
#[derive(Debug, Default)]
pub struct Collector {
    parts: Vec<ReplyPart>,
    /// The part that grows: text, reasoning or refusal.
    open: Option<OpenPart>,
    /// Calls by the provider's index, with the place in `parts` that is theirs.
    calls: BTreeMap<u32, OpenCall>,
    usage: Option<Usage>,
    finish: Option<Finish>,
    bytes: usize,
    pieces: usize,
}

#[derive(Debug)]
struct OpenPart {
    kind: TextKind,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum TextKind {
    Text,
    Reasoning,
    Refusal,
}

#[derive(Debug)]
struct OpenCall {
    place: usize,
    id: String,
    name: String,
    arguments: String,
}

impl Collector {
    /// Adds a chunk.
    ///
    /// # Errors
    ///
    /// [`ModelErrorClass::Malformed`] for a chunk after the end, arguments of a call that did not begin, or a call that begins
    /// twice; [`ModelErrorClass::TooLarge`] for more than 16 MiB.
    pub fn push(&mut self, chunk: Chunk) -> Result<(), ModelError> {
        self.push_ref(&chunk)
    }

    /// Adds a chunk that somebody else keeps.
    pub(crate) fn push_ref(&mut self, chunk: &Chunk) -> Result<(), ModelError> {
        let malformed = |problem: &'static str| Err(ModelError::new(ModelErrorClass::Malformed, problem));
        if self.finish.is_some() {
            return malformed("something came after the end of the answer");
        }
        match chunk {
            Chunk::Text(text) => self.append(TextKind::Text, text),
            Chunk::Reasoning(text) => self.append(TextKind::Reasoning, text),
            Chunk::Refusal(text) => self.append(TextKind::Refusal, text),
            Chunk::ReasoningOpaque(opaque) => {
                self.bytes += opaque.as_bytes().len();
                let text = match self.open.take_if(|open| open.kind == TextKind::Reasoning) {
                    Some(open) => open.text,
                    None => String::new(),
                };
                self.close_part();
                self.parts.push(ReplyPart::Reasoning(Reasoning::new(text).with_opaque(opaque.clone())));
            }
            Chunk::CallStart { index, id, name } => {
                self.close_part();
                self.bytes += id.len() + name.len();
                let (id, name) = (id.clone(), name.clone());
                let call = OpenCall { place: self.parts.len(), id, name, arguments: String::new() };
                if self.calls.insert(*index, call).is_some() {
                    return malformed("a call began twice");
                }
                // Keeps the place; the call itself follows when its arguments are complete.
                self.parts.push(ReplyPart::Text { text: Arc::default() });
            }
            Chunk::CallArguments { index, text } => {
                self.bytes += text.len();
                match self.calls.get_mut(index) {
                    Some(call) => call.arguments.push_str(text),
                    None => return malformed("arguments came for a call that did not begin"),
                }
            }
            Chunk::Attachment(attachment) => {
                self.close_part();
                self.bytes += attachment.size();
                self.parts.push(ReplyPart::Attachment(attachment.clone()));
            }
            Chunk::Usage(usage) => self.usage = Some(*usage),
            Chunk::Restart { .. } => *self = Self::default(),
            Chunk::Finish(finish) => self.finish = Some(finish.clone()),
        }
        self.pieces += 1;
        // A piece may be empty, and then there may be no end of them.
        if self.bytes + self.parts.len() * PART_BYTES > MAX_REPLY_BYTES || self.pieces > MAX_PIECES {
            return Err(ModelError::new(ModelErrorClass::TooLarge, "the answer is larger than 16 MiB"));
        }
        Ok(())
    }

    /// Whether the answer's end has come. What a stream does after that is of no interest.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.finish.is_some()
    }

    /// How many bytes came so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the provider said so far about usage.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether there is nothing in it, so far, that a user or the run could use.
    pub(crate) fn is_blank(&self) -> bool {
        let open =
            self.open.as_ref().is_none_or(|open| open.kind == TextKind::Reasoning || open.text.trim().is_empty());
        open && self.calls.is_empty() && self.parts.iter().all(ReplyPart::is_blank)
    }

    /// Whether nothing came yet.
    pub(crate) fn is_untouched(&self) -> bool {
        self.bytes == 0 && self.usage.is_none() && self.finish.is_none()
    }

    /// What the provider charged, once it has said so.
    pub(crate) fn cost(&self) -> Option<MicroUsd> {
        self.finish.as_ref().and_then(|finish| finish.cost)
    }

    /// The whole reply.
    ///
    /// # Errors
    ///
    /// [`ModelErrorClass::Cut`] when no [`Chunk::Finish`] came.
    pub fn finish(mut self) -> Result<(Reply, Finish), ModelError> {
        let Some(finish) = self.finish.take() else {
            return Err(ModelError::new(ModelErrorClass::Cut, "the answer ended before it was complete"));
        };
        self.close_part();
        for call in mem::take(&mut self.calls).into_values() {
            if let Some(part) = self.parts.get_mut(call.place) {
                let call_made = Call::from_text(call.name, call.arguments);
                let labelled = if call.id.is_empty() { call_made } else { call_made.with_label(call.id) };
                *part = ReplyPart::Call(labelled);
            }
        }
        self.parts.shrink_to_fit();
        let reason = finish.reason.clone();
        let reply = Reply { parts: self.parts, finish: reason, model: finish.model.clone(), usage: self.usage };
        Ok((reply, finish))
    }

    fn append(&mut self, kind: TextKind, text: &str) {
        self.bytes += text.len();
        match &mut self.open {
            _ if text.is_empty() => {}
            Some(open) if open.kind == kind => open.text.push_str(text),
            _ => {
                self.close_part();
                self.open = Some(OpenPart { kind, text: text.to_owned() });
            }
        }
    }

    fn close_part(&mut self) {
        let Some(OpenPart { kind, text }) = self.open.take() else { return };
        if text.is_empty() {
            return;
        }
        self.parts.push(match kind {
            TextKind::Text => ReplyPart::Text { text: text.into() },
            TextKind::Reasoning => ReplyPart::Reasoning(Reasoning::new(text)),
            TextKind::Refusal => ReplyPart::Refusal { text: text.into() },
        });
    }
}

impl Reply {
    /// Whether there is nothing in it that a user or the run could use: no text, no call, no refusal, no file.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.parts.iter().all(ReplyPart::is_blank)
    }

    /// Whether a content filter left nothing of it.
    #[must_use]
    pub(crate) fn is_filtered(&self) -> bool {
        self.finish == FinishReason::ContentFilter && self.is_blank()
    }
}

impl ReplyPart {
    fn is_blank(&self) -> bool {
        match self {
            Self::Text { text } => text.trim().is_empty(),
            Self::Reasoning(_) => true,
            Self::Refusal { .. } | Self::Call(_) | Self::Attachment(_) => false,
        }
    }
}
