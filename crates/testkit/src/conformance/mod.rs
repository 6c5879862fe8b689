//! One suite for each port: what every implementation has to do, whatever else it does. Each panics with what is wrong.
//!
//! A suite is one line in an implementation's tests. It checks the contract in the port's documentation, as far as that can be
//! seen from outside, and nothing beyond it. Its own documentation lists the rules.
//!
//! ```
//! use agent_core::MemoryJournal;
//! use testkit::conformance;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! conformance::journal(async || MemoryJournal::new()).await;
//! # });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Suites need a tokio runtime with time enabled. What they call at once is called in parallel on a runtime with several threads.
//! Work that does not end is given up after a minute of the runtime's clock, which costs no time when that clock is paused.

mod answers;
mod chat_model;
mod context_policy;
mod conversations;
mod dead_letters;
mod embedder;
mod host;
mod journal;
mod observer;
mod policy;
mod recovery;
mod router;
mod sub_agent;
mod support;
mod tool;

pub use chat_model::chat_model;
pub use context_policy::context_policy;
pub use dead_letters::{dead_letters, durable_dead_letters};
pub use embedder::embedder;
pub use journal::{durable_journal, journal};
pub use observer::observer;
pub use policy::policy;
pub use recovery::recovery;
pub use router::router;
pub use sub_agent::{sub_agent, sub_agent_from};
pub(crate) use support::reread;
pub use tool::tool;
