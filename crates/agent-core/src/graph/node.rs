//! Nodes: async functions, sub-graphs and agents, with what they may do.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::failure::GraphFailure;
use super::fields::GraphState;
use super::next::{Branch, BranchInput, Input, IntoNext, Next};
use crate::agent_error::AgentError;
use crate::caller::Caller;
use crate::error::InvalidValue;
use crate::message::CallResult;
use crate::pending::{Answer, AnswerValue, Pending, PendingKind};
use crate::run_context::RunContext;
use crate::schema::Schema;
use crate::sub_agent::{AgentCard, Begin, Outcome, SubAgent, Suspension};

/// A node of a graph, and what it may do: made by [`node`], [`branch`], [`agent`], [`call`](super::call), [`calls`](super::calls),
/// [`sub_graph`](super::sub_graph) and [`branch_graph`](super::branch_graph).
pub struct Node<S: GraphState> {
    /// Shared with every event about it.
    pub(super) name: Arc<str>,
    pub(super) work: Box<dyn Work<S>>,
    pub(super) handler: Option<Box<dyn Handler<S>>>,
    pub(super) writes: Option<Vec<Cow<'static, str>>>,
    pub(super) may_go_to: Vec<Cow<'static, str>>,
    pub(super) timeout: Option<Duration>,
    pub(super) concurrency: usize,
    pub(super) retries: u32,
    pub(super) is_deferred: bool,
}

impl<S: GraphState> Node<S> {
    pub(super) fn new(name: impl Into<Arc<str>>, work: impl Work<S> + 'static) -> Self {
        Self {
            name: name.into(),
            work: Box::new(work),
            handler: None,
            writes: None,
            may_go_to: Vec::new(),
            timeout: None,
            concurrency: usize::MAX,
            retries: 0,
            is_deferred: false,
        }
    }

    /// The same, writing no other fields than these. Two nodes that always run in one step and declare the same `replace` field are
    /// refused when the graph is built; without a declaration such a conflict shows in a run.
    #[must_use]
    pub fn writes<N: Into<Cow<'static, str>>>(mut self, fields: impl IntoIterator<Item = N>) -> Self {
        self.writes = Some(fields.into_iter().map(Into::into).collect());
        self
    }

    /// The same, going to these by [`Next::goto`]. It may go nowhere else.
    #[must_use]
    pub fn may_go_to<N: Into<Cow<'static, str>>>(mut self, targets: impl IntoIterator<Item = N>) -> Self {
        self.may_go_to.extend(targets.into_iter().map(Into::into));
        self
    }

    /// The same with a function that takes the answer to what it waits for, instead of the node itself:
    /// `async fn(answer, Arc<S>) -> Result<Out, E>`, or with a [`RunContext`] behind the state. The answer is an [`Answer`],
    /// [`Answered`] or [`Approved`].
    #[must_use]
    pub fn answered<Args: 'static>(mut self, handler: impl AnswerFunction<S, Args>) -> Self {
        self.handler = Some(Box::new(Answering { function: handler, form: PhantomData }));
        self
    }

    /// The same with a time limit for each run of it.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The same with at most so many runs of it at once.
    #[must_use]
    pub fn concurrency(mut self, limit: usize) -> Self {
        self.concurrency = limit;
        self
    }

    /// The same, run again when it fails, at most so often. Off unless it is asked for.
    ///
    /// Each retry is an attempt of the run. A node that asked a model, waited, calls a tool, or runs an agent or a graph is not run
    /// again: models and agents repeat what helps by themselves, and a call that began may have happened.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The same, run only when nothing else is left to run.
    #[must_use]
    pub fn deferred(mut self) -> Self {
        self.is_deferred = true;
        self
    }
}

impl<S: GraphState> fmt::Debug for Node<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name)
            .field("writes", &self.writes)
            .field("may_go_to", &self.may_go_to)
            .finish_non_exhaustive()
    }
}

