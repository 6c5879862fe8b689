//! A value of a host's own type in an event.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

/// A value of a host's own type, shared with the run: it becomes JSON when somebody reads it, and costs nothing before.
///
/// While an event is kept that has one, the run copies what it changes of it.
#[derive(Clone)]
pub struct Payload(Arc<dyn ToValue>);

trait ToValue: Send + Sync {
    fn to_value(&self) -> serde_json::Result<Value>;
}

impl<T: Serialize + Send + Sync> ToValue for T {
    fn to_value(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }
}

impl Payload {
    pub(crate) fn new(value: Arc<impl Serialize + Send + Sync + 'static>) -> Self {
        Self(value)
    }

    /// The value as JSON; `null` for one that cannot be JSON, such as a map whose keys are no texts.
    #[must_use]
    pub fn to_value(&self) -> Value {
        self.0.to_value().unwrap_or_default()
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.to_value() == other.to_value()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_value().fmt(f)
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_value().fmt(f)
    }
}
