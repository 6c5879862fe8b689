//! A model's call of a function, and the one result that it gets.

use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::ErrorCode;
use crate::size::json_size;

/// A call that a model asked for: of a tool or of a Sub-Agent, which look the same to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Call {
    /// The provider's own id. A label only: it may be empty or used twice. Calls and results are paired by position.
    #[serde(default = "no_label", skip_serializing_if = "str::is_empty")]
    pub label: Arc<str>,
    /// The function's name, as the model wrote it.
    pub name: Arc<str>,
    /// What the model wants to pass.
    pub arguments: Arguments,
}

/// The arguments of a [`Call`]: the text as the model wrote it, which goes back to its provider unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Arguments(Arc<str>);

impl Arguments {
    /// Keeps what a model wrote.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text, byte for byte.
    #[must_use]
    pub fn as_text(&self) -> &str {
        &self.0
    }

    /// The text as a value. No text at all means no arguments, as several providers send it.
    ///
    /// # Errors
    ///
    /// When it is no JSON.
    pub fn parse(&self) -> Result<Value, serde_json::Error> {
        if self.0.trim().is_empty() {
            return Ok(json!({}));
        }
        serde_json::from_str(&self.0)
    }
}

impl From<&Value> for Arguments {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl Call {
    /// A call of `name` with valid arguments.
    #[expect(clippy::needless_pass_by_value, reason = "callers write the value in place")]
    pub fn new(name: impl Into<Arc<str>>, arguments: Value) -> Self {
        Self { label: no_label(), name: name.into(), arguments: Arguments::from(&arguments) }
    }

    /// A call of `name` with arguments as a model wrote them.
    pub fn from_text(name: impl Into<Arc<str>>, arguments: impl Into<Arc<str>>) -> Self {
        Self { label: no_label(), name: name.into(), arguments: Arguments::new(arguments) }
    }

    /// The same call under a provider's id.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = label.into();
        self
    }
}

/// The empty label, shared by all calls that have none.
fn no_label() -> Arc<str> {
    static NO_LABEL: LazyLock<Arc<str>> = LazyLock::new(|| "".into());
    NO_LABEL.clone()
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
