//! How long things may take, and how large they may be.

use std::num::NonZeroUsize;
use std::time::Duration;

use agent_core::InvalidValue;
use serde::{Deserialize, Deserializer};

/// How long things may take. Whatever these say, nothing goes on after the run's deadline.
///
/// As configuration, each is a number of milliseconds: `{"connect_ms": 2000}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Timeouts {
    /// Until a connection stands, TLS included. Default: 10 seconds.
    #[serde(rename = "connect_ms", deserialize_with = "milliseconds")]
    pub connect: Duration,
    /// From sending a request to the first piece of its answer that says something. Models that reason without showing it need
    /// long. Does not hold for answers that come whole. Default: 2 minutes.
    #[serde(rename = "first_token_ms", deserialize_with = "milliseconds")]
    pub first_token: Duration,
    /// From one piece of an answer to the next. Default: 1 minute.
    #[serde(rename = "between_tokens_ms", deserialize_with = "milliseconds")]
    pub between_tokens: Duration,
    /// From the reason why the model stopped to the end of the stream, which may bring the usage. An answer is complete without it:
    /// this is how long it is waited for. Default: 2 seconds.
    #[serde(rename = "after_finish_ms", deserialize_with = "milliseconds")]
    pub after_finish: Duration,
    /// For everything. Default: 10 minutes.
    #[serde(rename = "total_ms", deserialize_with = "milliseconds")]
    pub total: Duration,
}

/// How large things may be that a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SizeLimits {
    /// Bytes of a whole answer, after decompression. A stream takes some 250 bytes for a token. Default: 64 MiB. What an answer says is
    /// bounded beside this: a run takes replies of 16 MiB, as [`agent_core::Collector`] does.
    pub response: NonZeroUsize,
    /// Bytes of one event of a stream. Default: 16 MiB, for pictures that models make.
    pub event: NonZeroUsize,
}

const MIB: usize = 1 << 20;

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_token: Duration::from_secs(120),
            between_tokens: Duration::from_secs(60),
            after_finish: Duration::from_secs(2),
            total: Duration::from_secs(600),
        }
    }
}

impl Default for SizeLimits {
    fn default() -> Self {
        let mib = |count: usize| NonZeroUsize::MIN.saturating_add(count * MIB - 1);
        Self { response: mib(64), event: mib(16) }
    }
}

impl Timeouts {
    /// # Errors
    ///
    /// [`InvalidValue`] for a time within which nothing could happen.
    pub(crate) fn ensure_valid(&self) -> Result<(), InvalidValue> {
        let times = [
            ("timeouts.connect", self.connect),
            ("timeouts.first_token", self.first_token),
            ("timeouts.between_tokens", self.between_tokens),
            ("timeouts.total", self.total),
        ];
        match times.iter().find(|(_, time)| time.is_zero()) {
            Some((field, _)) => Err(InvalidValue::new(*field, "0", "a time in which something can happen")),
            None => Ok(()),
        }
    }

    /// The same with another time for connecting.
    #[must_use]
    pub const fn with_connect(mut self, time: Duration) -> Self {
        self.connect = time;
        self
    }

    /// The same with another time to the first token.
    #[must_use]
    pub const fn with_first_token(mut self, time: Duration) -> Self {
        self.first_token = time;
        self
    }

    /// The same with another time between tokens.
    #[must_use]
    pub const fn with_between_tokens(mut self, time: Duration) -> Self {
        self.between_tokens = time;
        self
    }

    /// The same with another time after the finish.
    #[must_use]
    pub const fn with_after_finish(mut self, time: Duration) -> Self {
        self.after_finish = time;
        self
    }

    /// The same with another time for everything.
    #[must_use]
    pub const fn with_total(mut self, time: Duration) -> Self {
        self.total = time;
        self
    }
}

impl SizeLimits {
    /// The same with another limit on whole answers.
    #[must_use]
    pub const fn with_response(mut self, bytes: NonZeroUsize) -> Self {
        self.response = bytes;
        self
    }

    /// The same with another limit on events.
    #[must_use]
    pub const fn with_event(mut self, bytes: NonZeroUsize) -> Self {
        self.event = bytes;
        self
    }
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}
