//! A conversation as messages.

use std::borrow::Cow;

use agent_core::{
    Arguments, Call, CallResult, ChatRequest, Conversation, Entry, FunctionName, ModelError, Reply, ReplyPart, Turn,
    UserMessage, UserPart,
};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::labels::Labels;
use super::parts;
use crate::opaque::Kept;
use crate::settings::ReasoningReturn;

/// One message.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<Cow<'a, str>>,
    /// What goes back as it came.
    #[serde(flatten)]
    kept: Map<String, Value>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Content<'a> {
    /// `null`: there is nothing but calls.
    None,
    Text(Cow<'a, str>),
    Parts(Vec<Value>),
}

#[derive(Debug, Serialize)]
struct ToolCall<'a> {
    id: Cow<'a, str>,
    r#type: &'static str,
    function: Function<'a>,
    #[serde(flatten)]
    kept: Map<String, Value>,
}

#[derive(Debug, Serialize)]
struct Function<'a> {
    name: Cow<'a, str>,
    arguments: Cow<'a, str>,
}

/// For whom messages are written: it sees the ids again that it gave to calls, and its reasoning if that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) model: &'a str,
    pub(super) reasoning: ReasoningReturn,
}

/// The messages of a request.
pub(super) fn messages<'a>(
    request: &'a ChatRequest,
    instructions: Cow<'a, str>,
    reader: Reader<'_>,
) -> Result<Vec<Message<'a>>, ModelError> {
    let mut messages = Vec::with_capacity(request.conversation.entries().len() + 1);
    if !instructions.is_empty() {
        messages.push(Message::of("system", Content::Text(instructions)));
    }
    push_conversation(&request.conversation, reader, &mut messages)?;
    Ok(messages)
}

fn push_conversation<'a>(
    conversation: &'a Conversation,
    reader: Reader<'_>,
    messages: &mut Vec<Message<'a>>,
) -> Result<(), ModelError> {
    let mut labels = Labels::default();
    for entry in conversation.entries() {
        match entry {
            Entry::User(message) => messages.push(Message::of("user", user_content(message)?)),
            Entry::Agent(turn) => push_turn(turn, reader, &mut labels, messages),
            // A kind of entry that this version does not know has nothing that it could send.
            _ => {}
        }
    }
    Ok(())
}

/// One text where there are only texts: some servers know no parts.
fn user_content(message: &UserMessage) -> Result<Content<'_>, ModelError> {
    if let [UserPart::Text { text }] = message.parts.as_slice() {
        return Ok(Content::Text(Cow::Borrowed(text)));
    }
    if message.parts.iter().all(|part| matches!(part, UserPart::Text { .. })) {
        return Ok(Content::Text(message.joined_text().into()));
    }
    let part = |part: &UserPart| match part {
        UserPart::Text { text } => Some(Ok(json!({"type": "text", "text": &**text}))),
        UserPart::Attachment(attachment) => Some(parts::part(attachment)),
        _ => None,
    };
    message.parts.iter().filter_map(part).collect::<Result<_, _>>().map(Content::Parts)
}

/// What the model said, and after it the results of its calls, each under its call's id.
fn push_turn<'a>(turn: &'a Turn, reader: Reader<'_>, labels: &mut Labels, messages: &mut Vec<Message<'a>>) {
    let reply = turn.reply();
    let own = kept(reply, reader.model);
    let is_own = own.is_some();
    let mut kept = own.filter(|_| reader.reasoning == ReasoningReturn::AsItCame).unwrap_or_default();
    let mut results = Vec::new();
    let mut calls = Vec::new();
    for ((call, result), place) in turn.exchanges().zip(0..) {
        let id = labels.next(is_own.then_some(&*call.label));
        results.push(result_message(id.clone(), result));
        calls.push(tool_call(id, call, kept.calls.remove(&place).unwrap_or_default()));
    }
    let mut message = Message::of("assistant", said(reply, calls.is_empty()));
    message.tool_calls = calls;
    message.kept = kept.fields;
    messages.push(message);
    messages.extend(results);
}

/// What of a reply has to go back to `model`, or `None` when it is another's.
fn kept(reply: &Reply, model: &str) -> Option<Kept> {
    let mut all = None;
    let mut thoughts = String::new();
    for part in &reply.parts {
        let ReplyPart::Reasoning(reasoning) = part else { continue };
        thoughts.push_str(&reasoning.text);
        if let Some(kept) = reasoning.opaque.as_ref().and_then(|opaque| Kept::open(opaque, model)) {
            all = Some(kept);
        }
    }
    let mut all = all?;
    if let Some(field) = all.reasoning.take() {
        all.fields.insert(field, thoughts.into());
    }
    Some(all)
}

/// The words of a reply. A refusal counts as words, and so does the mention of a file, which no server takes back.
fn said(reply: &Reply, has_to_say_something: bool) -> Content<'_> {
    let words: Vec<Cow<'_, str>> = reply
        .parts
        .iter()
        .filter_map(|part| match part {
            ReplyPart::Text { text } | ReplyPart::Refusal { text } => Some(Cow::Borrowed(&**text)),
            ReplyPart::Attachment(file) => Some(format!("[{}]", file.name.as_ref().unwrap_or(&file.media_type)).into()),
            _ => None,
        })
        .collect();
    match words.as_slice() {
        [] if !has_to_say_something => Content::None,
        [] => Content::Text("".into()),
        [Cow::Borrowed(text)] => Content::Text(Cow::Borrowed(text)),
        words => Content::Text(words.concat().into()),
    }
}

fn tool_call<'a>(id: Cow<'a, str>, call: &'a Call, kept: Map<String, Value>) -> ToolCall<'a> {
    let function = Function { name: name(&call.name), arguments: arguments(&call.arguments) };
    ToolCall { id, r#type: "function", function, kept }
}

/// The name that the model wrote, made such that servers take it back: models make names up.
fn name(name: &str) -> Cow<'_, str> {
    if FunctionName::new(name).is_ok() {
        return name.into();
    }
    let is_usual = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    let usual: String =
        name.chars().take(64).map(|character| if is_usual(character) { character } else { '_' }).collect();
    if usual.is_empty() { "unnamed".into() } else { usual.into() }
}

/// The text that the model wrote, byte for byte, unless servers that look into it would fail: then in an object of its own.
fn arguments(arguments: &Arguments) -> Cow<'_, str> {
    let text = arguments.as_text();
    match text.trim() {
        "" => "{}".into(),
        trimmed if trimmed.starts_with('{') && serde_json::from_str::<IgnoredAny>(trimmed).is_ok() => text.into(),
        _ => json!({ "malformed": text }).to_string().into(),
    }
}

fn result_message<'a>(id: Cow<'a, str>, result: &CallResult) -> Message<'a> {
    let text = match &*result.to_model_value() {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    Message { tool_call_id: Some(id), ..Message::of("tool", Content::Text(text.into())) }
}

impl<'a> Message<'a> {
    fn of(role: &'static str, content: Content<'a>) -> Self {
        Self { role, content, tool_calls: Vec::new(), tool_call_id: None, kept: Map::new() }
    }
}
