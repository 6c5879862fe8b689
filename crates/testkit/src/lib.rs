//! What tests of agents need: models that play a script, functions that record their calls, events that can be compared, a paused
//! clock, and one conformance suite for each port of `agent_core`.
//!
//! ```
//! use agent_core::{MainAgent, RunOutcome};
//! use serde_json::json;
//! use testkit::{Line, RecordingTool, ScriptedModel, caller, paused};
//!
//! let refund = RecordingTool::new("refund").returning(json!("done"));
//! let model = ScriptedModel::new([
//!     Line::call("refund", json!({"order": "A-1042"})),
//!     Line::text("Refunded.").expecting(|request| assert_eq!(request.conversation.entries().len(), 2)),
//! ]);
//! let desk = MainAgent::builder("desk", model.clone()).tool(refund.clone()).build()?;
//! let outcome = paused(async { desk.run("Refund A-1042", caller()).await })?;
//! assert_eq!(outcome.to_string(), "Refunded.");
//! assert_eq!(refund.inputs(), [json!({"order": "A-1042"})]);
//! model.assert_played();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
// A test that cannot go on panics: that is how it says so.
#![allow(clippy::expect_used, clippy::unwrap_used)]

pub mod conformance;
mod events;
mod hash_embedder;
mod line;
mod recording;
mod scripted_model;
mod upstream;

use agent_core::Caller;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use events::{Recorder, joined, story};
pub use hash_embedder::HashEmbedder;
pub use line::Line;
pub use recording::{RecordingAgent, RecordingTool, yield_once};
pub use scripted_model::{FnModel, ScriptedModel};
pub use upstream::{Answer, Completion, Fault, FaultUpstream, UpstreamRequest, faults};

/// Somebody who asks: `ann` of `acme`.
#[must_use]
pub fn caller() -> Caller {
    somebody("acme", "ann")
}

/// A caller of this tenant and name.
#[must_use]
pub fn somebody(tenant: &str, user: &str) -> Caller {
    Caller::new(tenant, user).expect("a valid caller")
}

/// The value as another process reads it: through JSON.
pub fn elsewhere<T: Serialize + DeserializeOwned>(value: &T) -> T {
    conformance::reread("the value", value)
}

/// Runs `test` on one thread with a paused clock: sleeping costs no time, and timeouts come in their exact order.
pub fn paused<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(test)
}
