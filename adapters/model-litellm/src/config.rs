//! Where a gateway is, and how it is talked to.

use std::collections::BTreeMap;
use std::fmt;

use agent_core::Price;
use reqwest::header::HeaderName;
use secrecy::SecretString;
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::limits::{SizeLimits, Timeouts};
use crate::tls::TlsConfig;

/// Where a gateway is, and how it is talked to. Hosts write it in code, or load it as they load their other configuration.
///
/// Keys and passwords are in [`SecretString`]s: they are in no `Debug`, and go to nobody but the server at `base_url`.
///
/// ```
/// use model_litellm::{Dialect, GatewayConfig};
///
/// let config = GatewayConfig::litellm("http://localhost:4000/v1").with_api_key("sk-1234");
/// assert!(!format!("{config:?}").contains("sk-1234"));
///
/// let loaded: GatewayConfig = serde_json::from_str(r#"{"base_url": "http://gpu:8000/v1", "dialect": "compatible"}"#)?;
/// assert_eq!(loaded.dialect, Dialect::Compatible);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct GatewayConfig {
    /// The URL to which `/chat/completions` is added; with most servers it ends in `/v1`.
    pub base_url: String,
    /// What kind of server this is.
    #[serde(default)]
    pub dialect: Dialect,
    /// The key, sent as a bearer token.
    #[serde(default)]
    pub api_key: Option<SecretString>,
    /// Further headers of every request, such as `api-key` for Azure. All are treated as secrets.
    #[serde(default, deserialize_with = "hidden")]
    pub headers: BTreeMap<String, SecretString>,
    /// Who repeats failed requests.
    #[serde(default)]
    pub retries: RetryOwner,
    /// What the server is told about who asks.
    #[serde(default)]
    pub identification: Identification,
    /// How long things may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How large answers may be.
    #[serde(default)]
    pub sizes: SizeLimits,
    /// The URL of a proxy for all requests. Proxies in the environment are ignored.
    #[serde(default)]
    pub proxy: Option<SecretString>,
    /// Which certificates are trusted, and which one is shown.
    #[serde(default)]
    pub tls: TlsConfig,
    /// What models cost, by the names under which they are asked for. What the server says an answer cost goes before this; what it
    /// says about prices does not.
    #[serde(default)]
    pub prices: BTreeMap<String, Price>,
}

/// What kind of server is talked to. All of them speak chat completions; they differ in what else they understand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Dialect {
    /// A LiteLLM proxy: takes identities, and settings of its own retries and timeouts, and says what a call costs.
    #[default]
    #[serde(rename = "litellm")]
    LiteLlm,
    /// OpenAI's own API, or Azure's: maximum output is `max_completion_tokens`.
    #[serde(rename = "openai")]
    OpenAi,
    /// Any other: vLLM, Ollama, llama.cpp, LM Studio, a provider's compatible endpoint. It is sent the least.
    Compatible,
}

/// Who repeats requests that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RetryOwner {
    /// The caller: LiteLLM is told to repeat nothing and to fall back to nothing, so that an attempt is one attempt.
    #[default]
    Caller,
    /// The gateway, as its own configuration says. Callers then see one attempt for several.
    Gateway,
}

/// What the server is told about who asks. A trace id, in a `traceparent` header, is sent in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Identification {
    /// To LiteLLM, which keeps it to itself: tenant, user, task, run and agents. To any other server: nothing.
    #[default]
    Gateway,
    /// Nothing.
    Nobody,
}

impl fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A password does not belong there, and is refused; until then it is not shown.
        let base_url = if self.base_url.contains(['@', '?']) { "(not shown)" } else { &self.base_url };
        // What is no name may be a name and its value.
        let is_name = |name: &&String| HeaderName::try_from(name.as_str()).is_ok();
        let names: Vec<&String> = self.headers.keys().filter(is_name).collect();
        f.debug_struct("GatewayConfig")
            .field("base_url", &base_url)
            .field("dialect", &self.dialect)
            .field("api_key", &self.api_key)
            .field("headers", &names)
            .field("retries", &self.retries)
            .field("identification", &self.identification)
            .field("timeouts", &self.timeouts)
            .field("sizes", &self.sizes)
            .field("proxy", &self.proxy)
            .field("tls", &self.tls)
            .field("prices", &self.prices)
            .finish()
    }
}

/// Reads a value of which an error shows nothing.
pub(crate) fn hidden<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Known<T> {
        Right(T),
        Wrong(IgnoredAny),
    }
    match Known::deserialize(deserializer)? {
        Known::Right(value) => Ok(value),
        Known::Wrong(_) => Err(D::Error::custom("a value of another form was expected; it is not shown")),
    }
}

impl Dialect {
    /// Who serves the models, as OpenTelemetry's `gen_ai.provider.name` has it.
    pub(crate) const fn provider(self) -> &'static str {
        match self {
            Self::LiteLlm => "litellm",
            Self::OpenAi => "openai",
            Self::Compatible => "openai_compatible",
        }
    }
}

impl GatewayConfig {
    /// A LiteLLM proxy at `base_url`.
    pub fn litellm(base_url: impl Into<String>) -> Self {
        Self::new(base_url, Dialect::LiteLlm)
    }

    /// OpenAI's API at `base_url`, which is `https://api.openai.com/v1` for OpenAI's own.
    pub fn openai(base_url: impl Into<String>) -> Self {
        Self::new(base_url, Dialect::OpenAi)
    }

    /// Another OpenAI-compatible server at `base_url`.
    pub fn compatible(base_url: impl Into<String>) -> Self {
        Self::new(base_url, Dialect::Compatible)
    }

    fn new(base_url: impl Into<String>, dialect: Dialect) -> Self {
        Self {
            base_url: base_url.into(),
            dialect,
            api_key: None,
            headers: BTreeMap::new(),
            retries: RetryOwner::default(),
            identification: Identification::default(),
            timeouts: Timeouts::default(),
            sizes: SizeLimits::default(),
            proxy: None,
            tls: TlsConfig::default(),
            prices: BTreeMap::new(),
        }
    }

    /// The same with a key.
    #[must_use]
    pub fn with_api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// The same with another owner of retries.
    #[must_use]
    pub fn with_retries(mut self, owner: RetryOwner) -> Self {
        self.retries = owner;
        self
    }

    /// The same, telling the server this about who asks.
    #[must_use]
    pub fn with_identification(mut self, identification: Identification) -> Self {
        self.identification = identification;
        self
    }

    /// The same with these timeouts.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// The same with these limits on sizes.
    #[must_use]
    pub fn with_sizes(mut self, sizes: SizeLimits) -> Self {
        self.sizes = sizes;
        self
    }

    /// The same through a proxy.
    #[must_use]
    pub fn with_proxy(mut self, url: impl Into<SecretString>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// The same with these settings of TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsConfig) -> Self {
        self.tls = tls;
        self
    }

    /// The same with the price of a model.
    #[must_use]
    pub fn with_price(mut self, model: impl Into<String>, price: Price) -> Self {
        self.prices.insert(model.into(), price);
        self
    }
}
