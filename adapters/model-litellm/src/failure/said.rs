//! What a server says about a failure, whatever form it has.

use std::time::Duration;

use agent_core::ModelErrorClass;
use serde_json::Value;

use super::{Secrets, classify, retry_after};

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

/// What a server said about a failure.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) status: Option<u16>,
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    /// A further code within the error, which is the better one where there is one.
    pub(super) inner_code: Option<String>,
    pub(super) message: String,
    retry: Option<Duration>,
}

impl Said {
    /// What the body of a failure says, be it JSON or not.
    pub(crate) fn in_body(body: &str, secrets: &Secrets) -> Self {
        match serde_json::from_str(body) {
            Ok(document) => Self::in_document(&document, secrets),
            Err(_) => Self::in_words(body, secrets),
        }
    }

    /// What came, as it is.
    pub(crate) fn in_words(words: &str, secrets: &Secrets) -> Self {
        Self { message: shorten(secrets.scrub(words).trim()), ..Self::default() }
    }

    fn in_document(document: &Value, secrets: &Secrets) -> Self {
        // Google puts errors into a list.
        let document = document.get(0).unwrap_or(document);
        let error = match &document["error"] {
            Value::Null => document,
            error => error,
        };
        let text = |value: &Value| match value {
            Value::String(text) if !text.is_empty() => Some(secrets.scrub(text)),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let fields = ["message", "detail", "msg", "error"];
        let message = text(error).or_else(|| fields.iter().find_map(|field| text(&error[field])));
        let delay = error["details"].as_array().into_iter().flatten().find_map(|detail| detail["retryDelay"].as_str());
        Self {
            status: None,
            kind: text(&error["type"])
                .or_else(|| text(&error["status"]).filter(|status| status.parse::<u16>().is_err())),
            code: text(&error["code"]),
            inner_code: text(&error["innererror"]["code"]),
            message: shorten(&message.unwrap_or_else(|| secrets.scrub(&document.to_string()))),
            retry: delay.and_then(retry_after::in_text),
        }
    }

    /// The same with the HTTP status.
    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub(crate) fn class(&self) -> ModelErrorClass {
        classify::class(self)
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.retry
    }

    pub(super) fn into_error(self, call_id: Option<&str>) -> UpstreamError {
        UpstreamError {
            status: self.status,
            kind: self.kind,
            code: self.code,
            message: self.message,
            call_id: call_id.map(str::to_owned),
        }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(MAX_WORDS).collect()
}
