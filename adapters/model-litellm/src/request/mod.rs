//! A request as the JSON document that is sent.

mod labels;
mod messages;
mod parts;
mod schema;

use std::borrow::Cow;

use agent_core::{
    ChatRequest, FunctionChoice, FunctionSpec, ModelError, ModelErrorClass, ModelOptions, ReasoningEffort,
};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use self::messages::{Message, Reader};
use crate::config::{Dialect, RetryOwner};
use crate::failure;
use crate::identity::Metadata;
use crate::settings::{AnswerFormat, ModelSettings, OutputField, Transport};

/// What a request is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) model: &'a str,
    pub(crate) dialect: Dialect,
    pub(crate) retries: RetryOwner,
    pub(crate) settings: &'a ModelSettings,
    /// What LiteLLM is told about who asks.
    pub(crate) metadata: Option<&'a Metadata<'a>>,
}

/// The document.
///
/// # Errors
///
/// [`ModelErrorClass::BadRequest`] for what chat completions cannot take.
pub(crate) fn body(request: &ChatRequest, plan: Plan<'_>) -> Result<Vec<u8>, ModelError> {
    let asks_in_words = request.answer.as_ref().filter(|_| !plan.sends_schema(request));
    let instructions = match asks_in_words {
        Some(schema) => Cow::Owned(with_schema(&request.instructions, schema.as_value())),
        None => Cow::Borrowed(&*request.instructions),
    };
    let reader = Reader { model: plan.model, reasoning: plan.settings.reasoning };
    let messages = messages::messages(request, instructions, reader)?;
    let body = Body { request, plan, messages };
    let mut document = Vec::with_capacity(request.conversation.size() + 2_048);
    let written = serde_json::to_writer(&mut document, &body);
    written.map(|()| document).map_err(|problem| failure::error(ModelErrorClass::BadRequest).with_source(problem))
}

/// Instructions that ask for an answer of this schema, for servers that cannot be told otherwise.
fn with_schema(instructions: &str, schema: &Value) -> String {
    let separator = if instructions.is_empty() { "" } else { "\n\n" };
    format!(
        "{instructions}{separator}When you answer rather than call a function, answer with one JSON value that fits this JSON \
         Schema, and with nothing else:\n{schema}"
    )
}

struct Body<'a> {
    request: &'a ChatRequest,
    plan: Plan<'a>,
    messages: Vec<Message<'a>>,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { request, plan, messages } = self;
        let options = &*request.options;
        let mut fields = Fields { map: serializer.serialize_map(None)?, extra: &options.extra };
        fields.put("model", plan.model)?;
        fields.put("messages", messages)?;
        if plan.settings.transport == Transport::Stream {
            fields.put("stream", &true)?;
            fields.put("stream_options", &json!({"include_usage": true}))?;
        }
        put_functions(&mut fields, request)?;
        if let Some(schema) = request.answer.as_ref().filter(|_| plan.sends_schema(request)) {
            let schema = schema.as_value();
            let strict = schema::is_strict(schema).then_some(true);
            let json_schema = JsonSchema { name: "answer", schema, strict };
            fields.put("response_format", &ResponseFormat { r#type: "json_schema", json_schema })?;
        }
        fields.put_some(plan.output_field(), request.max_output.map(|tokens| tokens.0))?;
        put_options(&mut fields, options, !request.functions.is_empty())?;
        if plan.dialect == Dialect::LiteLlm {
            if plan.retries == RetryOwner::Caller {
                fields.put("num_retries", &0)?;
                fields.put("disable_fallbacks", &true)?;
            }
            fields.put_some("metadata", plan.metadata)?;
        }
        fields.end()
    }
}

fn put_functions<M: SerializeMap>(fields: &mut Fields<'_, M>, request: &ChatRequest) -> Result<(), M::Error> {
    if request.functions.is_empty() {
        return Ok(());
    }
    let tools: Vec<Tool<'_>> = request.functions.iter().map(Tool::of).collect();
    fields.put("tools", &tools)?;
    match &request.choice {
        FunctionChoice::None => fields.put("tool_choice", "none"),
        FunctionChoice::Required => fields.put("tool_choice", "required"),
        FunctionChoice::Named(name) => {
            fields.put("tool_choice", &json!({"type": "function", "function": {"name": &**name}}))
        }
        // What it is without being said.
        _ => Ok(()),
    }
}

fn put_options<M: SerializeMap>(
    fields: &mut Fields<'_, M>,
    options: &ModelOptions,
    has_functions: bool,
) -> Result<(), M::Error> {
    fields.put_some("temperature", options.temperature)?;
    fields.put_some("top_p", options.top_p)?;
    fields.put_some("seed", options.seed)?;
    fields.put_some("stop", Some(&options.stop).filter(|stop| !stop.is_empty()))?;
    fields.put_some("reasoning_effort", options.reasoning.map(effort))?;
    fields.put_some("parallel_tool_calls", options.parallel_calls.filter(|_| has_functions))
}

fn effort(effort: ReasoningEffort) -> &'static str {
    match effort {
        ReasoningEffort::Minimal => "minimal",
        ReasoningEffort::Low => "low",
        ReasoningEffort::High => "high",
        _ => "medium",
    }
}

/// The fields of the document. A host's own take the place of these, and a host's `null` takes one out.
struct Fields<'a, M> {
    map: M,
    extra: &'a Map<String, Value>,
}

impl<M: SerializeMap> Fields<'_, M> {
    fn put(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) -> Result<(), M::Error> {
        if self.extra.contains_key(name) {
            return Ok(());
        }
        self.map.serialize_entry(name, value)
    }

    fn put_some(&mut self, name: &'static str, value: Option<impl Serialize>) -> Result<(), M::Error> {
        value.map_or(Ok(()), |value| self.put(name, &value))
    }

    fn end(mut self) -> Result<M::Ok, M::Error> {
        for (name, value) in self.extra.iter().filter(|(_, value)| !value.is_null()) {
            self.map.serialize_entry(name, value)?;
        }
        self.map.end()
    }
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    description: &'a str,
    parameters: Cow<'a, Value>,
}

impl<'a> Tool<'a> {
    fn of(spec: &'a FunctionSpec) -> Self {
        let parameters = schema::of_arguments(spec.input.as_value());
        Self { r#type: "function", function: Function { name: &spec.name, description: &spec.description, parameters } }
    }
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    r#type: &'static str,
    json_schema: JsonSchema<'a>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'static str,
    schema: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

impl Plan<'_> {
    /// Whether the schema of the answer goes into its own field rather than into the instructions.
    fn sends_schema(&self, request: &ChatRequest) -> bool {
        match self.settings.answer_format {
            AnswerFormat::JsonSchema => true,
            AnswerFormat::Instructions => false,
            // Many servers force a schema by a grammar, under which no function can be called.
            AnswerFormat::Automatic => self.dialect != Dialect::Compatible || request.functions.is_empty(),
        }
    }

    fn output_field(&self) -> &'static str {
        match self.settings.output_field {
            OutputField::MaxTokens => "max_tokens",
            OutputField::MaxCompletionTokens => "max_completion_tokens",
            OutputField::Automatic if self.dialect == Dialect::OpenAi => "max_completion_tokens",
            OutputField::Automatic => "max_tokens",
        }
    }
}
