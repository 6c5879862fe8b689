//! What a server says about a failure, whatever form it has.

use std::time::Duration;

use agent_core::ModelErrorClass;
use serde_json::Value;

use super::{Secrets, classify, retry_after};

/// How much of a server's words is looked through for keys, which takes a while.
const MAX_SCRUBBED: usize = 4 * MAX_WORDS;

/// How much of a server's words is kept.
const MAX_WORDS: usize = 2_000;

/// What a server said in place of an answer: the `source` of a [`ModelError`](agent_core::ModelError), for hosts and their logs.
///
/// Its `Display` has the status only. The server's own words, which may hold anything but this client's keys, are in
/// [`message`](Self::message).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server said so{}", self.status.map(|status| format!(" with status {status}")).unwrap_or_default())]
#[non_exhaustive]
pub struct UpstreamError {
    /// The HTTP status, unless the error came within an answer.
    pub status: Option<u16>,
    /// The server's type of the error.
    pub kind: Option<String>,
    /// The server's code of the error.
    pub code: Option<String>,
    /// The server's words, at most 2,000 characters.
    pub message: String,
    /// Under which id LiteLLM logged the call.
    pub call_id: Option<String>,
}

/// What a server said about a failure, word for word: keys are taken out when it becomes an error.
#[derive(Default)]
pub(super) struct Said {
    pub(super) status: Option<u16>,
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    /// A further code within the error, which is the better one where there is one.
    pub(super) inner_code: Option<String>,
    pub(super) message: String,
    retry: Option<Duration>,
}

impl Said {
    /// What the body of a failure says, be it JSON or not.
    pub(super) fn in_body(body: &str) -> Self {
        match serde_json::from_str(body) {
            Ok(document) => Self::in_document(&document),
            Err(_) => Self::in_words(body),
        }
    }

    /// What came, as it is.
    pub(super) fn in_words(words: &str) -> Self {
        let words = words.trim();
        let message = if words.starts_with(['{', '[']) { unescape(words) } else { words.to_owned() };
        Self { message, ..Self::default() }
    }

    fn in_document(document: &Value) -> Self {
        // Google puts errors into a list.
        let document = document.get(0).unwrap_or(document);
        let error = match &document["error"] {
            Value::Null => document,
            error => error,
        };
        let fields = ["message", "detail", "msg", "error"];
        let message = text(error).or_else(|| fields.iter().find_map(|field| text(&error[field])));
        let message = message.or_else(|| problems(&error["detail"])).unwrap_or_else(|| document.to_string());
        let details = || error["details"].as_array().into_iter().flatten();
        let delay = details().find_map(|detail| detail["retryDelay"].as_str());
        let reason = details().find_map(|detail| text(&detail["reason"]));
        let said = Self {
            status: None,
            kind: text(&error["type"])
                .or_else(|| text(&error["error_type"]))
                .or_else(|| text(&document["error_type"]))
                .or_else(|| text(&error["status"]).filter(|status| status.parse::<u16>().is_err())),
            code: text(&error["code"]),
            inner_code: text(&error["innererror"]["code"]).or(reason),
            message,
            retry: delay.and_then(retry_after::in_text),
        };
        match &error["metadata"]["raw"] {
            Value::Null => said,
            Value::String(raw) => said.passing_on(Self::in_body(raw)),
            raw => said.passing_on(Self::in_document(raw)),
        }
    }

    /// The same with what a provider behind the server said, as OpenRouter has it.
    fn passing_on(mut self, provider: Self) -> Self {
        self.message = format!("{}: {}", self.message, provider.message);
        self.inner_code = self.inner_code.or(provider.inner_code).or(provider.code).or(provider.kind);
        self.retry = self.retry.or(provider.retry);
        self
    }

    /// The same with the HTTP status.
    pub(super) fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub(super) fn class(&self) -> ModelErrorClass {
        classify::class(self)
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.retry
    }

    pub(super) fn into_error(self, call_id: Option<&str>, secrets: &Secrets) -> UpstreamError {
        let scrub = |text: Option<String>| text.map(|text| secrets.scrub(&text));
        let beginning = &self.message[..self.message.floor_char_boundary(MAX_SCRUBBED)];
        UpstreamError {
            status: self.status,
            kind: scrub(self.kind),
            code: scrub(self.code),
            message: secrets.scrub_cut(beginning).chars().take(MAX_WORDS).collect(),
            call_id: call_id.map(str::to_owned),
        }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// FastAPI's list of what is wrong where.
fn problems(detail: &Value) -> Option<String> {
    let place = |problem: &Value| {
        let steps = problem["loc"].as_array().into_iter().flatten().filter_map(text);
        steps.collect::<Vec<_>>().join(".")
    };
    let problems = detail.as_array()?.iter();
    let problems: Vec<String> =
        problems.filter_map(|problem| Some(format!("{}: {}", place(problem), text(&problem["msg"])?))).collect();
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// JSON that breaks off, with its escapes read, for people and so that keys are found in it.
fn unescape(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, escape)) = rest.split_once('\\') {
        text.push_str(before);
        let length = if escape.starts_with('u') { 5 } else { 1 };
        let Some((written, after)) = escape.split_at_checked(length) else { return text };
        let unit = written.get(1..).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        text.push(match written {
            "n" | "r" | "t" => ' ',
            _ if length == 1 => written.chars().next().unwrap_or_default(),
            _ => unit.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER),
        });
        rest = after;
    }
    text + rest
}
