//! Adjutant: an embeddable SDK for enterprise agents.
//!
//! A business application adds this crate and gets a Main Agent with Sub-Agents, a budget for the whole tree of calls, approvals by
//! people, suspension and resumption, and one stream of events, as traits and types that it wires into its own services.
//!
//! ```
//! use adjutant::{CallError, Caller, MainAgent, RuleModel, sub_agent};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Order {
//!     #[schemars(regex(pattern = r"^[A-Z]-\d{4}$"))]
//!     order: String,
//! }
//!
//! async fn orders(input: Order) -> Result<String, CallError> {
//!     Ok(format!("{} was delivered on Monday.", input.order))
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let orders = sub_agent("orders", "Looks an order up", orders);
//!     let desk = MainAgent::builder("desk", RuleModel::new()).sub_agent(orders).build()?;
//!     let outcome = desk.run("Where is order A-1042?", Caller::new("acme", "ann")?).await?;
//!     assert_eq!(outcome.to_string(), "A-1042 was delivered on Monday. [orders]");
//!     Ok(())
//! }
//! ```
//!
//! The root holds what most hosts need. Everything else has its place in the crates below:
//!
//! - [`agent_core`]: domain types, the ports that a host or an adapter implements, and the run.
//! - [`agent_router`]: [`FallbackModel`], which is a plan of models, rules and people; [`RuleModel`], which answers without a model.
//! - `model_litellm`, with the feature `litellm`: models and embeddings over HTTP, by LiteLLM or any other OpenAI-compatible server.
//! - `embedder_minilm`, with the feature `minilm`: embeddings without a server, of all-MiniLM-L6-v2 in process.

pub use agent_core;
pub use agent_router;
#[cfg(feature = "minilm")]
pub use embedder_minilm;
#[cfg(feature = "litellm")]
pub use model_litellm;

pub use agent_core::{
    AnswerValue, CallError, Caller, Effect, Failure, Limits, MainAgent, MicroUsd, Report, Request, Resume, RunContext,
    RunOptions, RunOutcome, RunState, Tokens, sub_agent, tool, with,
};
pub use agent_router::{FallbackModel, RuleModel};

/// The README's examples, compiled and run as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The examples of the page on graphs.
#[cfg(doctest)]
#[doc = include_str!("../docs/graphs.md")]
struct Graphs;

/// The examples of the page on fallback.
#[cfg(doctest)]
#[doc = include_str!("../docs/fallback.md")]
struct Fallback;

/// The examples of the page on routing.
#[cfg(doctest)]
#[doc = include_str!("../docs/routing.md")]
struct Routing;

/// The examples of the page on models.
#[cfg(all(doctest, feature = "litellm", feature = "minilm"))]
#[doc = include_str!("../docs/models.md")]
struct Models;
