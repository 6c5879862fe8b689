//! What may be spent.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::amount::{MicroUsd, Spend, Tokens};
use crate::error::ErrorCode;

/// Ceilings for a run or a call and everything below it. `None` means no ceiling of its own: the parent's still holds.
///
/// ```
/// use std::time::Duration;
/// use agent_core::{Limits, Tokens};
///
/// let limits = Limits::none().with_tokens(Tokens(50_000)).with_time(Duration::from_secs(30));
/// assert_eq!(limits.model_calls, None);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Limits {
    /// Tokens read and written by models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// Cost. A model without a known price is not called under this ceiling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_usd: Option<MicroUsd>,
    /// Calls of models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_calls: Option<u32>,
    /// Calls of tools and Sub-Agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u32>,
    /// Active time: what passes while a run is suspended does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Duration>,
}

impl Limits {
    /// No ceilings.
    #[must_use]
    pub const fn none() -> Self {
        Self { tokens: None, micro_usd: None, model_calls: None, tool_calls: None, time: None }
    }

    /// The same with at most this many tokens.
    #[must_use]
    pub const fn with_tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// The same with at most this cost.
    #[must_use]
    pub const fn with_micro_usd(mut self, micro_usd: MicroUsd) -> Self {
        self.micro_usd = Some(micro_usd);
        self
    }

    /// The same with at most this many calls of models.
    #[must_use]
    pub const fn with_model_calls(mut self, calls: u32) -> Self {
        self.model_calls = Some(calls);
        self
    }

    /// The same with at most this many calls of tools and Sub-Agents.
    #[must_use]
    pub const fn with_tool_calls(mut self, calls: u32) -> Self {
        self.tool_calls = Some(calls);
        self
    }

    /// The same with at most this much active time.
    #[must_use]
    pub const fn with_time(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    /// The ceiling of one resource.
    #[must_use]
    pub fn of(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::Tokens => self.tokens.map(|tokens| tokens.0),
            Resource::MicroUsd => self.micro_usd.map(|micro_usd| micro_usd.0),
            Resource::ModelCalls => self.model_calls.map(u64::from),
            Resource::ToolCalls => self.tool_calls.map(u64::from),
        }
    }

    /// The first resource of which `total` is more than allowed.
    pub(super) fn exceeded_by(&self, total: &Spend) -> Option<Resource> {
        Resource::ALL.into_iter().find(|resource| self.of(*resource).is_some_and(|limit| resource.of(total) > limit))
    }
}

/// Something that a [`Limits`] bounds and a ledger counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Resource {
    /// Tokens read and written by models.
    Tokens,
    /// Cost in millionths of a US dollar.
    MicroUsd,
    /// Calls of models.
    ModelCalls,
    /// Calls of tools and Sub-Agents.
    ToolCalls,
}

impl Resource {
    pub(super) const ALL: [Self; 4] = [Self::Tokens, Self::MicroUsd, Self::ModelCalls, Self::ToolCalls];

    /// How much of this `spend` holds.
    #[must_use]
    pub fn of(self, spend: &Spend) -> u64 {
        match self {
            Self::Tokens => spend.tokens.0,
            Self::MicroUsd => spend.micro_usd.0,
            Self::ModelCalls => spend.model_calls.into(),
            Self::ToolCalls => spend.tool_calls.into(),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokens => "tokens",
            Self::MicroUsd => "micro-USD",
            Self::ModelCalls => "model calls",
            Self::ToolCalls => "tool calls",
        })
    }
}

/// A reservation that cannot fit, whatever else settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct Exceeded {
    /// What ran out.
    pub resource: Resource,
    /// The ceiling, in the resource's unit.
    pub limit: u64,
    /// What is spent of it.
    pub spent: u64,
    /// What was asked for.
    pub asked: u64,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, limit, spent, asked } = self;
        match asked {
            0 => write!(f, "more {resource} are spent than there are: {spent} of {limit}"),
            _ => write!(f, "{asked} more {resource} do not fit: {spent} of {limit} are spent"),
        }
    }
}

impl Exceeded {
    pub(super) fn new(resource: Resource, limits: &Limits, spent: &Spend, asked: &Spend) -> Self {
        Self {
            resource,
            limit: limits.of(resource).unwrap_or(u64::MAX),
            spent: resource.of(spent),
            asked: resource.of(asked),
        }
    }

    /// Always `budget.exceeded`.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::new("budget.exceeded")
    }

    /// Whether the same may succeed later: never.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        false
    }
}
