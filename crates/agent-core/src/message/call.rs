//! A model's call of a function, and the one result that it gets.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::ErrorCode;
use crate::size::json_size;

/// A call that a model asked for: of a tool or of a Sub-Agent, which look the same to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Call {
    /// The provider's own id. A label only: it may be empty or used twice. Calls and results are paired by position.
    #[serde(default)]
    pub label: Arc<str>,
    /// The function's name, as the model wrote it.
    pub name: Arc<str>,
    /// What the model wants to pass.
    pub arguments: Arguments,
}

/// The arguments of a [`Call`], as the model wrote them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Arguments {
    /// Valid JSON. Whether it fits the function's schema is another question.
    Json(Arc<Value>),
    /// Text that is no JSON, kept so that the model can see what it wrote.
    Malformed {
        /// The text.
        raw: Arc<str>,
        /// Why it is no JSON.
        problem: Arc<str>,
    },
}

impl Arguments {
    /// Reads what a model wrote. No text at all means no arguments, as several providers send it.
    #[must_use]
    pub fn parse(raw: &str) -> Self {
        if raw.trim().is_empty() {
            return Self::Json(Arc::new(json!({})));
        }
        match serde_json::from_str(raw) {
            Ok(value) => Self::Json(Arc::new(value)),
            Err(error) => Self::Malformed { raw: raw.into(), problem: error.to_string().into() },
        }
    }

    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Json(value) => json_size(value),
            Self::Malformed { raw, .. } => raw.len(),
        }
    }

    /// The text to send back to a provider, which wants arguments as JSON in a string.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Json(value) => value.to_string(),
            Self::Malformed { raw, .. } => raw.to_string(),
        }
    }
}

impl Call {
    /// A call of `name` with valid arguments.
    pub fn new(name: impl Into<Arc<str>>, arguments: Value) -> Self {
        Self { label: "".into(), name: name.into(), arguments: Arguments::Json(Arc::new(arguments)) }
    }

    /// A call of `name` whose arguments are read from text.
    pub fn from_text(name: impl Into<Arc<str>>, arguments: &str) -> Self {
        Self { label: "".into(), name: name.into(), arguments: Arguments::parse(arguments) }
    }

    /// The same call under a provider's id.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = label.into();
        self
    }
}

/// The one result of a call: a value, or a failure that the model can read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallResult {
    /// The call did what it should and returned this.
    Done(Arc<Value>),
    /// The call did not.
    Failed(Arc<CallFailure>),
}

/// Why a call has no value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallFailure {
    /// What happened, by its stable name.
    pub code: ErrorCode,
    /// What the model may read about it.
    pub message: Arc<str>,
}

impl CallResult {
    /// A value.
    #[must_use]
    pub fn done(value: Value) -> Self {
        Self::Done(Arc::new(value))
    }

    /// A failure.
    pub fn failed(code: ErrorCode, message: impl Into<Arc<str>>) -> Self {
        Self::Failed(Arc::new(CallFailure { code, message: message.into() }))
    }

    /// The failure of a call that a policy or a person refused.
    pub(crate) fn denied(reason: &str) -> Self {
        Self::failed(ErrorCode::new("call.denied"), format!("not allowed: {reason}"))
    }

    /// The failure of a call that was not made because its agent was done without it.
    pub(crate) fn not_made() -> Self {
        Self::failed(ErrorCode::new("call.not_made"), "the call was not made")
    }

    /// What the model reads: the value, or `{"error": {"code", "message"}}`.
    #[must_use]
    pub fn to_model_value(&self) -> Arc<Value> {
        match self {
            Self::Done(value) => value.clone(),
            Self::Failed(failure) => {
                Arc::new(json!({"error": {"code": failure.code.as_str(), "message": &*failure.message}}))
            }
        }
    }

    /// Its size in bytes, for estimates.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Done(value) => json_size(value),
            Self::Failed(failure) => failure.message.len() + failure.code.as_str().len(),
        }
    }

    /// The value, unless the call failed.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Done(value) => Some(value),
            Self::Failed(_) => None,
        }
    }

    /// The failure, if the call failed.
    #[must_use]
    pub fn failure(&self) -> Option<&CallFailure> {
        match self {
            Self::Done(_) => None,
            Self::Failed(failure) => Some(&**failure),
        }
    }
}
