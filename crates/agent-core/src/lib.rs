//! The core of Adjutant: domain types, ports, budget, events, and the run of a Main Agent with Sub-Agents.
//!
//! - [`MainAgent`] is where a host starts: build one, `run` it, look at the [`RunOutcome`].
//! - [`tool()`] and [`sub_agent()`] make functions of typed async functions.
//! - Ports are traits that a host or an adapter implements: [`ChatModel`], [`Tool`], [`SubAgent`], [`Policy`], [`ContextPolicy`],
//!   [`Journal`], [`Observer`], [`Recovery`], [`DeadLetters`], [`Embedder`]. Each has its contract in its documentation and a conformance suite in
//!   the testkit.
//! - [`RunContext`] goes to every port call: who asks, where in the run, and what is left of time and budget.
//!
//! A run needs a tokio runtime with time enabled.

mod agent_error;
mod amount;
mod budget;
mod caller;
mod clock;
mod conversation;
mod dead_letters;
mod embedder;
mod error;
mod event;
mod fit;
mod function;
pub mod graph;
mod id;
mod identity;
mod journal;
mod main_agent;
mod mermaid;
mod message;
mod model;
mod observer;
mod path;
mod pending;
mod policy;
mod provenance;
mod recovery;
mod route;
mod run_context;
mod run_state;
mod schema;
mod size;
mod sub_agent;
mod telemetry;
mod tool;
mod wire;

/// For implementations of ports: [`ChatModel`] and most others are async traits.
pub use async_trait::async_trait;

pub use agent_error::{AgentError, StateError};
pub use amount::{MicroUsd, Spend, Tokens, estimate_tokens};
pub use budget::{CarveOut, Exceeded, Lease, Limits, Reservation, Resource, SavedLease};
pub use caller::Caller;
pub use conversation::{Conversation, Entry, OpenTurn, Replied, SettleError, Turn};
pub use dead_letters::{
    Claim, ClaimEnd, ClaimToken, DeadLetter, DeadLetterError, DeadLetters, FileDeadLetters, LetterStatus,
    LetterSummary, MemoryDeadLetters, Purge,
};
pub use embedder::{Embedder, Embeddings, embed};
pub use error::{BoxError, ErrorCode, InvalidValue};
pub use event::{
    DeltaPart, Ending, Event, EventKind, EventStream, ModelFailed, ModelFinished, Origin, Payload, RequestRouted,
    ResultStatus, Verdict,
};
pub use fit::{ContextError, ContextPolicy, FitRequest, Fitted, PassThrough};
pub use function::{
    Approval, Effect, FnSubAgent, FnTool, Function, FunctionSpec, IntoOutput, Stateful, sub_agent, tool, with,
};
pub use id::{AgentVersion, FunctionName, Role, RunId, TaskId, TenantId, UserId};
pub use identity::{Identity, Profile, TraceId};
pub use journal::{Begun, Journal, JournalError, MemoryJournal};
pub use main_agent::{
    Bounds, Failure, Flow, MainAgent, MainAgentBuilder, ReplayError, Report, Request, Resume, RunHandle, RunOptions,
    RunOutcome, Stage, Step, StepView, Suspended, Toolbox,
};
pub use message::{
    Arguments, Attachment, AttachmentSource, Call, CallFailure, CallResult, FinishReason, Opaque, Reasoning, Reply,
    ReplyPart, Usage, UserMessage, UserPart,
};
pub use model::{
    Attempt, Attempts, Capabilities, ChatModel, ChatRequest, Chunk, Collector, Finish, FunctionChoice, Metering,
    ModelError, ModelErrorClass, ModelInfo, ModelOptions, ModelStream, Price, ReasoningEffort, Restarts, collect,
    complete,
};
pub use observer::Observer;
pub use path::{CallKey, CallPath, CallPosition, Fingerprint};
pub use pending::{Answer, AnswerValue, Pending, PendingId, PendingKind};
pub use policy::{Action, Decision, HintPolicy, Policy};
pub use provenance::{AttemptEnd, Attempted, Level, Provenance};
pub use recovery::{NoRecovery, Recovered, Recovery};
pub use route::{
    RouteCandidate, RouteDecision, RouteOutcome, RouteRequest, RouteStage, RouteThresholds, Routed, Router, StageTrace,
};
pub use run_context::RunContext;
pub use run_state::{ResumeError, RunState, SealError, SealKey};
pub use schema::{Schema, SchemaViolation};
pub use sub_agent::{AgentCard, AgentState, Begin, Dispatch, Outcome, SubAgent, Suspension};
pub use tool::{CallError, Tool, ToolOutput};
