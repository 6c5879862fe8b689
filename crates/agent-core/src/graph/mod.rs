//! Graphs: flows that a host draws himself, over a typed state.
//!
//! A [`Graph`] has nodes, which are async functions, graphs or agents, and ways between them. It runs in steps: all tasks of a step
//! see the same state, and what they wrote is taken in when all of them are done, in the order of nodes, each field by its reducer.
//! So a result never depends on which of them was faster. A node that has to wait says so by what it returns; its answer goes to a
//! function of its own, and nothing that has completed is run again.
//!
//! ```
//! use std::sync::Arc;
//! use agent_core::graph::{Branch, END, Goto, Graph, START, branch, node};
//! use agent_core::{AgentError, Caller, graph_state};
//!
//! graph_state! {
//!     #[derive(Debug, Default)]
//!     struct Texts updated by TextsUpdate {
//!         texts: Vec<String> => replace,
//!         lengths: Vec<usize> => append,
//!         longest: usize => replace,
//!     }
//! }
//!
//! const MEASURE: Branch<String> = Branch::new("measure");
//!
//! async fn measure(text: String) -> Result<TextsUpdate, AgentError> {
//!     Ok(TextsUpdate::default().lengths(vec![text.chars().count()]))
//! }
//!
//! async fn reduce(state: Arc<Texts>) -> Result<TextsUpdate, AgentError> {
//!     Ok(TextsUpdate::default().longest(state.lengths.iter().copied().max().unwrap_or_default()))
//! }
//!
//! let graph = Graph::builder("texts")
//!     .node(branch(MEASURE, measure))
//!     .node(node("reduce", reduce))
//!     .route(START, [MEASURE.name()], |state: &Texts| state.texts.iter().cloned().map(|text| MEASURE.with(text)).collect::<Goto>())
//!     .chain(["measure", "reduce", END])
//!     .build()?;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let texts = Texts { texts: vec!["one".into(), "three".into()], ..Texts::default() };
//! let report = graph.run(texts, Caller::new("acme", "ann")?).await?.into_report().unwrap();
//! assert_eq!((report.state.lengths, report.state.longest), (vec![3, 5], 5));
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builder;
mod call;
mod failure;
mod fields;
mod machine;
mod mermaid;
mod nested;
mod next;
mod node;
mod root;
mod run;
mod wire;

pub use builder::{Graph, GraphBuilder};
pub use call::{call, calls};
pub use failure::{GraphFailure, InvalidGraph};
#[doc(hidden)]
pub use fields::macros;
pub use fields::{Field, FieldSet, GraphState, Keyed, Sequence, Sum};
pub use nested::{GraphAgent, branch_graph, sub_graph};
pub use next::{Branch, BranchInput, BranchTask, END, Goto, IntoNext, Next, START};
pub use node::{
    AnswerFunction, Answered, Approved, BranchFunction, FromAnswer, Node, NodeFunction, agent, branch, node,
};
pub use root::{GraphFailed, GraphHandle, GraphOutcome, GraphReport};
