//! A graph within something: as a node of another graph, and as a Sub-Agent.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::builder::Graph;
use super::fields::GraphState;
use super::machine::Machine;
use super::next::{Branch, BranchInput, Input, IntoNext, Next};
use super::node::{Done, LoadInput, Node, On, Work, WorkKind, load};
use super::run::Ended;
use super::wire;
use crate::agent_error::AgentError;
use crate::caller::Caller;
use crate::event::EventKind;
use crate::function::FunctionSpec;
use crate::identity::Profile;
use crate::pending::{Answer, Pending};
use crate::run_context::RunContext;
use crate::schema::Schema;
use crate::sub_agent::{AgentCard, AgentState, Begin, Outcome, SubAgent, Suspension};

/// A node that runs a graph with a state of its own: `into` makes that state, `back` what the node writes of its end.
pub fn sub_graph<S: GraphState, T: GraphState, N: IntoNext<S>>(
    name: impl Into<Arc<str>>,
    graph: Graph<T>,
    into: impl Fn(&S) -> T + Send + Sync + 'static,
    back: impl Fn(T) -> N + Send + Sync + 'static,
) -> Node<S> {
    let begin = move |on: On<'_, S>| Ok(into(&on.state));
    Node::new(name, Within { graph, begin, back: move |state| back(state).into_next(), load: None })
}

/// A node that runs a graph for each task of `branch`: `into` makes the graph's state of the task's input.
pub fn branch_graph<S: GraphState, T: GraphState, In: BranchInput, N: IntoNext<S>>(
    branch: Branch<In>,
    graph: Graph<T>,
    into: impl Fn(In) -> T + Send + Sync + 'static,
    back: impl Fn(T) -> N + Send + Sync + 'static,
) -> Node<S> {
    let begin = move |on: On<'_, S>| Ok(into(on.branch_input::<In>()?.clone()));
    Node::new(
        branch.name(),
        Within { graph, begin, back: move |state| back(state).into_next(), load: Some(load::<In>) },
    )
}

struct Within<T: GraphState, I, B> {
    graph: Graph<T>,
    begin: I,
    back: B,
    /// For a branch: reads a saved input.
    load: Option<LoadInput>,
}

impl<S, T, I, B> Work<S> for Within<T, I, B>
where
    S: GraphState,
    T: GraphState,
    I: Fn(On<'_, S>) -> Result<T, AgentError> + Send + Sync,
    B: Fn(T) -> Next<S> + Send + Sync,
{
    fn begin<'a>(&'a self, on: On<'a, S>, cx: &'a RunContext) -> BoxFuture<'a, Result<Done<S>, AgentError>> {
        Box::pin(async move {
            let machine = Machine::start(&self.graph.plan, (self.begin)(on)?)?;
            self.work(machine, cx).await
        })
    }

    fn resume<'a>(
        &'a self,
        suspended: Suspension,
        answers: Vec<Answer>,
        cx: &'a RunContext,
    ) -> BoxFuture<'a, Result<Done<S>, AgentError>> {
        Box::pin(async move { self.work(self.graph.restore(suspended.state, answers)?, cx).await })
    }

    fn kind(&self) -> WorkKind<'_> {
        WorkKind::Below
    }

    fn may_answer(&self, pending: &Pending, by: &Caller) -> bool {
        self.graph.may_answer(pending, by)
    }

    fn depth(&self) -> u32 {
        self.graph.plan.depth
    }

    fn load_input(&self, value: Value) -> serde_json::Result<Option<Input>> {
        self.load.map_or(Ok(None), |load| load(value))
    }

    fn is_branch(&self) -> bool {
        self.load.is_some()
    }
}

impl<T: GraphState, I, B> Within<T, I, B> {
    async fn work<S: GraphState>(&self, machine: Machine<T>, cx: &RunContext) -> Result<Done<S>, AgentError>
    where
        B: Fn(T) -> Next<S>,
    {
        Ok(match self.graph.work_below(machine, cx).await? {
            Below::Done(state) => Done::Next((self.back)(state)),
            Below::Suspended(suspension) => Done::Suspended(suspension),
        })
    }
}

/// How a graph below something ended.
enum Below<T> {
    Done(T),
    Suspended(Suspension),
}

/// A graph at work. When it fails, or is stopped with its run, what it had done is kept for whoever is above it.
pub(super) struct Working<'a, S: GraphState> {
    graph: &'a Graph<S>,
    cx: &'a RunContext,
    machine: Machine<S>,
    ended: bool,
}

impl<S: GraphState> Drop for Working<'_, S> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Ok(left) = self.graph.suspension(&mut self.machine) {
            self.cx.run().stopped().put_agent(self.cx.path().clone(), left);
        }
    }
}

impl<S: GraphState> Graph<S> {
    async fn work_below(&self, machine: Machine<S>, cx: &RunContext) -> Result<Below<S>, AgentError> {
        let cx = &cx.for_main_agent(&Profile::default(), self.plan.policy.as_ref());
        let mut working = Working { graph: self, cx, machine, ended: false };
        let ended = self.work(&mut working.machine, cx).await;
        working.ended = ended.is_ok();
        match ended? {
            Ended::Done => {
                // The last to hold it gives it up: a large state is not copied.
                let state = working.machine.state.clone();
                drop(working);
                Ok(Below::Done(Arc::unwrap_or_clone(state)))
            }
            Ended::Suspended => Ok(Below::Suspended(self.suspension(&mut working.machine)?)),
        }
    }

