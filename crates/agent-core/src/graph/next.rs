//! What a node gives back: what it writes, and where the graph goes from there.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::fields::GraphState;
use crate::pending::PendingKind;

/// Where a graph begins: edges and routes lead from here.
pub const START: &str = "start";

/// Where a graph ends: a way that leads here is over. The graph is done when all are.
pub const END: &str = "end";

/// What a node gives back: what it writes, and where the graph goes from there.
///
/// A state's update and `()` are one by themselves: the graph follows the node's edges and routes.
#[derive(Debug)]
pub struct Next<S: GraphState> {
    pub(super) update: S::Update,
    pub(super) flow: Flow,
}

/// How the graph goes on after a node.
#[derive(Debug)]
pub(super) enum Flow {
    /// By the node's edges and routes.
    Edges,
    /// To these, and no further.
    Goto(Goto),
    /// Not yet.
    Wait(Box<PendingKind>),
}

impl<S: GraphState> Next<S> {
    /// Writes `update` and follows the node's edges and routes.
    #[must_use]
    pub fn update(update: S::Update) -> Self {
        Self { update, flow: Flow::Edges }
    }

    /// Goes to `targets` instead of along the node's edges and routes. The node has to
    /// [declare](super::Node::may_go_to) them.
    #[must_use]
    pub fn goto(targets: impl Into<Goto>) -> Self {
        Self::update(S::Update::default()).and_goto(targets)
    }

    /// Waits. The answer goes to the node's [handler](super::Node::answered); the node is not run again.
    #[must_use]
    pub fn wait(kind: PendingKind) -> Self {
        Self::update(S::Update::default()).and_wait(kind)
    }

    /// The same, going to `targets`.
    #[must_use]
    pub fn and_goto(mut self, targets: impl Into<Goto>) -> Self {
        self.flow = Flow::Goto(targets.into());
        self
    }

    /// The same, waiting before it goes on. What is written here is taken in with what the handler writes, before it.
    #[must_use]
    pub fn and_wait(mut self, kind: PendingKind) -> Self {
        self.flow = Flow::Wait(Box::new(kind));
        self
    }
}

/// What becomes a [`Next`].
pub trait IntoNext<S: GraphState>: Send {
    /// The conversion.
    fn into_next(self) -> Next<S>;
}

impl<S: GraphState> IntoNext<S> for Next<S> {
    fn into_next(self) -> Next<S> {
        self
    }
}

impl<S: GraphState> IntoNext<S> for () {
    fn into_next(self) -> Next<S> {
        Next::update(S::Update::default())
    }
}

/// Where to go: names of nodes, [`END`], and tasks for branches. Nowhere, when it is empty.
#[derive(Debug, Clone, Default)]
pub struct Goto {
    pub(super) targets: Vec<Target>,
}

#[derive(Debug, Clone)]
pub(super) enum Target {
    Node(Cow<'static, str>),
    Branch(BranchTask),
}

impl Goto {
    /// The same, going to `more` as well.
    #[must_use]
    pub fn and(mut self, more: impl Into<Self>) -> Self {
        self.targets.extend(more.into().targets);
        self
    }
}

impl From<&'static str> for Goto {
    fn from(node: &'static str) -> Self {
        Self { targets: vec![Target::Node(Cow::Borrowed(node))] }
    }
}

impl From<String> for Goto {
    fn from(node: String) -> Self {
        Self { targets: vec![Target::Node(Cow::Owned(node))] }
    }
}

impl From<BranchTask> for Goto {
    fn from(task: BranchTask) -> Self {
        Self { targets: vec![Target::Branch(task)] }
    }
}

impl<T: Into<Self>> From<Vec<T>> for Goto {
    fn from(targets: Vec<T>) -> Self {
        targets.into_iter().collect()
    }
}

impl<T: Into<Self>> FromIterator<T> for Goto {
    fn from_iter<I: IntoIterator<Item = T>>(targets: I) -> Self {
        Self { targets: targets.into_iter().flat_map(|target| target.into().targets).collect() }
    }
}

/// The name of a node that runs once for each task it is given, with an input of type `In`.
///
/// ```
/// use agent_core::graph::{Branch, Goto};
///
/// const SUMMARISE: Branch<String> = Branch::new("summarise");
///
/// let files = ["a.md", "b.md"];
/// let everywhere: Goto = files.iter().map(|file| SUMMARISE.with(file.to_string())).collect();
/// # let _ = everywhere;
/// ```
pub struct Branch<In> {
    name: &'static str,
    input: PhantomData<fn(In)>,
}

impl<In> Branch<In> {
    /// The branch of this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, input: PhantomData }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<In: BranchInput> Branch<In> {
    /// A task for it: where a graph goes here, it runs once with this input.
    #[must_use]
    pub fn with(&self, input: In) -> BranchTask {
        BranchTask { node: self.name.into(), input: Input(Arc::new(input)) }
    }
}

impl<In> Clone for Branch<In> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<In> Copy for Branch<In> {}

impl<In> fmt::Debug for Branch<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Branch").field(&self.name).finish()
    }
}

/// What a branch can be given: a value that can be copied and saved.
pub trait BranchInput: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> BranchInput for T {}

/// A task for a [`Branch`].
#[derive(Debug, Clone)]
pub struct BranchTask {
    pub(super) node: Cow<'static, str>,
    pub(super) input: Input,
}

/// A branch's input, of whatever type.
#[derive(Clone)]
pub(super) struct Input(Arc<dyn AnyInput>);

impl Input {
    pub(super) fn new(input: impl BranchInput) -> Self {
        Self(Arc::new(input))
    }

    /// The input, if it is of this type.
    pub(super) fn get<In: BranchInput>(&self) -> Option<&In> {
        self.0.as_any().downcast_ref()
    }

    pub(super) fn save(&self) -> serde_json::Result<Value> {
        self.0.save()
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Input")
    }
}

trait AnyInput: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn save(&self) -> serde_json::Result<Value>;
}

impl<In: BranchInput> AnyInput for In {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn save(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }
}
