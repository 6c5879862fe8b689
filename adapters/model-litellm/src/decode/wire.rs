//! What servers send as answers, read leniently: what is missing, null or of an unknown kind is no failure, only what is needed.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// An answer, or an event of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Document<'a> {
    pub(super) choices: Option<Vec<Choice<'a>>>,
    pub(super) model: Text,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    /// Where Groq puts the usage of a stream.
    #[serde(borrow)]
    pub(super) x_groq: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
    /// `error` for documents that are one themselves, as vLLM sends them.
    pub(super) object: Text,
    /// FastAPI's word for what is wrong.
    #[serde(borrow)]
    pub(super) detail: Option<&'a RawValue>,
}

/// One of several answers to one request. Only the first one is ever asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Choice<'a> {
    pub(super) index: Option<Number>,
    /// In a stream.
    #[serde(borrow)]
    pub(super) delta: Option<Message<'a>>,
    /// In a whole answer.
    #[serde(borrow)]
    pub(super) message: Option<Message<'a>>,
    pub(super) finish_reason: Text,
    /// Where Moonshot puts the usage of a stream.
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
}

/// A message, or the next piece of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message<'a> {
    pub(super) content: Content,
    /// DeepSeek's and LiteLLM's name.
    pub(super) reasoning_content: Text,
    /// The name of OpenRouter, Groq, Ollama and newer vLLM. Some send both.
    pub(super) reasoning: Text,
    pub(super) refusal: Text,
    #[serde(borrow)]
    pub(super) tool_calls: Option<Vec<CallPiece<'a>>>,
    /// A call as it was before there were several.
    #[serde(borrow)]
    pub(super) function_call: Option<FunctionPiece<'a>>,
    /// Anthropic's reasoning with its signatures, through LiteLLM.
    pub(super) thinking_blocks: Option<Vec<Value>>,
    /// OpenRouter's.
    pub(super) reasoning_details: Option<Vec<Value>>,
    /// Pictures that the model made.
    pub(super) images: Option<Vec<Value>>,
    /// Spoken answers, of which the words are taken.
    pub(super) audio: Option<Audio>,
    /// Where LiteLLM puts what it has no field for.
    pub(super) provider_specific_fields: Option<ProviderFields>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ProviderFields {
    pub(super) refusal: Text,
    /// Gemini's, which it wants to see again.
    pub(super) thought_signatures: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Audio {
    pub(super) transcript: Text,
}

/// A call, or the next piece of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CallPiece<'a> {
    pub(super) index: Option<Number>,
    pub(super) id: Text,
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
    pub(super) name: Text,
    /// Text; some send the value itself.
    #[serde(borrow)]
    pub(super) arguments: Option<&'a RawValue>,
}

/// Text, which is empty for whatever is none.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Text(pub(super) String);

/// A whole number, also one that is written as text or with a point. What is none is zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number(pub(super) u32);

/// The content of a message: text, or a list of parts.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Content {
    #[default]
    None,
    Text(String),
    Parts(Vec<Value>),
}

/// Declares visits of values that count as nothing.
macro_rules! nothing {
    ($value:expr; $($visit:ident($kind:ty)),*) => {
        $(fn $visit<E>(self, _: $kind) -> Result<Self::Value, E> {
            Ok($value)
        })*
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok($value)
        }
    };
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfText;
        impl<'de> Visitor<'de> for OfText {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Text, E> {
                Ok(Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Text, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text::default())
            }

            nothing!(Text::default(); visit_bool(bool), visit_u64(u64), visit_i64(i64), visit_f64(f64));
        }
        deserializer.deserialize_any(OfText)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfNumber;
        impl<'de> Visitor<'de> for OfNumber {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(u32::try_from(number).unwrap_or(u32::MAX)))
            }

            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "`as` saturates, and an index is small"
            )]
            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                Ok(Number(number as u32))
            }

            fn visit_str<E>(self, text: &str) -> Result<Number, E> {
                Ok(Number(text.trim().parse().unwrap_or(0)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Number, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Number(0))
            }

            nothing!(Number(0); visit_bool(bool), visit_i64(i64));
        }
        deserializer.deserialize_any(OfNumber)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfContent;
        impl<'de> Visitor<'de> for OfContent {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or parts")
            }

            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Content, E> {
                Ok(Content::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = items.next_element()? {
                    parts.push(part);
                }
                Ok(Content::Parts(parts))
            }

            nothing!(Content::None; visit_bool(bool), visit_u64(u64), visit_i64(i64), visit_f64(f64));
        }
        deserializer.deserialize_any(OfContent)
    }
}
