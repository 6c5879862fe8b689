//! How much of a target may be used.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How this process may use a target: a model with a credential. `None` is no limit.
///
/// A rate is kept by a bucket that refills all the time, up to a tenth of a minute's worth and at least one request or token. So
/// any minute sees at most a minute's worth and that. A call whose estimated tokens are more than the bucket holds goes ahead when
/// it is full; what is missing is a debt, which is paid off before the next call.
///
/// ```
/// use std::num::NonZeroU32;
/// use agent_router::StepLimits;
///
/// let limits = StepLimits::default().with_concurrency(NonZeroU32::MIN).with_queue(10);
/// assert_eq!(limits.requests_per_minute, None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StepLimits {
    /// Calls at once.
    pub concurrency: Option<NonZeroU32>,
    /// Calls that begin in a minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens read and written in a minute: estimated before a call, corrected after it.
    pub tokens_per_minute: Option<NonZeroU64>,
    /// How many calls may wait, of all tenants together; beyond that, one of each tenant. Default: 100.
    pub queue: u32,
    /// How long a call may wait, in milliseconds. Default: 1,000.
    pub longest_wait_ms: u64,
}

impl Default for StepLimits {
    fn default() -> Self {
        Self {
            concurrency: None,
            requests_per_minute: None,
            tokens_per_minute: None,
            queue: 100,
            longest_wait_ms: 1_000,
        }
    }
}

impl StepLimits {
    /// The same with at most this many calls at once.
    #[must_use]
    pub const fn with_concurrency(mut self, calls: NonZeroU32) -> Self {
        self.concurrency = Some(calls);
        self
    }

    /// The same with at most this many calls a minute.
    #[must_use]
    pub const fn with_requests_per_minute(mut self, requests: NonZeroU32) -> Self {
        self.requests_per_minute = Some(requests);
        self
    }

    /// The same with at most this many tokens a minute.
    #[must_use]
    pub const fn with_tokens_per_minute(mut self, tokens: NonZeroU64) -> Self {
        self.tokens_per_minute = Some(tokens);
        self
    }

    /// The same with at most this many calls waiting, and one of each tenant beyond that; none with 0.
    #[must_use]
    pub const fn with_queue(mut self, calls: u32) -> Self {
        self.queue = calls;
        self
    }

    /// The same with calls that wait at most this long, in whole milliseconds; not at all with less than one.
    #[must_use]
    pub fn with_longest_wait(mut self, wait: Duration) -> Self {
        self.longest_wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Whether nothing is limited, so that nobody ever waits.
    pub(crate) const fn are_none(&self) -> bool {
        self.concurrency.is_none() && self.requests_per_minute.is_none() && self.tokens_per_minute.is_none()
    }
}
