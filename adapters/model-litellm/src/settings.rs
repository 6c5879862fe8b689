//! How one model is talked to, where the gateway's dialect does not say enough.

use serde::Deserialize;

/// How one model is talked to. The defaults fit most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelSettings {
    /// Whether answers come as streams.
    pub transport: Transport,
    /// How the model learns the schema of a typed answer.
    pub answer_format: AnswerFormat,
    /// The field for the maximum output.
    pub output_field: OutputField,
    /// Whether the model sees its earlier reasoning again.
    pub reasoning: ReasoningReturn,
}

/// How answers come. For callers there is no difference but that of whole answers all pieces come at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Transport {
    /// In pieces, as they are made.
    #[default]
    Stream,
    /// Whole: for servers that cannot stream, or lose usage or calls when they do.
    Whole,
}

/// How the model learns the schema of a typed answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnswerFormat {
    /// [`JsonSchema`](Self::JsonSchema), but [`Instructions`](Self::Instructions) for [`Dialect::Compatible`](crate::Dialect) servers
    /// while there are functions: many of those force a schema by a grammar, under which no function can be called.
    #[default]
    Automatic,
    /// As `response_format`, strictly where the schema allows that.
    JsonSchema,
    /// As words at the end of the instructions.
    Instructions,
}

/// The field in which a server takes the maximum output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OutputField {
    /// `max_completion_tokens` for [`Dialect::OpenAi`](crate::Dialect), `max_tokens` for all others.
    #[default]
    Automatic,
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

/// Whether a model sees the reasoning again that it sent with its earlier answers. Another model never sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReasoningReturn {
    /// Yes, in the fields in which it came. Anthropic's and Gemini's models want it while they call functions.
    #[default]
    AsItCame,
    /// No: for servers that refuse it, as DeepSeek's did with R1.
    Never,
}

impl ModelSettings {
    /// The same with another transport.
    #[must_use]
    pub const fn with_transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// The same with another way to tell schemas.
    #[must_use]
    pub const fn with_answer_format(mut self, format: AnswerFormat) -> Self {
        self.answer_format = format;
        self
    }

    /// The same with another field for the maximum output.
    #[must_use]
    pub const fn with_output_field(mut self, field: OutputField) -> Self {
        self.output_field = field;
        self
    }

    /// The same with another way to deal with reasoning.
    #[must_use]
    pub const fn with_reasoning(mut self, reasoning: ReasoningReturn) -> Self {
        self.reasoning = reasoning;
        self
    }
}
