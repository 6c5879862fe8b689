//! A request as it came.

use serde_json::Value;

/// A request that a [`FaultUpstream`](super::FaultUpstream) got.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UpstreamRequest {
    /// `GET` or `POST`.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl UpstreamRequest {
    /// The value of the first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON, or `null`.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The model that is asked for.
    #[must_use]
    pub fn model(&self) -> String {
        self.json()["model"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether the answer shall be a stream.
    #[must_use]
    pub fn wants_stream(&self) -> bool {
        self.json()["stream"] == true
    }

    /// The text of the last message.
    #[must_use]
    pub fn last_text(&self) -> String {
        let body = self.json();
        let content =
            &body["messages"].as_array().and_then(|messages| messages.last()).unwrap_or(&Value::Null)["content"];
        match content {
            Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
            text => text.as_str().unwrap_or_default().to_owned(),
        }
    }
}
