//! What can go wrong, with codes that stay stable across versions and languages.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A failure from a host's own code, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A stable, machine-readable name of a failure: `model.rate_limited`, `budget.exceeded`.
///
/// Codes are shared by every crate of the SDK, appear in results, events and spans, and never change their meaning.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorCode(Cow<'static, str>);

impl ErrorCode {
    /// A code known at compile time.
    #[must_use]
    pub const fn new(code: &'static str) -> Self {
        Self(Cow::Borrowed(code))
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorCode({})", self.0)
    }
}

/// A value that does not fit its field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value:?}, expected {expected}")]
#[non_exhaustive]
pub struct InvalidValue {
    /// The field that was being set.
    pub field: Cow<'static, str>,
    /// What was given, shortened to 80 characters.
    pub value: String,
    /// What would have been right.
    pub expected: Cow<'static, str>,
}

impl InvalidValue {
    /// `value` given for `field`, where `expected` was needed.
    pub fn new(
        field: impl Into<Cow<'static, str>>,
        value: impl fmt::Display,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { field: field.into(), value: shorten(&value.to_string(), 80), expected: expected.into() }
    }

    /// Always `invalid.value`.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::new("invalid.value")
    }
}

/// The first `max` characters of `text`, marked when something was cut.
pub(crate) fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