/// What a node does.
pub(super) trait Work<S: GraphState>: Send + Sync {
    /// Does it.
    fn begin<'a>(&'a self, on: On<'a, S>, cx: &'a RunContext) -> BoxFuture<'a, Result<Done<S>, AgentError>>;

    /// Goes on with what was suspended below.
    fn resume<'a>(
        &'a self,
        suspended: Suspension,
        answers: Vec<Answer>,
        cx: &'a RunContext,
    ) -> BoxFuture<'a, Result<Done<S>, AgentError>> {
        let _ = (answers, cx);
        let problem = AgentError::unreadable_state(&suspended.state, "the node runs no agent any more");
        Box::pin(std::future::ready(Err(problem)))
    }

    /// What it is.
    fn kind(&self) -> WorkKind<'_>;

    /// Reads what [`Input::save`] wrote. `None` for a node that takes no input.
    fn load_input(&self, value: Value) -> serde_json::Result<Option<Input>> {
        let _ = value;
        Ok(None)
    }

    /// Whether what it runs lets `by` answer something that came up there.
    fn may_answer(&self, pending: &Pending, by: &Caller) -> bool {
        let _ = (pending, by);
        true
    }

    /// What is wrong with what it runs.
    fn problem(&self) -> Option<InvalidValue> {
        None
    }

    /// How many graphs are within each other in it.
    fn depth(&self) -> u32 {
        0
    }

    /// Whether it takes an input.
    fn is_branch(&self) -> bool {
        false
    }
}

/// What a node works on.
pub(super) struct On<'a, S> {
    pub(super) node: &'a str,
    pub(super) state: Arc<S>,
    pub(super) input: Option<Input>,
}

/// How a node's work ended.
pub(super) enum Done<S: GraphState> {
    Next(Next<S>),
    Suspended(Suspension),
}

/// What a node is.
pub(super) enum WorkKind<'a> {
    Function,
    /// A graph, or the call of a tool: what of it is suspended is a value of its own.
    Below,
    Agent(&'a AgentCard),
}

/// A node that runs an async function of the state: `async fn(Arc<S>) -> Result<Out, E>`, or with a [`RunContext`] behind it.
///
/// `Out` is the state's update, `()` or a [`Next`]; `E` is [`AgentError`], [`CallError`](crate::CallError), or any other type that
/// becomes an [`AgentError`].
pub fn node<S: GraphState, Args: 'static>(name: impl Into<Arc<str>>, function: impl NodeFunction<S, Args>) -> Node<S> {
    Node::new(name, Plain { function, form: PhantomData })
}

/// A node that runs an async function once for each task of `branch`: `async fn(In) -> Result<Out, E>`, or with a [`RunContext`]
/// behind it, or with the state and a [`RunContext`].
pub fn branch<S: GraphState, In: BranchInput, Args: 'static>(
    branch: Branch<In>,
    function: impl BranchFunction<S, In, Args>,
) -> Node<S> {
    Node::new(branch.name(), Branching { function, form: PhantomData })
}

/// A node that runs an agent: `into` makes its input of the state, `back` what the node writes of its output.
///
/// The agent works within its own ceilings. Its input has to fit its card's schema.
pub fn agent<S: GraphState, In: Serialize, Out: DeserializeOwned + 'static, N: IntoNext<S>>(
    name: impl Into<Arc<str>>,
    agent: impl SubAgent + 'static,
    into: impl Fn(&S) -> In + Send + Sync + 'static,
    back: impl Fn(Out) -> N + Send + Sync + 'static,
) -> Node<S> {
    let into = move |state: &S| serde_json::to_value(into(state));
    let back = move |output: Value| serde_json::from_value(output).map(|output| back(output).into_next());
    Node::new(name, Delegating { agent, into, back })
}

struct Plain<F, Args> {
    function: F,
    form: PhantomData<fn(Args)>,
}

impl<S: GraphState, Args: 'static, F: NodeFunction<S, Args>> Work<S> for Plain<F, Args> {
    fn begin<'a>(&'a self, on: On<'a, S>, cx: &'a RunContext) -> BoxFuture<'a, Result<Done<S>, AgentError>> {
        Box::pin(async move { Ok(Done::Next(self.function.call(on.state, cx).await?.into_next())) })
    }

    fn kind(&self) -> WorkKind<'_> {
        WorkKind::Function
    }
}

struct Branching<In, F, Args> {
    function: F,
    form: PhantomData<fn(In, Args)>,
}

impl<S: GraphState, In: BranchInput, Args: 'static, F: BranchFunction<S, In, Args>> Work<S> for Branching<In, F, Args> {
    fn begin<'a>(&'a self, on: On<'a, S>, cx: &'a RunContext) -> BoxFuture<'a, Result<Done<S>, AgentError>> {
        Box::pin(async move {
            let input = on.branch_input::<In>()?.clone();
            Ok(Done::Next(self.function.call(input, on.state, cx).await?.into_next()))
        })
    }

    fn kind(&self) -> WorkKind<'_> {
        WorkKind::Function
    }

    fn load_input(&self, value: Value) -> serde_json::Result<Option<Input>> {
        load::<In>(value)
    }

    fn is_branch(&self) -> bool {
        true
    }
}

