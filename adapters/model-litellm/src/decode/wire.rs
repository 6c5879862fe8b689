//! What servers send as answers, as far as anything of it is used.
//!
//! What nearly every event has is read at once; what few have stays text until it is looked at.

use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::lenient::{Content, Count, ListOf, OrDefault, Text};
use super::usage::UsageFields;
use super::utf16;

/// An answer, or an event of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Document<'a> {
    #[serde(borrow)]
    pub(super) choices: Option<Choices<'a>>,
    #[serde(borrow)]
    pub(super) model: Text<'a>,
    #[serde(borrow)]
    pub(super) usage: Option<Box<OrDefault<UsageFields<'a>>>>,
    /// Where Groq puts the usage of a stream.
    #[serde(borrow)]
    pub(super) x_groq: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
    /// `error` for documents that are one themselves, as vLLM sends them.
    #[serde(borrow)]
    pub(super) object: Text<'a>,
    /// FastAPI's word for what is wrong.
    #[serde(borrow)]
    pub(super) detail: Option<&'a RawValue>,
}

/// The first of the answers to one request. There are more only where a host asked for them by a field of its own.
#[derive(Debug, Default)]
pub(super) struct Choices<'a>(pub(super) Option<Choice<'a>>);

/// One answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Choice<'a> {
    index: Count,
    /// In a stream. Messages are large, and boxed so that they are not moved about while they are read.
    #[serde(borrow)]
    pub(super) delta: Option<Box<Message<'a>>>,
    /// In a whole answer.
    #[serde(borrow)]
    pub(super) message: Option<Box<Message<'a>>>,
    #[serde(borrow)]
    pub(super) finish_reason: Text<'a>,
    /// Where Moonshot puts the usage of a stream.
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    /// Where OpenRouter puts what its provider said in the middle of an answer.
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

/// A message, or the next piece of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) content: Content<'a>,
    /// DeepSeek's and LiteLLM's name.
    #[serde(borrow)]
    pub(super) reasoning_content: Text<'a>,
    /// The name of OpenRouter, Groq, Ollama and newer vLLM. Some send both.
    #[serde(borrow)]
    pub(super) reasoning: Text<'a>,
    #[serde(borrow)]
    pub(super) refusal: Text<'a>,
    #[serde(borrow)]
    pub(super) tool_calls: ListOf<CallPiece<'a>>,
    /// A call as it was before there were several.
    #[serde(borrow)]
    pub(super) function_call: Option<&'a RawValue>,
    /// Anthropic's reasoning with its signatures, through LiteLLM.
    #[serde(borrow)]
    pub(super) thinking_blocks: Option<&'a RawValue>,
    /// OpenRouter's.
    #[serde(borrow)]
    pub(super) reasoning_details: Option<&'a RawValue>,
    /// Pictures that the model made.
    #[serde(borrow)]
    pub(super) images: Option<&'a RawValue>,
    /// Spoken answers, of which the words are taken.
    #[serde(borrow)]
    pub(super) audio: Option<&'a RawValue>,
    /// Where LiteLLM puts what it has no field for.
    #[serde(borrow)]
    pub(super) provider_specific_fields: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ProviderFields<'a> {
    #[serde(borrow)]
    pub(super) refusal: Text<'a>,
    /// Gemini's, which it wants to see again.
    pub(super) thought_signatures: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Audio<'a> {
    #[serde(borrow)]
    pub(super) transcript: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Groq<'a> {
    #[serde(borrow)]
    pub(super) usage: OrDefault<UsageFields<'a>>,
}

/// A call, or the next piece of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CallPiece<'a> {
    pub(super) index: Count,
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) function: Option<FunctionPiece<'a>>,
    /// What Gemini's endpoint wants to see again, such as signatures of thoughts.
    #[serde(borrow)]
    pub(super) extra_content: Option<&'a RawValue>,
    /// The same, through LiteLLM.
    #[serde(borrow)]
    pub(super) provider_specific_fields: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FunctionPiece<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    /// Text; some send the value itself.
    #[serde(borrow)]
    pub(super) arguments: Option<&'a RawValue>,
}

/// The value that `raw` is, or the default where there is none of that kind.
pub(super) fn read<'a, T: Deserialize<'a> + Default>(raw: Option<&'a RawValue>) -> T {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

/// The list that `raw` is, or an empty one, whatever halves of characters are in it.
pub(super) fn read_list(raw: Option<&RawValue>) -> Vec<Value> {
    let Some(raw) = raw.map(RawValue::get) else { return Vec::new() };
    let mended = || serde_json::from_str(&utf16::mend(raw)?).ok();
    serde_json::from_str(raw).ok().or_else(mended).unwrap_or_default()
}

impl Message<'_> {
    /// Whether it says something to whoever asked.
    pub(super) fn has_words(&self) -> bool {
        let has_content = !matches!(&self.content, Content::None) && self.content != Content::Text("".into());
        has_content || !self.refusal.is_empty() || self.images.is_some() || self.audio.is_some()
    }

    pub(super) fn has_thoughts(&self) -> bool {
        let is_text = !self.reasoning_content.is_empty() || !self.reasoning.is_empty();
        is_text || is_something(self.thinking_blocks) || is_something(self.reasoning_details)
    }

    pub(super) fn has_calls(&self) -> bool {
        !self.tool_calls.0.is_empty() || is_something(self.function_call)
    }
}

/// Whether there is a value, and not one of those that stand for none.
pub(super) fn is_something(raw: Option<&RawValue>) -> bool {
    raw.is_some_and(|raw| !matches!(raw.get(), "null" | "\"\"" | "{}" | "[]" | "false" | "0"))
}

impl<'de: 'a, 'a> Deserialize<'de> for Choices<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfChoices;
        impl<'de> Visitor<'de> for OfChoices {
            type Value = Choices<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of choices")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Choices<'de>, A::Error> {
                while let Some(choice) = items.next_element::<Choice<'de>>()? {
                    if matches!(choice.index, Count(None | Some(0))) {
                        while items.next_element::<IgnoredAny>()?.is_some() {}
                        return Ok(Choices(Some(choice)));
                    }
                }
                Ok(Choices(None))
            }
        }
        deserializer.deserialize_seq(OfChoices)
    }
}
