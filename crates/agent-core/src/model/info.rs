//! What is known about a model before it is called.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::amount::{MicroUsd, Spend, Tokens};
use crate::message::Usage;
use crate::provenance::Level;

/// What is known about a model. Unknown is unknown: an absent window is not infinite, an absent price is not zero.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelInfo {
    /// Who serves it, as OpenTelemetry's `gen_ai.provider.name` has it: `openai`, `litellm`, `adjutant`.
    pub provider: Arc<str>,
    /// The name by which it is asked for.
    pub name: Arc<str>,
    /// How many tokens it can hold, input and output together.
    pub context_window: Option<Tokens>,
    /// How many tokens it can write in one answer.
    pub max_output: Option<Tokens>,
    /// What its tokens cost.
    pub price: Option<Price>,
    /// What it can do beside text.
    pub capabilities: Capabilities,
    /// Whether this is a model in the usual sense, or rules that speak its protocol.
    pub level: Level,
    /// Who meters what it is asked.
    pub metering: Metering,
}

/// Who reserves budget for a model's calls, settles them, and tells of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Metering {
    /// Whoever asks it: [`complete`](crate::complete) does.
    #[default]
    Caller,
    /// The model itself, which is made of others: each time that it asks one is an [`Attempt`](crate::Attempt). A model that wraps
    /// such a one says so as well, by handing on its [`ModelInfo`] or by [`ModelInfo::with_metering`]: otherwise each call of it is
    /// charged and told twice.
    Own,
}

/// What a model can do beside reading and writing text. `None` is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Capabilities {
    /// Call functions.
    pub functions: Option<bool>,
    /// Make several calls in one answer.
    pub parallel_calls: Option<bool>,
    /// Keep to the schema of a final answer.
    pub answer_schema: Option<bool>,
    /// Read pictures.
    pub images: Option<bool>,
    /// Reason before it answers.
    pub reasoning: Option<bool>,
}

/// What tokens cost, in micro-USD for a million tokens: the figure of a price list, which quotes dollars a million.
///
/// As configuration: `{"input": 150000, "output": 600000}`, with `cached_input` where cached tokens cost something else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PriceFields")]
#[non_exhaustive]
pub struct Price {
    /// Tokens read.
    pub input: MicroUsd,
    /// Tokens written.
    pub output: MicroUsd,
    /// Tokens read from the provider's cache.
    pub cached_input: MicroUsd,
}

/// A [`Price`] as it is written down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceFields {
    input: MicroUsd,
    output: MicroUsd,
    cached_input: Option<MicroUsd>,
}

impl From<PriceFields> for Price {
    fn from(fields: PriceFields) -> Self {
        let price = Self::per_million(fields.input, fields.output);
        fields.cached_input.map_or(price, |cached| price.with_cached_input(cached))
    }
}

impl ModelInfo {
    /// A model of which nothing but its name is known.
    pub fn new(provider: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            provider: provider.into(),
            name: name.into(),
            context_window: None,
            max_output: None,
            price: None,
            capabilities: Capabilities::default(),
            level: Level::Model,
            metering: Metering::Caller,
        }
    }

    /// The same with a known window.
    #[must_use]
    pub fn with_context_window(mut self, tokens: Tokens) -> Self {
        self.context_window = Some(tokens);
        self
    }

    /// The same with a known maximum output.
    #[must_use]
    pub fn with_max_output(mut self, tokens: Tokens) -> Self {
        self.max_output = Some(tokens);
        self
    }

    /// The same with a known price.
    #[must_use]
    pub fn with_price(mut self, price: Price) -> Self {
        self.price = Some(price);
        self
    }

    /// The same with known capabilities.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// The same at another level of fallback.
    #[must_use]
    pub fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// The same, as a model that meters its attempts itself.
    #[must_use]
    pub fn with_metering(mut self, metering: Metering) -> Self {
        self.metering = metering;
        self
    }

    /// What one call with this usage spends. Without a known price it counts as unpriced.
    #[must_use]
    pub fn spend(&self, usage: &Usage) -> Spend {
        Price::spend(self.price, usage)
    }
}

impl Price {
    /// Nothing: for models that run in process.
    pub const FREE: Self = Self { input: MicroUsd(0), output: MicroUsd(0), cached_input: MicroUsd(0) };

    /// Prices of a million tokens read and written. Cached tokens cost as much as read ones.
    #[must_use]
    pub const fn per_million(input: MicroUsd, output: MicroUsd) -> Self {
        Self { input, output, cached_input: input }
    }

    /// The same with another price of tokens read from the provider's cache.
    #[must_use]
    pub const fn with_cached_input(mut self, cached_input: MicroUsd) -> Self {
        self.cached_input = cached_input;
        self
    }

    /// What one call with this usage spends, at this price where there is one.
    pub(crate) fn spend(price: Option<Self>, usage: &Usage) -> Spend {
        let spend = Spend::model_call(usage.total());
        match price {
            Some(price) => spend.with_micro_usd(price.of(usage)),
            None => Spend { unpriced_calls: 1, ..spend },
        }
    }

    /// The cost of this usage, rounded up.
    #[must_use]
    pub fn of(&self, usage: &Usage) -> MicroUsd {
        let cached = usage.cached_input.0.min(usage.input.0);
        let millionths = u128::from(usage.input.0 - cached) * u128::from(self.input.0)
            + u128::from(cached) * u128::from(self.cached_input.0)
            + u128::from(usage.output.0) * u128::from(self.output.0);
        MicroUsd(u64::try_from(millionths.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}
