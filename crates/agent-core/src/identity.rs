//! The identities that every event, span and audit record of a task carries.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::InvalidValue;
use crate::id::{AgentVersion, RunId, TaskId, TenantId, UserId};

/// Who, what for, and which agent: carried by every event and span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Identity {
    /// The trace, as OpenTelemetry knows it.
    pub trace_id: TraceId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// The caller within the tenant.
    pub user_id: UserId,
    /// The task.
    pub task_id: TaskId,
    /// The run that works on the task.
    pub run_id: RunId,
    /// The Main Agent.
    pub main_agent_id: Arc<str>,
    /// The Sub-Agent, below the Main Agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_agent_id: Option<Arc<str>>,
    /// The Sub-Agent's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_agent_version: Option<AgentVersion>,
    /// What the host configured the agent with.
    #[serde(flatten)]
    pub profile: Profile,
}

/// The versions of what a tenant's users maintain, as the host names them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Profile {
    /// The version of the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_version: Option<Arc<str>>,
    /// The memory profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_profile_id: Option<Arc<str>>,
    /// The knowledge spaces.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub knowledge_space_ids: Arc<[Arc<str>]>,
}

impl Profile {
    /// The same with this version of the prompt.
    #[must_use]
    pub fn with_prompt_version(mut self, version: impl Into<Arc<str>>) -> Self {
        self.prompt_version = Some(version.into());
        self
    }

    /// The same with this memory profile.
    #[must_use]
    pub fn with_memory_profile_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.memory_profile_id = Some(id.into());
        self
    }

    /// The same with these knowledge spaces.
    #[must_use]
    pub fn with_knowledge_space_ids(mut self, ids: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        self.knowledge_space_ids = ids.into_iter().map(Into::into).collect();
        self
    }
}

/// A W3C trace id: 16 bytes, written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// The trace id of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The trace id in a W3C `traceparent` header.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] when `header` is no `traceparent`.
    pub fn from_traceparent(header: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new("traceparent", header, "`00-TRACE_ID-SPAN_ID-FLAGS`");
        let mut fields = header.split('-');
        let (Some(version), Some(trace), Some(span), Some(flags)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(invalid());
        };
        let is_hex = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex(version, 2) || !is_hex(span, 16) || !is_hex(flags, 2) {
            return Err(invalid());
        }
        trace.parse().map_err(|_| invalid())
    }
}

impl FromStr for TraceId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new("trace_id", text, "32 lower-case hexadecimal digits, not all zero");
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| invalid())?;
        let bytes: [u8; 16] = bytes.try_into().map_err(|_| invalid())?;
        if bytes == [0; 16] {
            return Err(invalid());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for TraceId {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<TraceId> for String {
    fn from(id: TraceId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        data_encoding::HEXLOWER.encode_display(&self.0).fmt(f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}
