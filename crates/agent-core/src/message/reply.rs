//! What a model says: text, reasoning, refusals and calls.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Attachment, Call};
use crate::amount::Tokens;

/// One whole answer of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reply {
    /// The parts, in the order in which they came.
    pub parts: Vec<ReplyPart>,
    /// Why the model stopped.
    pub finish: FinishReason,
    /// The model that really answered, where the provider says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// What the provider says was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// One part of a [`Reply`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReplyPart {
    /// Text for the user.
    Text {
        /// The text itself.
        text: Arc<str>,
    },
    /// Thoughts, which go back to the provider unchanged.
    Reasoning(Reasoning),
    /// The model declines.
    Refusal {
        /// Its words.
        text: Arc<str>,
    },
    /// A call of a function.
    Call(Call),
    /// A picture or another file that the model made.
    Attachment(Attachment),
}

/// A model's reasoning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reasoning {
    /// What can be read of it; may be empty.
    #[serde(default)]
    pub text: Arc<str>,
    /// What only the provider understands: a signature, an encrypted item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<Opaque>,
}

impl Reasoning {
    /// Reasoning of this text, which may be empty.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), opaque: None }
    }

    /// The same with bytes that go back to the provider as they are.
    #[must_use]
    pub fn with_opaque(mut self, opaque: Opaque) -> Self {
        self.opaque = Some(opaque);
        self
    }
}

/// A provider's own bytes, kept and sent back as they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Opaque(#[serde(with = "crate::wire::base64")] Arc<[u8]>);

impl Opaque {
    /// Keeps `bytes`.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes as they came.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Why a model stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// It had said everything.
    #[default]
    Stop,
    /// It reached the maximum output.
    Length,
    /// It waits for the results of its calls.
    Calls,
    /// A filter stopped it.
    ContentFilter,
    /// Something else, in the provider's word.
    Other(Arc<str>),
}

/// What a provider says that a call used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens read, cached ones included.
    pub input: Tokens,
    /// Tokens written, reasoning included.
    pub output: Tokens,
    /// Tokens read from the provider's cache, part of `input`.
    #[serde(default)]
    pub cached_input: Tokens,
    /// Tokens of reasoning, part of `output`.
    #[serde(default)]
    pub reasoning: Tokens,
}

impl Usage {
    /// Usage of this many tokens in and out.
    #[must_use]
    pub const fn new(input: Tokens, output: Tokens) -> Self {
        Self { input, output, cached_input: Tokens::ZERO, reasoning: Tokens::ZERO }
    }

    /// Tokens in and out together.
    #[must_use]
    pub const fn total(&self) -> Tokens {
        self.input.plus(self.output)
    }
}

impl Reply {
    /// A reply of one text.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::of([ReplyPart::Text { text: text.into() }])
    }

    /// A reply that makes `calls`.
    pub fn calls(calls: impl IntoIterator<Item = Call>) -> Self {
        Self { finish: FinishReason::Calls, ..Self::of(calls.into_iter().map(ReplyPart::Call)) }
    }

    /// A reply of these parts.
    pub fn of(parts: impl IntoIterator<Item = ReplyPart>) -> Self {
        Self { parts: parts.into_iter().collect(), ..Self::default() }
    }

    /// All text for the user, joined.
    #[must_use]
    pub fn joined_text(&self) -> String {
        self.parts
            .iter()
            .filter_map(|part| if let ReplyPart::Text { text } = part { Some(&**text) } else { None })
            .collect()
    }

    /// The model's words when it declines.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.parts.iter().find_map(|part| if let ReplyPart::Refusal { text } = part { Some(&**text) } else { None })
    }

    /// The calls, in order. The index of a call here is its slot.
    pub fn each_call(&self) -> impl Iterator<Item = &Call> {
        self.parts.iter().filter_map(|part| if let ReplyPart::Call(call) = part { Some(call) } else { None })
    }

    /// Its size in bytes, for estimates.
    #[must_use]
    pub fn size(&self) -> usize {
        self.parts.iter().map(ReplyPart::size).sum()
    }
}

impl ReplyPart {
    fn size(&self) -> usize {
        match self {
            Self::Text { text } | Self::Refusal { text } => text.len(),
            Self::Reasoning(reasoning) => {
                reasoning.text.len() + reasoning.opaque.as_ref().map_or(0, |opaque| opaque.as_bytes().len())
            }
            Self::Call(call) => call.name.len() + call.arguments.as_text().len(),
            Self::Attachment(attachment) => attachment.size(),
        }
    }
}