/// Reads a saved input.
pub(super) type LoadInput = fn(Value) -> serde_json::Result<Option<Input>>;

pub(super) fn load<In: BranchInput>(value: Value) -> serde_json::Result<Option<Input>> {
    serde_json::from_value::<In>(value).map(|input| Some(Input::new(input)))
}

impl<S> On<'_, S> {
    /// The input of a task for a branch.
    pub(super) fn branch_input<In: BranchInput>(&self) -> Result<&In, GraphFailure> {
        let input = self.input.as_ref().and_then(Input::get);
        input.ok_or_else(|| GraphFailure::WrongInput { node: self.node.to_owned() })
    }
}

struct Delegating<A, I, B> {
    agent: A,
    into: I,
    back: B,
}

impl<A, I, B> Delegating<A, I, B> {
    fn ended<S: GraphState>(&self, ended: Outcome) -> Result<Done<S>, AgentError>
    where
        B: Fn(Value) -> serde_json::Result<Next<S>>,
    {
        Ok(match ended {
            Outcome::Completed(output) => Done::Next((self.back)(output).map_err(AgentError::internal)?),
            Outcome::Suspended(suspension) => Done::Suspended(suspension),
        })
    }
}

impl<S, A, I, B> Work<S> for Delegating<A, I, B>
where
    S: GraphState,
    A: SubAgent,
    I: Fn(&S) -> serde_json::Result<Value> + Send + Sync,
    B: Fn(Value) -> serde_json::Result<Next<S>> + Send + Sync,
{
    fn begin<'a>(&'a self, on: On<'a, S>, cx: &'a RunContext) -> BoxFuture<'a, Result<Done<S>, AgentError>> {
        Box::pin(async move {
            let input = (self.into)(&on.state).map_err(AgentError::internal)?;
            drop(on);
            self.agent.card().function.input.check(&input).map_err(AgentError::internal)?;
            self.ended(self.agent.run(Begin::Start { input: Arc::new(input) }, cx).await?)
        })
    }

    fn resume<'a>(
        &'a self,
        suspended: Suspension,
        answers: Vec<Answer>,
        cx: &'a RunContext,
    ) -> BoxFuture<'a, Result<Done<S>, AgentError>> {
        Box::pin(async move {
            let state = match suspended.state {
                own if own.is_of(self.agent.card()) => own,
                other => self.agent.migrate(other)?,
            };
            self.ended(self.agent.run(Begin::Resume { state, answers }, cx).await?)
        })
    }

    fn kind(&self) -> WorkKind<'_> {
        WorkKind::Agent(self.agent.card())
    }

    fn may_answer(&self, pending: &Pending, by: &Caller) -> bool {
        !pending.agents.contains(self.agent.card().id()) || self.agent.may_answer(pending, by)
    }
}

/// An async function of a state: see [`node`].
#[diagnostic::on_unimplemented(
    message = "this cannot be run as a node",
    label = "not an async function of the right form",
    note = "needed: `async fn(Arc<State>) -> Result<Update, AgentError>` or `async fn(Arc<State>, RunContext) -> Result<Update, AgentError>`",
    note = "instead of the state's update it may return `()` or `Next<State>`, and any error that becomes an `AgentError`",
    note = "the future must be `Send`: hold no `Rc`, `RefCell` borrow or `MutexGuard` across an await"
)]
pub trait NodeFunction<S: GraphState, Args>: Send + Sync + 'static {
    /// What it returns.
    type Output: IntoNext<S>;

    /// Calls it.
    fn call(&self, state: Arc<S>, cx: &RunContext) -> impl Future<Output = Result<Self::Output, AgentError>> + Send;
}

