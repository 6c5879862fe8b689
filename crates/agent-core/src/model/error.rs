//! How models fail.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::amount::{MicroUsd, Spend, Tokens};
use crate::error::{BoxError, ErrorCode};
use crate::message::Usage;
use crate::model::Price;

/// A model gave no complete answer.
///
/// `Display` holds nothing that a user may not read: no upstream's words, address or key. Those stay in `source`.
#[derive(Debug, thiserror::Error)]
#[error("the model gave no answer: {message}")]
#[non_exhaustive]
pub struct ModelError {
    /// What kind of failure, which decides what can be done.
    pub class: ModelErrorClass,
    /// What may be said about it.
    pub message: Cow<'static, str>,
    /// How long the provider asks to wait.
    pub retry_after: Option<Duration>,
    /// What was used before it failed, where that is known.
    pub usage: Option<Usage>,
    /// What the provider charged for that, where it says so.
    pub cost: Option<MicroUsd>,
    /// What lies under it.
    pub source: Option<BoxError>,
}

/// The kinds of failure of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ModelErrorClass {
    /// Too many requests for now.
    RateLimited,
    /// The account's quota is used up.
    QuotaExhausted,
    /// The credential is wrong.
    Auth,
    /// The credential does not allow this.
    Permission,
    /// The provider is overloaded.
    Overloaded,
    /// The provider fails.
    Unavailable,
    /// Nobody answers at its address: no such host, nobody listens there, no connection in time. Nothing was sent.
    Unreachable,
    /// Its certificate does not fit, or no TLS could be agreed on. Nothing was sent.
    Untrusted,
    /// It points to another address, where nothing is sent.
    Redirected,
    /// Nothing came within the time for a first token.
    FirstTokenTimeout,
    /// Nothing more came within the time between tokens.
    Stalled,
    /// The answer was not complete within the time for all of it.
    TimedOut,
    /// The conversation is longer than the model's window.
    ContextOverflow,
    /// A content policy stopped the answer.
    ContentPolicy,
    /// The provider understands the request and refuses it as wrong.
    BadRequest,
    /// The provider has no such model, or no models at this address.
    NotFound,
    /// What came is no answer in the protocol.
    Malformed,
    /// What came is larger than an answer may be.
    TooLarge,
    /// The answer is complete and empty.
    Empty,
    /// The stream ended in the middle of the answer.
    Cut,
    /// The model's own code panicked.
    Panicked,
    /// Only a person can go on.
    NeedsHuman,
    /// The attempts for this turn are used up.
    AttemptsExhausted,
    /// There is no known price, and the run has a ceiling on cost.
    Unpriced,
    /// A ceiling of the budget leaves no room for it. `source` is the [`Exceeded`](crate::Exceeded).
    BudgetExceeded,
    /// None of the models that could be asked may be asked now: they are cooling off, or busy.
    NotNow,
    /// The run must stop: it was cancelled, or its time is over.
    Stopped,
}

impl ModelErrorClass {
    /// The class's stable code.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        ErrorCode::new(match self {
            Self::RateLimited => "model.rate_limited",
            Self::QuotaExhausted => "model.quota_exhausted",
            Self::Auth => "model.auth",
            Self::Permission => "model.permission",
            Self::Overloaded => "model.overloaded",
            Self::Unavailable => "model.unavailable",
            Self::Unreachable => "model.unreachable",
            Self::Untrusted => "model.untrusted",
            Self::Redirected => "model.redirected",
            Self::FirstTokenTimeout => "model.first_token_timeout",
            Self::Stalled => "model.stalled",
            Self::TimedOut => "model.timed_out",
            Self::ContextOverflow => "model.context_overflow",
            Self::ContentPolicy => "model.content_policy",
            Self::BadRequest => "model.bad_request",
            Self::NotFound => "model.not_found",
            Self::Malformed => "model.malformed",
            Self::TooLarge => "model.too_large",
            Self::Empty => "model.empty",
            Self::Cut => "model.cut",
            Self::Panicked => "model.panicked",
            Self::NeedsHuman => "model.needs_human",
            Self::AttemptsExhausted => "model.attempts_exhausted",
            Self::Unpriced => "model.unpriced",
            Self::BudgetExceeded => "budget.exceeded",
            Self::NotNow => "model.not_now",
            Self::Stopped => "model.stopped",
        })
    }

    /// Whether the provider was not reached, refused or failed, for which nobody charges unless it says so.
    pub(crate) const fn is_without_work(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::QuotaExhausted
                | Self::Auth
                | Self::Permission
                | Self::Overloaded
                | Self::Unavailable
                | Self::Unreachable
                | Self::Untrusted
                | Self::Redirected
                | Self::ContextOverflow
                | Self::ContentPolicy
                | Self::BadRequest
                | Self::NotFound
        )
    }

    /// Whether the same request to the same model may succeed later.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::Overloaded
                | Self::Unavailable
                | Self::Unreachable
                | Self::FirstTokenTimeout
                | Self::Stalled
                | Self::TimedOut
                | Self::Malformed
                | Self::Empty
                | Self::Cut
                | Self::NotNow
        )
    }
}

impl ModelError {
    /// A failure of this class with words that a user may read.
    pub fn new(class: ModelErrorClass, message: impl Into<Cow<'static, str>>) -> Self {
        Self { class, message: message.into(), retry_after: None, usage: None, cost: None, source: None }
    }

    /// The same with the time that the provider asks to wait.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same with what was used before it failed.
    #[must_use]
    pub fn with_usage(mut self, usage: Usage) -> Self {
        self.usage = Some(usage);
        self
    }

    /// The same with what the provider charged for it.
    #[must_use]
    pub fn with_cost(mut self, cost: MicroUsd) -> Self {
        self.cost = Some(cost);
        self
    }

    /// The same with what lies under it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The failure of an answer of which something was read already, and which may not begin anew: one for which the same would be asked
    /// again, shortened or not, is a cut.
    #[must_use]
    pub fn after_a_beginning(self) -> Self {
        use ModelErrorClass::{ContextOverflow, Cut, Empty, Malformed};
        if !matches!(self.class, ContextOverflow | Malformed | Empty) {
            return self;
        }
        let message = "the answer failed after its beginning was read";
        Self { usage: self.usage, cost: self.cost, ..Self::new(Cut, message) }.with_source(self)
    }

    /// The stable code of its class.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.class.code()
    }

    /// What the failed call spends: what the provider says was used, else `estimate`, unless it did no work.
    pub(crate) fn spend(&self, price: Option<Price>, estimate: &Usage) -> Spend {
        let spend = match &self.usage {
            Some(usage) => Price::spend(price, usage),
            None if self.class.is_without_work() => return Spend::model_call(Tokens::ZERO),
            None => Price::spend(price, estimate),
        };
        match self.cost {
            Some(cost) => Spend::model_call(spend.tokens).with_micro_usd(cost),
            None => spend,
        }
    }

    /// Whether the same request to the same model may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        self.class.retryable()
    }
}
