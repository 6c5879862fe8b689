//! Tools as nodes.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::fields::GraphState;
use super::next::{Branch, Input, IntoNext, Next};
use super::node::{Done, LoadInput, Node, On, Work, WorkKind, load};
use crate::agent_error::AgentError;
use crate::caller::Caller;
use crate::error::InvalidValue;
use crate::main_agent::{Called, Toolbox};
use crate::message::{Call, CallFailure, CallResult};
use crate::pending::{Answer, Pending};
use crate::run_context::RunContext;
use crate::sub_agent::Suspension;
use crate::tool::Tool;

/// A node that calls a tool: `into` makes its arguments of the state, `back` what the node writes of its result.
///
/// The call goes through all that a model's call does: the tool's schema, the run's policy, a person where that says so, the journal,
/// and the tool's time. `back` is also given a call that failed, or was denied: what it returns for that decides whether the node
/// fails.
///
/// ```
/// use std::sync::Arc;
/// use agent_core::graph::{END, Graph, START, call};
/// use agent_core::{AgentError, CallError, CallFailure, Caller, graph_state, tool};
///
/// graph_state! {
///     #[derive(Debug, Default)]
///     struct Lookup updated by LookupUpdate {
///         order: String => replace,
///         place: Option<String> => replace,
///     }
/// }
///
/// #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// struct Order {
///     order: String,
/// }
///
/// async fn locate(input: Order) -> Result<String, CallError> {
///     if input.order == "A-1042" { Ok("Hamburg".to_owned()) } else { Err(CallError::tell("no such order")) }
/// }
///
/// let known = |place: Result<String, CallFailure>| Ok::<_, AgentError>(LookupUpdate::default().place(place.ok()));
/// let graph = Graph::builder("lookup")
///     .node(call("locate", tool("locate", "Where an order is", locate), |state: &Lookup| Order { order: state.order.clone() }, known))
///     .chain([START, "locate", END])
///     .build()?;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let asked = Lookup { order: "A-1042".to_owned(), ..Lookup::default() };
/// let report = graph.run(asked, Caller::new("acme", "ann")?).await?.into_report().unwrap();
/// assert_eq!(report.state.place.as_deref(), Some("Hamburg"));
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn call<S: GraphState, In: Serialize, Out: DeserializeOwned + 'static, N: IntoNext<S>>(
    name: impl Into<Arc<str>>,
    tool: impl Tool + 'static,
    into: impl Fn(&S) -> In + Send + Sync + 'static,
    back: impl Fn(Result<Out, CallFailure>) -> Result<N, AgentError> + Send + Sync + 'static,
) -> Node<S> {
    let function = tool.spec().name.clone();
    let begin = move |on: On<'_, S>| {
        let arguments: Value = serde_json::to_value(into(&on.state)).map_err(AgentError::internal)?;
        Ok((0, Call::new(function.clone(), arguments)))
    };
    let back = move |_, result: CallResult| {
        let result = match result {
            CallResult::Done(value) => {
                Ok(serde_json::from_value(Arc::unwrap_or_clone(value)).map_err(AgentError::internal)?)
            }
            CallResult::Failed(failure) => Err(Arc::unwrap_or_clone(failure)),
        };
        back(result).map(IntoNext::into_next)
    };
    Node::new(name, Calling { toolbox: Toolbox::new().tool(tool), begin, back, load: None })
}

/// A node that makes the calls that a model asks for, each a task of `branch`: `back` makes what it writes of the place of the call in
/// its turn, and its result. What fails is a result too, for the model.
///
/// Each call goes through all that a Main Agent's call does: see [`call`].
///
/// ```
/// use std::collections::BTreeMap;
/// use agent_core::graph::{Branch, BranchTask, calls};
/// use agent_core::{Call, CallResult, Reply, Toolbox, graph_state};
///
/// graph_state! {
///     #[derive(Debug, Default)]
///     struct Loop updated by LoopUpdate {
///         results: BTreeMap<u32, CallResult> => merge,
///     }
/// }
///
/// /// A call with its place in the turn.
/// const CALLS: Branch<(u32, Call)> = Branch::new("calls");
///
/// fn tasks(reply: &Reply) -> Vec<BranchTask> {
///     (0..).zip(reply.each_call().cloned()).map(|call| CALLS.with(call)).collect()
/// }
///
/// let settled = |place, result| LoopUpdate::default().results(BTreeMap::from([(place, result)]));
/// let node = calls::<Loop, _>(CALLS, Toolbox::new(), settled);
/// # let _ = (node, tasks);
/// ```
pub fn calls<S: GraphState, N: IntoNext<S>>(
    branch: Branch<(u32, Call)>,
    toolbox: Toolbox,
    back: impl Fn(u32, CallResult) -> N + Send + Sync + 'static,
) -> Node<S> {
    let begin = move |on: On<'_, S>| Ok(on.branch_input::<(u32, Call)>()?.clone());
    let back = move |place, result| Ok(back(place, result).into_next());
    Node::new(branch.name(), Calling { toolbox, begin, back, load: Some(load::<(u32, Call)>) })
}

struct Calling<I, B> {
    toolbox: Toolbox,
    begin: I,
    back: B,
    /// For a branch: reads a saved input.
    load: Option<LoadInput>,
}

impl<I, B> Calling<I, B> {
    fn came<S: GraphState>(&self, called: Called) -> Result<Done<S>, AgentError>
    where
        B: Fn(u32, CallResult) -> Result<Next<S>, AgentError>,
    {
        Ok(match called {
            Called::Done(place, result) => Done::Next((self.back)(place, result)?),
            Called::Suspended(suspension) => Done::Suspended(suspension),
        })
    }
}

impl<S, I, B> Work<S> for Calling<I, B>
where
    S: GraphState,
    I: Fn(On<'_, S>) -> Result<(u32, Call), AgentError> + Send + Sync,
    B: Fn(u32, CallResult) -> Result<Next<S>, AgentError> + Send + Sync,
{
    fn begin<'a>(&'a self, on: On<'a, S>, cx: &'a RunContext) -> BoxFuture<'a, Result<Done<S>, AgentError>> {
        Box::pin(async move {
            let (place, call) = (self.begin)(on)?;
            self.came(self.toolbox.start(place, call, cx).await?)
        })
    }

    fn resume<'a>(
        &'a self,
        suspended: Suspension,
        answers: Vec<Answer>,
        cx: &'a RunContext,
    ) -> BoxFuture<'a, Result<Done<S>, AgentError>> {
        Box::pin(async move { self.came(self.toolbox.resume(suspended, answers, cx).await?) })
    }

    fn kind(&self) -> WorkKind<'_> {
        WorkKind::Below
    }

    fn problem(&self) -> Option<InvalidValue> {
        self.toolbox.ensure_valid().err()
    }

    fn may_answer(&self, pending: &Pending, by: &Caller) -> bool {
        self.toolbox.may_answer(pending, by)
    }

    fn load_input(&self, value: Value) -> serde_json::Result<Option<Input>> {
        self.load.map_or(Ok(None), |load| load(value))
    }

    fn is_branch(&self) -> bool {
        self.load.is_some()
    }
}
