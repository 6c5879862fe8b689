//! Amounts that a run spends: integers only, in named units.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares an integer amount with saturating arithmetic.
macro_rules! amount {
    ($(#[$doc:meta])* $name:ident, $unit:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);

            /// The sum, at most `u64::MAX`.
            #[must_use]
            pub const fn plus(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// The difference, at least zero.
            #[must_use]
            pub const fn minus(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{} ", $unit), self.0)
            }
        }
    };
}

amount! {
    /// A number of tokens, as the model that reads or writes them counts.
    Tokens, "tokens"
}
amount! {
    /// Money in millionths of a US dollar.
    MicroUsd, "micro-USD"
}

/// The number of tokens that `bytes` of text probably are: a quarter, rounded up.
///
/// An estimate for admission, not a count: right within some 10 % for English, too low for JSON and for Chinese. A model's own
/// usage replaces it as soon as it is known.
#[must_use]
pub const fn estimate_tokens(bytes: usize) -> Tokens {
    Tokens((bytes as u64).div_ceil(4))
}

/// What a run, or one call of it, spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Spend {
    /// Tokens read and written by models.
    pub tokens: Tokens,
    /// Known cost. Calls without a known price add to [`unpriced_calls`](Self::unpriced_calls) instead.
    pub micro_usd: MicroUsd,
    /// Calls of models.
    pub model_calls: u32,
    /// Calls of tools and Sub-Agents.
    pub tool_calls: u32,
    /// Calls of models whose price is unknown: the true cost is `micro_usd` plus that of these.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unpriced_calls: u32,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Spend {
    /// Nothing.
    pub const ZERO: Self =
        Self { tokens: Tokens::ZERO, micro_usd: MicroUsd::ZERO, model_calls: 0, tool_calls: 0, unpriced_calls: 0 };

    /// This many tokens and nothing else.
    #[must_use]
    pub const fn of_tokens(tokens: Tokens) -> Self {
        Self { tokens, ..Self::ZERO }
    }

    /// One call of a tool or Sub-Agent.
    #[must_use]
    pub const fn tool_call() -> Self {
        Self { tool_calls: 1, ..Self::ZERO }
    }

    /// One call of a model that read and wrote `tokens`.
    #[must_use]
    pub const fn model_call(tokens: Tokens) -> Self {
        Self { tokens, model_calls: 1, ..Self::ZERO }
    }

    /// The same with this known cost.
    #[must_use]
    pub const fn with_micro_usd(mut self, micro_usd: MicroUsd) -> Self {
        self.micro_usd = micro_usd;
        self
    }

    /// The sum, each field on its own.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.plus(other.tokens),
            micro_usd: self.micro_usd.plus(other.micro_usd),
            model_calls: self.model_calls.saturating_add(other.model_calls),
            tool_calls: self.tool_calls.saturating_add(other.tool_calls),
            unpriced_calls: self.unpriced_calls.saturating_add(other.unpriced_calls),
        }
    }

    /// The difference, each field on its own and at least zero.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.minus(other.tokens),
            micro_usd: self.micro_usd.minus(other.micro_usd),
            model_calls: self.model_calls.saturating_sub(other.model_calls),
            tool_calls: self.tool_calls.saturating_sub(other.tool_calls),
            unpriced_calls: self.unpriced_calls.saturating_sub(other.unpriced_calls),
        }
    }
}