    /// Whether its policy and the agents below let `by` answer `pending`.
    pub(super) fn may_answer(&self, pending: &Pending, by: &Caller) -> bool {
        let by_policy = self.plan.policy.as_ref().is_none_or(|policy| policy.may_answer(pending, by));
        by_policy && self.plan.nodes.iter().all(|node| node.work.may_answer(pending, by))
    }

    /// The graph as a value, for whoever resumes it.
    pub(super) fn suspension(&self, machine: &mut Machine<S>) -> Result<Suspension, AgentError> {
        machine.take_up_left();
        let body = wire::encode(machine, &self.plan).map_err(AgentError::internal)?;
        Ok(Suspension {
            state: AgentState::new(&self.plan.card, wire::SCHEMA, body),
            pending: machine.pending(),
            runnable: machine.is_runnable(),
        })
    }

    /// The graph of a saved state, with answers to some of what it waits for.
    pub(super) fn restore(&self, state: AgentState, answers: Vec<Answer>) -> Result<Machine<S>, AgentError> {
        state.ensure_fits(&self.plan.card, wire::SCHEMA)?;
        let unreadable = |problem: String| AgentError::unreadable_state(&state, problem);
        let mut machine = wire::decode(&state.body, &self.plan).map_err(unreadable)?;
        for answer in answers {
            let pending = answer.pending.clone();
            if !machine.answer(answer) {
                return Err(unreadable(format!("nothing waits for {pending}")));
            }
        }
        Ok(machine)
    }

    /// The graph as a Sub-Agent: `into` makes its state of the input, `back` the output of its end.
    ///
    /// A model reads `description`. The graph's name, version and limits are the agent's.
    pub fn into_sub_agent<In, Out>(
        self,
        description: impl Into<Arc<str>>,
        into: impl Fn(In) -> S + Send + Sync + 'static,
        back: impl Fn(S) -> Out + Send + Sync + 'static,
    ) -> GraphAgent<S>
    where
        In: DeserializeOwned + JsonSchema,
        Out: Serialize,
    {
        let own = &self.plan.card;
        let function = FunctionSpec::new(own.id().clone(), description, Schema::of::<In>());
        let card = AgentCard::new(function).with_version(own.version.clone()).with_limits(own.limits);
        let into = Box::new(move |input: Value| serde_json::from_value(input).map(&into));
        GraphAgent { graph: self, card, into, back: Box::new(move |state| serde_json::to_value(back(state))) }
    }
}

/// A graph as a Sub-Agent: see [`Graph::into_sub_agent`].
pub struct GraphAgent<S: GraphState> {
    graph: Graph<S>,
    card: AgentCard,
    into: Box<dyn Fn(Value) -> serde_json::Result<S> + Send + Sync>,
    back: Box<dyn Fn(S) -> serde_json::Result<Value> + Send + Sync>,
}

impl<S: GraphState> GraphAgent<S> {
    /// The same with another card: a domain, examples, an effect. The name, the version and the input's schema stay.
    #[must_use]
    pub fn with_card(mut self, change: impl FnOnce(AgentCard) -> AgentCard) -> Self {
        let (name, version) = (self.card.id().clone(), self.card.version.clone());
        let input = self.card.function.input.clone();
        self.card = change(self.card);
        self.card.function.name = name;
        self.card.function.input = input;
        self.card.version = version;
        self
    }
}

#[async_trait]
impl<S: GraphState> SubAgent for GraphAgent<S> {
    fn may_answer(&self, pending: &Pending, by: &Caller) -> bool {
        self.graph.may_answer(pending, by)
    }

    fn card(&self) -> &AgentCard {
        &self.card
    }

    async fn run(&self, begin: Begin, cx: &RunContext) -> Result<Outcome, AgentError> {
        let resumed = matches!(begin, Begin::Resume { .. });
        let machine = match begin {
            Begin::Start { input } => {
                let unfit = |problem| AgentError::tell(format!("the arguments do not fit: {problem}"));
                Machine::start(&self.graph.plan, (self.into)(Arc::unwrap_or_clone(input)).map_err(unfit)?)?
            }
            Begin::Resume { state, answers } => self.graph.restore(state, answers)?,
        };
        cx.emit_kind(|| EventKind::Started { agent: self.card.id().clone(), resumed });
        let ended = self.graph.work_below(machine, cx).await;
        let spent = cx.lease().spent();
        match ended {
            Ok(Below::Done(state)) => {
                let output = (self.back)(state).map_err(AgentError::internal)?;
                cx.emit_kind(|| EventKind::completed(spent));
                Ok(Outcome::Completed(output))
            }
            Ok(Below::Suspended(suspension)) => {
                cx.emit_kind(|| EventKind::suspended(suspension.pending.len(), spent));
                Ok(Outcome::Suspended(suspension))
            }
            Err(error) => {
                cx.emit_kind(|| EventKind::failed(&error, spent));
                Err(error)
            }
        }
    }
}

impl<S: GraphState> fmt::Debug for GraphAgent<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphAgent").field("card", &self.card).field("graph", &self.graph).finish_non_exhaustive()
    }
}