impl<S, F, Fut, Out, E> NodeFunction<S, (Arc<S>,)> for F
where
    S: GraphState,
    F: Fn(Arc<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, E>> + Send,
    Out: IntoNext<S>,
    E: Into<AgentError>,
{
    type Output = Out;

    async fn call(&self, state: Arc<S>, _: &RunContext) -> Result<Out, AgentError> {
        self(state).await.map_err(Into::into)
    }
}

impl<S, F, Fut, Out, E> NodeFunction<S, (Arc<S>, RunContext)> for F
where
    S: GraphState,
    F: Fn(Arc<S>, RunContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, E>> + Send,
    Out: IntoNext<S>,
    E: Into<AgentError>,
{
    type Output = Out;

    async fn call(&self, state: Arc<S>, cx: &RunContext) -> Result<Out, AgentError> {
        self(state, cx.clone()).await.map_err(Into::into)
    }
}

/// An async function of a branch's input: see [`branch`].
#[diagnostic::on_unimplemented(
    message = "this cannot be run as the branch's node",
    label = "not an async function of the right form",
    note = "needed: `async fn(In) -> Result<Update, AgentError>`, `async fn(In, RunContext) -> ..` or `async fn(In, Arc<State>, RunContext) -> ..`",
    note = "`In` is the type of the `Branch`; instead of the state's update it may return `()` or `Next<State>`",
    note = "the future must be `Send`: hold no `Rc`, `RefCell` borrow or `MutexGuard` across an await"
)]
pub trait BranchFunction<S: GraphState, In, Args>: Send + Sync + 'static {
    /// What it returns.
    type Output: IntoNext<S>;

    /// Calls it.
    fn call(
        &self,
        input: In,
        state: Arc<S>,
        cx: &RunContext,
    ) -> impl Future<Output = Result<Self::Output, AgentError>> + Send;
}

impl<S, In, F, Fut, Out, E> BranchFunction<S, In, (In,)> for F
where
    S: GraphState,
    In: BranchInput,
    F: Fn(In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, E>> + Send,
    Out: IntoNext<S>,
    E: Into<AgentError>,
{
    type Output = Out;

    async fn call(&self, input: In, state: Arc<S>, _: &RunContext) -> Result<Out, AgentError> {
        drop(state);
        self(input).await.map_err(Into::into)
    }
}

impl<S, In, F, Fut, Out, E> BranchFunction<S, In, (In, RunContext)> for F
where
    S: GraphState,
    In: BranchInput,
    F: Fn(In, RunContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, E>> + Send,
    Out: IntoNext<S>,
    E: Into<AgentError>,
{
    type Output = Out;

    async fn call(&self, input: In, state: Arc<S>, cx: &RunContext) -> Result<Out, AgentError> {
        drop(state);
        self(input, cx.clone()).await.map_err(Into::into)
    }
}

impl<S, In, F, Fut, Out, E> BranchFunction<S, In, (In, Arc<S>, RunContext)> for F
where
    S: GraphState,
    In: BranchInput,
    F: Fn(In, Arc<S>, RunContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, E>> + Send,
    Out: IntoNext<S>,
    E: Into<AgentError>,
{
    type Output = Out;

    async fn call(&self, input: In, state: Arc<S>, cx: &RunContext) -> Result<Out, AgentError> {
        self(input, state, cx.clone()).await.map_err(Into::into)
    }
}

/// What takes the answer to a wait.
pub(super) trait Handler<S: GraphState>: Send + Sync {
    fn call<'a>(
        &'a self,
        answer: Answer,
        state: Arc<S>,
        cx: &'a RunContext,
    ) -> BoxFuture<'a, Result<Next<S>, AgentError>>;
}

struct Answering<F, Args> {
    function: F,
    form: PhantomData<fn(Args)>,
}

impl<S: GraphState, Args, F: AnswerFunction<S, Args>> Handler<S> for Answering<F, Args> {
    fn call<'a>(
        &'a self,
        answer: Answer,
        state: Arc<S>,
        cx: &'a RunContext,
    ) -> BoxFuture<'a, Result<Next<S>, AgentError>> {
        Box::pin(async move { Ok(self.function.call(answer, state, cx).await?.into_next()) })
    }
}

/// An async function that takes the answer to a wait: see [`Node::answered`].
#[diagnostic::on_unimplemented(
    message = "this cannot take the answer to a node's wait",
    label = "not an async function of the right form",
    note = "needed: `async fn(answer, Arc<State>) -> Result<Update, AgentError>` or `async fn(answer, Arc<State>, RunContext) -> ..`",
    note = "the answer is an `Answer`, an `Answered<T>` or an `Approved`"
)]
pub trait AnswerFunction<S: GraphState, Args>: Send + Sync + 'static {
    /// What it returns.
    type Output: IntoNext<S>;

    /// Calls it.
    fn call(
        &self,
        answer: Answer,
        state: Arc<S>,
        cx: &RunContext,
    ) -> impl Future<Output = Result<Self::Output, AgentError>> + Send;
}

