//! Adjutant's adapter to model gateways: LiteLLM first of all, and every other server that speaks OpenAI's chat completions.
//!
//! ```
//! use agent_core::MainAgent;
//! use model_litellm::{Gateway, GatewayConfig};
//!
//! let gateway = Gateway::new(GatewayConfig::litellm("http://localhost:4000/v1").with_api_key("sk-1234"))?;
//! let desk = MainAgent::builder("desk", gateway.model("gpt-4o-mini")).build()?;
//! # Ok::<(), agent_core::InvalidValue>(())
//! ```
//!
//! - [`Gateway`] holds one pool of connections. [`GatewayModel`] and [`GatewayEmbedder`] are the ports of `agent_core`.
//! - One call is one request. LiteLLM is told not to repeat it and not to fall back, unless the host says that the
//!   [gateway owns retries](RetryOwner).
//! - Failures have the class of `agent_core::ModelErrorClass` that says what can be done, and words that anybody may read. What the
//!   server said is their `source`, an [`UpstreamError`].
//! - Keys are in no `Debug`, log, error or span, and go only to the configured base URL. Redirects are not followed; proxies in the
//!   environment are ignored.

mod catalogue;
mod clock;
mod config;
mod decode;
mod embedder;
mod failure;
mod gateway;
mod identity;
mod limits;
mod model;
mod opaque;
mod request;
mod settings;
mod streaming;
mod tls;

pub use config::{Dialect, GatewayConfig, Identification, RetryOwner};
pub use decode::StreamDecoder;
pub use embedder::GatewayEmbedder;
pub use failure::UpstreamError;
pub use gateway::Gateway;
pub use limits::{SizeLimits, Timeouts};
pub use model::GatewayModel;
pub use settings::{AnswerFormat, ModelSettings, OutputField, ReasoningReturn, Transport};
pub use tls::{ClientCertificate, Roots, TlsConfig};

/// The type of keys in configurations; texts become one by `into`.
pub use secrecy::SecretString;
