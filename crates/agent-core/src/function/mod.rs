//! What a model can call: the description that tools and Sub-Agents share, and how an async function becomes one.

mod adapt;
mod spec;
mod sub_agent_fn;
mod tool_fn;

pub use adapt::{Function, IntoOutput, Stateful, with};
pub use spec::{Approval, Effect, FunctionSpec};
pub use sub_agent_fn::{FnSubAgent, sub_agent};
pub use tool_fn::{FnTool, tool};