impl<S, A, F, Fut, Out, E> AnswerFunction<S, (A, Arc<S>)> for F
where
    S: GraphState,
    A: FromAnswer,
    F: Fn(A, Arc<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, E>> + Send,
    Out: IntoNext<S>,
    E: Into<AgentError>,
{
    type Output = Out;

    async fn call(&self, answer: Answer, state: Arc<S>, _: &RunContext) -> Result<Out, AgentError> {
        self(A::from_answer(answer)?, state).await.map_err(Into::into)
    }
}

impl<S, A, F, Fut, Out, E> AnswerFunction<S, (A, Arc<S>, RunContext)> for F
where
    S: GraphState,
    A: FromAnswer,
    F: Fn(A, Arc<S>, RunContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, E>> + Send,
    Out: IntoNext<S>,
    E: Into<AgentError>,
{
    type Output = Out;

    async fn call(&self, answer: Answer, state: Arc<S>, cx: &RunContext) -> Result<Out, AgentError> {
        self(A::from_answer(answer)?, state, cx.clone()).await.map_err(Into::into)
    }
}

/// What a node's handler can take an answer as.
pub trait FromAnswer: Send + Sized {
    /// The conversion.
    ///
    /// # Errors
    ///
    /// [`AgentError::Denied`] for a refusal, where that is none of the values; [`AgentError::Internal`] for a value of another type.
    fn from_answer(answer: Answer) -> Result<Self, AgentError>;
}

/// The answer whatever it says, refusals included.
impl FromAnswer for Answer {
    fn from_answer(answer: Answer) -> Result<Self, AgentError> {
        Ok(answer)
    }
}

/// An answer of type `T` to a question, or a result from outside. A refusal fails the node.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Answered<T> {
    /// What was answered.
    pub value: T,
    /// By whom.
    pub by: Caller,
}

impl<T: JsonSchema> Answered<T> {
    /// A question that is answered by a `T`: what answers it has to fit the type's schema.
    #[must_use]
    pub fn question(question: impl Into<Arc<str>>) -> PendingKind {
        PendingKind::Question { question: question.into(), schema: Some(schema_of::<T>()) }
    }

    /// A result from outside that is a `T`.
    #[must_use]
    pub fn external(what: impl Into<Arc<str>>) -> PendingKind {
        PendingKind::External { what: what.into(), schema: Some(schema_of::<T>()) }
    }
}

fn schema_of<T: JsonSchema>() -> Arc<Value> {
    Schema::of::<T>().as_value().clone()
}

impl<T: DeserializeOwned + Send> FromAnswer for Answered<T> {
    fn from_answer(answer: Answer) -> Result<Self, AgentError> {
        let value = match answer.value {
            AnswerValue::Deny(reason) => return Err(AgentError::Denied { reason }),
            value => value.into_result(),
        };
        match value {
            CallResult::Done(value) => {
                let value = serde_json::from_value(Arc::unwrap_or_clone(value)).map_err(AgentError::internal)?;
                Ok(Self { value, by: answer.by })
            }
            CallResult::Failed(failure) => Err(AgentError::Failed(Arc::unwrap_or_clone(failure))),
        }
    }
}

/// A person's approval. A refusal fails the node.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Approved {
    /// What was approved instead of what was proposed, if anything was.
    pub instead: Option<Value>,
    /// By whom.
    pub by: Caller,
}

impl Approved {
    /// A person is to agree to `proposed`.
    #[must_use]
    pub fn request(what: impl Into<Arc<str>>, proposed: impl Into<Value>, reason: impl Into<Arc<str>>) -> PendingKind {
        PendingKind::Approval {
            what: what.into(),
            proposed: Arc::new(proposed.into()),
            reason: reason.into(),
            schema: None,
            approved_by: Vec::new(),
        }
    }
}

impl FromAnswer for Approved {
    fn from_answer(answer: Answer) -> Result<Self, AgentError> {
        match answer.value {
            AnswerValue::Approve => Ok(Self { instead: None, by: answer.by }),
            AnswerValue::ApproveWith(value) => Ok(Self { instead: Some(value), by: answer.by }),
            AnswerValue::Deny(reason) => Err(AgentError::Denied { reason }),
            AnswerValue::Value(_) | AnswerValue::Returned { .. } => {
                Err(AgentError::tell("the node waits for an approval, and got something else"))
            }
        }
    }
}
