//! Answers made of results.

use agent_core::{Call, CallResult, FunctionSpec};
use serde_json::Value;

use super::plan::{Ask, Planner};

/// Names of fields that hold the text of a result.
const TEXTS: &[&str] = &["answer", "text", "message", "summary", "result"];
/// Names of fields that hold where a result comes from.
const SOURCES: &[&str] = &["source", "sources", "citation", "citations"];

/// One line for each result, each naming its source.
pub(super) fn from_results<'a>(exchanges: impl Iterator<Item = (&'a Call, &'a CallResult)>) -> Vec<String> {
    exchanges.map(|(call, result)| line(&call.name, result)).collect()
}

fn line(function: &str, result: &CallResult) -> String {
    let value = match result {
        CallResult::Done(value) => value,
        CallResult::Failed(failure) => return format!("{function} has no answer: {}", failure.message),
        _ => return format!("{function} has no answer"),
    };
    let text = text_of(value);
    match sources(value) {
        Some(sources) => format!("{text} [{function}: {sources}]"),
        None => format!("{text} [{function}]"),
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "nothing".to_owned(),
        Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join("; "),
        Value::Object(fields) => {
            if let Some(text) = TEXTS.iter().find_map(|name| fields.get(*name).and_then(Value::as_str)) {
                return text.to_owned();
            }
            let shown = fields.iter().filter(|(name, value)| !SOURCES.contains(&name.as_str()) && !value.is_null());
            shown
                .map(|(name, value)| format!("{}: {}", name.replace('_', " "), text_of(value)))
                .collect::<Vec<_>>()
                .join(", ")
        }
        other => other.to_string(),
    }
}

fn sources(value: &Value) -> Option<String> {
    let source = SOURCES.iter().find_map(|name| value.get(*name))?;
    let text = text_of(source);
    (!text.is_empty()).then_some(text)
}

/// A question for each argument that is missing.
pub(super) fn ask(planner: &Planner, asks: &[Ask]) -> Vec<String> {
    let question = |ask: &Ask| {
        let function = planner.candidates.get(ask.function).map_or("", |candidate| &candidate.spec.name);
        let hint = if ask.description.is_empty() {
            String::new()
        } else {
            format!(" ({})", ask.description.trim_end_matches('.'))
        };
        format!("To use `{function}` I need `{}`{hint}. Which is it?", ask.parameter)
    };
    asks.iter().map(question).collect()
}

/// What can be asked for, for somebody who asked for something else.
pub(super) fn capabilities<'a>(functions: impl Iterator<Item = &'a FunctionSpec>) -> String {
    let mut lines: Vec<String> =
        functions.map(|function| format!("- {}: {}", function.name, function.description)).collect();
    if lines.is_empty() {
        return "I have no functions to answer with.".to_owned();
    }
    lines.insert(0, "I cannot help with that. I can help with:".to_owned());
    lines.join("\n")
}
