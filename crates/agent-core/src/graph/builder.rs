//! Building a graph, and what is checked before one runs.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use super::failure::InvalidGraph;
use super::fields::{FieldSet, GraphState};
use super::next::{END, Goto, START};
use super::node::Node;
use crate::budget::Limits;
use crate::function::FunctionSpec;
use crate::id::AgentVersion;
use crate::journal::{Journal, MemoryJournal};
use crate::policy::Policy;
use crate::schema::Schema;
use crate::sub_agent::AgentCard;

type Name = Cow<'static, str>;

/// How many steps a graph may take unless it says otherwise.
const STEPS: u32 = 10_000;

/// How many graphs may be within each other. Saved states nest six levels for each, and readers of JSON stop at 128.
const MAX_DEPTH: u32 = 12;

/// How many tasks of a step run at once unless a graph says otherwise.
const IN_FLIGHT: usize = 128;

/// A graph that is being put together: see [`Graph::builder`].
pub struct GraphBuilder<S: GraphState> {
    name: Arc<str>,
    version: AgentVersion,
    limits: Limits,
    steps: u32,
    in_flight: usize,
    attempts: u32,
    policy: Option<Arc<dyn Policy>>,
    journal: Option<Arc<dyn Journal>>,
    nodes: Vec<Node<S>>,
    edges: Vec<(Name, Name)>,
    routes: Vec<Declared<S>>,
    joins: Vec<(Vec<Name>, Name)>,
    tells_state: bool,
}

struct Declared<S> {
    from: Name,
    targets: Vec<Name>,
    choose: Choose<S>,
}

type Choose<S> = Box<dyn Fn(&S) -> Goto + Send + Sync>;

/// A graph of nodes over a state of type `S`: checked, immutable and cheap to clone.
pub struct Graph<S: GraphState> {
    pub(super) plan: Arc<Plan<S>>,
}

/// What a graph is.
pub(super) struct Plan<S: GraphState> {
    pub(super) card: AgentCard,
    pub(super) nodes: Vec<Node<S>>,
    /// Which fields each node may write; all of them, where it has not declared any.
    pub(super) writes: Vec<Option<FieldSet>>,
    /// The fields that keep only one of the values written in a step.
    pub(super) replaced: FieldSet,
    /// What leads on from each node, and from the start, which comes last.
    pub(super) ways: Vec<Ways<S>>,
    pub(super) joins: Vec<Join>,
    pub(super) steps: u32,
    pub(super) in_flight: usize,
    pub(super) attempts: u32,
    /// `None` leaves it to the policy of the run.
    pub(super) policy: Option<Arc<dyn Policy>>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) tells_state: bool,
    /// How many graphs are within each other, this one included.
    pub(super) depth: u32,
    index: HashMap<Arc<str>, usize>,
}

/// What leads on from a node.
pub(super) struct Ways<S> {
    /// The nodes that always follow.
    pub(super) edges: Vec<usize>,
    /// Whether an edge leads to the end.
    pub(super) ends: bool,
    pub(super) routes: Vec<Route<S>>,
    /// The joins that wait for it.
    pub(super) joins: Vec<usize>,
}

pub(super) struct Route<S> {
    /// The nodes that it may lead to.
    pub(super) targets: Vec<usize>,
    /// Whether it may lead to the end.
    pub(super) ends: bool,
    pub(super) choose: Choose<S>,
}

pub(super) struct Join {
    pub(super) sources: Vec<usize>,
    pub(super) target: usize,
}

impl<S: GraphState> Graph<S> {
    /// Begins a graph of this name.
    #[must_use]
    pub fn builder(name: impl Into<Arc<str>>) -> GraphBuilder<S> {
        GraphBuilder {
            name: name.into(),
            version: AgentVersion::default(),
            limits: Limits::none(),
            steps: STEPS,
            in_flight: IN_FLIGHT,
            attempts: 0,
            policy: None,
            journal: None,
            nodes: Vec::new(),
            edges: Vec::new(),
            routes: Vec::new(),
            joins: Vec::new(),
            tells_state: false,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.plan.card.id()
    }
}

impl<S: GraphState> Clone for Graph<S> {
    fn clone(&self) -> Self {
        Self { plan: self.plan.clone() }
    }
}

impl<S: GraphState> fmt::Debug for Graph<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("name", &self.name()).field("nodes", &self.plan.nodes).finish_non_exhaustive()
    }
}

impl<S: GraphState> GraphBuilder<S> {
    /// The version that saved states carry. A state of another version is refused.
    #[must_use]
    pub fn version(mut self, version: AgentVersion) -> Self {
        self.version = version;
        self
    }

    /// Ceilings for each of its runs.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many steps a run may take, so that a cycle ends: 10,000 unless said otherwise.
    #[must_use]
    pub fn steps(mut self, steps: u32) -> Self {
        self.steps = steps;
        self
    }

    /// How many tasks of a step run at once: 128 unless said otherwise.
    #[must_use]
    pub fn in_flight(mut self, tasks: usize) -> Self {
        self.in_flight = tasks;
        self
    }

    /// How many attempts a run has for all [retries](Node::retries) together: none unless said otherwise.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// What may happen in it: asked before each call of a [tool](super::call), and by agents below. Below an agent it holds beside the
    /// policies there. By default tools that need an approval wait for one.
    #[must_use]
    pub fn policy(mut self, policy: impl Policy + 'static) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// Where calls are noted whose effect must not happen twice; below an agent that is the run's. By default the process's memory.
    #[must_use]
    pub fn journal(mut self, journal: impl Journal + 'static) -> Self {
        self.journal = Some(Arc::new(journal));
        self
    }

    /// Tells the whole state after each step by an event, for as long as somebody reads events. Without it they tell what nodes wrote.
    #[must_use]
    pub fn tell_state(mut self) -> Self {
        self.tells_state = true;
        self
    }

    /// Adds a node. The order of nodes is the order in which what they write in one step is taken in.
    #[must_use]
    pub fn node(mut self, node: Node<S>) -> Self {
        self.nodes.push(node);
        self
    }

    /// `to` always follows `from`.
    #[must_use]
    pub fn edge(mut self, from: impl Into<Name>, to: impl Into<Name>) -> Self {
        self.edges.push((from.into(), to.into()));
        self
    }

    /// One node after the other, each by an edge.
    #[must_use]
    pub fn chain<N: Into<Name>>(mut self, nodes: impl IntoIterator<Item = N>) -> Self {
        let mut nodes = nodes.into_iter().map(Into::into);
        let Some(mut from) = nodes.next() else { return self };
        for to in nodes {
            self.edges.push((from, to.clone()));
            from = to;
        }
        self
    }

    /// What follows `from` is chosen by `choose` when all of the step's writes are in. It leads to some of `targets`: nodes,
    /// [`END`], and branches that it gives tasks to.
    #[must_use]
    pub fn route<N: Into<Name>, G: Into<Goto>>(
        mut self,
        from: impl Into<Name>,
        targets: impl IntoIterator<Item = N>,
        choose: impl Fn(&S) -> G + Send + Sync + 'static,
    ) -> Self {
        let targets = targets.into_iter().map(Into::into).collect();
        let choose: Choose<S> = Box::new(move |state| choose(state).into());
        self.routes.push(Declared { from: from.into(), targets, choose });
        self
    }

    /// `to` follows when all of `from` have run since it ran last, in whichever steps.
    #[must_use]
    pub fn join<N: Into<Name>>(mut self, from: impl IntoIterator<Item = N>, to: impl Into<Name>) -> Self {
        self.joins.push((from.into_iter().map(Into::into).collect(), to.into()));
        self
    }

    /// The graph.
    ///
    /// # Errors
    ///
    /// [`InvalidGraph`]: the first of the things that are wrong with it.
    pub fn build(self) -> Result<Graph<S>, InvalidGraph> {
        let index = index(&self.nodes)?;
        let names = Names { index: &index, nodes: &self.nodes };
        if self.in_flight == 0 || self.steps == 0 {
            return Err(InvalidGraph::ZeroLimit { node: self.name.to_string() });
        }
        if let Some(node) = self.nodes.iter().find(|node| node.concurrency == 0) {
            return Err(InvalidGraph::ZeroLimit { node: node.name.to_string() });
        }
        if let Some(node) = self.nodes.iter().find(|node| node.is_deferred && node.work.is_branch()) {
            return Err(InvalidGraph::DeferredBranch { node: node.name.to_string() });
        }
        if let Some((node, problem)) = self.nodes.iter().find_map(|node| Some((node, node.work.problem()?))) {
            return Err(InvalidGraph::InvalidFunction { node: node.name.to_string(), problem });
        }
        let depth = 1 + self.nodes.iter().map(|node| node.work.depth()).max().unwrap_or_default();
        if depth > MAX_DEPTH {
            return Err(InvalidGraph::TooDeep { graph: self.name.to_string(), most: MAX_DEPTH });
        }
        let writes = self.nodes.iter().map(declared_writes).collect::<Result<Vec<_>, _>>()?;
        let mut ways: Vec<Ways<S>> = (0..=self.nodes.len()).map(|_| Ways::none()).collect();
        for (from, to) in &self.edges {
            let place = format!("the edge from `{from}` to `{to}`");
            let way = names.way(&mut ways, from, &place)?;
            match names.target(to, &place)? {
                None => way.ends = true,
                Some(node) if names.is_branch(node) => return Err(without_task(place, to)),
                Some(node) if way.edges.contains(&node) => {}
                Some(node) => way.edges.push(node),
            }
        }
        for route in self.routes {
            let place = format!("the route from `{}`", route.from);
            let (targets, ends) = names.targets(&route.targets, &place)?;
            names.way(&mut ways, &route.from, &place)?.routes.push(Route { targets, ends, choose: route.choose });
        }
        let mut joins = Vec::new();
        for (from, to) in &self.joins {
            let place = format!("the join before `{to}`");
            let sources = from.iter().map(|source| names.node(source, &place)).collect::<Result<Vec<_>, _>>()?;
            let different: BTreeSet<_> = sources.iter().collect();
            let target = names.node(to, &place)?;
            if different.len() < 2 || different.len() < sources.len() {
                return Err(InvalidGraph::JoinOfOne { node: to.to_string() });
            }
            if names.is_branch(target) {
                return Err(without_task(place, to));
            }
            for source in &sources {
                if let Some(way) = ways.get_mut(*source) {
                    way.joins.push(joins.len());
                }
            }
            joins.push(Join { sources, target });
        }
        let jumps = |node: &Node<S>| names.targets(&node.may_go_to, &format!("the node `{}`", node.name));
        let jumps = self.nodes.iter().map(jumps).collect::<Result<Vec<_>, _>>()?;
        let replaced =
            S::FIELDS.iter().enumerate().filter(|(_, field)| field.replaces).map(|(index, _)| index).collect();
        let checks =
            Checks { nodes: &self.nodes, writes: &writes, replaced, ways: &ways, joins: &joins, jumps: &jumps };
        checks.all()?;
        let function = FunctionSpec::new(self.name.clone(), "", Schema::object());
        let card = AgentCard::new(function).with_version(self.version).with_limits(self.limits);
        let Self { nodes, steps, in_flight, attempts, policy, tells_state, .. } = self;
        let journal = self.journal.unwrap_or_else(|| Arc::new(MemoryJournal::new()));
        let plan = Plan {
            card,
            nodes,
            writes,
            replaced,
            ways,
            joins,
            steps,
            in_flight,
            attempts,
            policy,
            journal,
            tells_state,
            depth,
            index,
        };
        Ok(Graph { plan: Arc::new(plan) })
    }
}

impl<S: GraphState> fmt::Debug for GraphBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphBuilder").field("name", &self.name).field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl<S> Ways<S> {
    fn none() -> Self {
        Self { edges: Vec::new(), ends: false, routes: Vec::new(), joins: Vec::new() }
    }
}

impl<S: GraphState> Plan<S> {
    /// The index under which the start has its ways.
    pub(super) fn start(&self) -> usize {
        self.nodes.len()
    }

    /// The name of a node, or of the start.
    pub(super) fn name(&self, node: usize) -> &str {
        self.nodes.get(node).map_or(START, |node| &node.name)
    }

    /// The node of this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }
}

fn index<S: GraphState>(nodes: &[Node<S>]) -> Result<HashMap<Arc<str>, usize>, InvalidGraph> {
    let mut index = HashMap::with_capacity(nodes.len());
    for (at, node) in nodes.iter().enumerate() {
        if node.name.trim().is_empty() || [START, END].contains(&&*node.name) {
            return Err(InvalidGraph::ReservedName { node: node.name.to_string() });
        }
        if index.insert(node.name.clone(), at).is_some() {
            return Err(InvalidGraph::DuplicateNode { node: node.name.to_string() });
        }
    }
    Ok(index)
}

/// The fields that a node declares, if it does.
fn declared_writes<S: GraphState>(node: &Node<S>) -> Result<Option<FieldSet>, InvalidGraph> {
    let index = |name: &Name| {
        S::FIELDS.iter().position(|field| field.name == name).ok_or_else(|| {
            let known: Vec<_> = S::FIELDS.iter().map(|field| field.name).collect();
            let (node, field) = (node.name.to_string(), name.to_string());
            InvalidGraph::UnknownField { node, field, known: known.join(", ") }
        })
    };
    node.writes.as_ref().map(|names| names.iter().map(index).collect()).transpose()
}

fn without_task(place: String, branch: &str) -> InvalidGraph {
    InvalidGraph::BranchWithoutTask { place, node: branch.to_owned() }
}

/// The nodes by name.
struct Names<'a, S: GraphState> {
    index: &'a HashMap<Arc<str>, usize>,
    nodes: &'a [Node<S>],
}

impl<S: GraphState> Names<'_, S> {
    fn is_branch(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|node| node.work.is_branch())
    }

    fn node(&self, name: &str, place: &str) -> Result<usize, InvalidGraph> {
        self.index.get(name).copied().ok_or_else(|| {
            let known: Vec<_> = self.nodes.iter().map(|node| &*node.name).collect();
            InvalidGraph::UnknownNode { place: place.to_owned(), node: name.to_owned(), known: known.join(", ") }
        })
    }

    /// The node of this name; none for the end.
    fn target(&self, name: &str, place: &str) -> Result<Option<usize>, InvalidGraph> {
        if name == END { Ok(None) } else { self.node(name, place).map(Some) }
    }

    /// The nodes among `names`, and whether the end is.
    fn targets(&self, names: &[Name], place: &str) -> Result<(Vec<usize>, bool), InvalidGraph> {
        let targets = names.iter().map(|name| self.target(name, place)).collect::<Result<Vec<_>, _>>()?;
        Ok((targets.iter().copied().flatten().collect(), targets.contains(&None)))
    }

    fn way<'w>(&self, ways: &'w mut [Ways<S>], from: &str, place: &str) -> Result<&'w mut Ways<S>, InvalidGraph> {
        let at = if from == START { self.nodes.len() } else { self.node(from, place)? };
        Ok(&mut ways[at])
    }
}

/// What is checked of a graph whose names are right.
struct Checks<'a, S: GraphState> {
    nodes: &'a [Node<S>],
    writes: &'a [Option<FieldSet>],
    replaced: FieldSet,
    ways: &'a [Ways<S>],
    joins: &'a [Join],
    /// Where each node may go by itself, and whether that is the end.
    jumps: &'a [(Vec<usize>, bool)],
}

impl<S: GraphState> Checks<'_, S> {
    fn all(&self) -> Result<(), InvalidGraph> {
        if self.after(self.nodes.len()).0.is_empty() {
            return Err(InvalidGraph::NoStart);
        }
        if let Some(node) = self.first_not_in(&self.reachable()) {
            return Err(InvalidGraph::Unreachable { node });
        }
        if let Some(node) = self.first_not_in(&self.ending()) {
            return Err(InvalidGraph::NoEnd { node });
        }
        (0..=self.nodes.len()).try_for_each(|from| self.parallel_writers(from))
    }

    fn first_not_in(&self, nodes: &[bool]) -> Option<String> {
        let missing = self.nodes.iter().zip(nodes).find(|(_, is_in)| !**is_in);
        missing.map(|(node, _)| node.name.to_string())
    }

    /// Where a node may lead, and whether to the end.
    fn after(&self, from: usize) -> (Vec<usize>, bool) {
        let (mut nodes, mut ends) = self.jumps.get(from).cloned().unwrap_or_default();
        let Some(ways) = self.ways.get(from) else { return (nodes, ends) };
        nodes.extend(&ways.edges);
        ends |= ways.ends;
        for route in &ways.routes {
            nodes.extend(&route.targets);
            ends |= route.ends;
        }
        nodes.extend(ways.joins.iter().filter_map(|join| self.joins.get(*join)).map(|join| join.target));
        (nodes, ends)
    }

    fn reachable(&self) -> Vec<bool> {
        let mut reached = vec![false; self.nodes.len()];
        let mut open = self.after(self.nodes.len()).0;
        while let Some(node) = open.pop() {
            if let Some(reached) = reached.get_mut(node).filter(|reached| !**reached) {
                *reached = true;
                open.extend(self.after(node).0);
            }
        }
        reached
    }

    /// The nodes from which a way leads to the end.
    fn ending(&self) -> Vec<bool> {
        let after: Vec<_> = (0..self.nodes.len()).map(|node| self.after(node)).collect();
        let mut before = vec![Vec::new(); self.nodes.len()];
        for (from, (targets, _)) in after.iter().enumerate() {
            for target in targets {
                if let Some(before) = before.get_mut(*target) {
                    before.push(from);
                }
            }
        }
        let mut ending = vec![false; self.nodes.len()];
        let mut open: Vec<_> =
            (0..self.nodes.len()).filter(|node| after.get(*node).is_some_and(|(_, ends)| *ends)).collect();
        while let Some(node) = open.pop() {
            if let Some(ending) = ending.get_mut(node).filter(|ending| !**ending) {
                *ending = true;
                open.extend(before.get(node).into_iter().flatten());
            }
        }
        ending
    }

    /// Whether two nodes that always run in one step after `from` declare the same field that keeps one value.
    fn parallel_writers(&self, from: usize) -> Result<(), InvalidGraph> {
        let mut step = BTreeSet::from([from]);
        let mut arrived: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.joins.len()];
        // As many steps as there are nodes show every pair: what comes after is a repetition.
        for _ in 0..=self.nodes.len() {
            let mut next = BTreeSet::new();
            for node in &step {
                // Where a node may choose, what its edges lead to is not always run.
                let may_choose = self.jumps.get(*node).is_some_and(|(targets, ends)| *ends || !targets.is_empty());
                let Some(ways) = self.ways.get(*node).filter(|_| !may_choose) else { continue };
                next.extend(ways.edges.iter().copied().filter(|node| !self.is_deferred(*node)));
                for join in &ways.joins {
                    let (Some(arrived), Some(join)) = (arrived.get_mut(*join), self.joins.get(*join)) else { continue };
                    arrived.insert(*node);
                    if arrived.len() == join.sources.len() && !self.is_deferred(join.target) {
                        arrived.clear();
                        next.insert(join.target);
                    }
                }
            }
            self.conflict(&next)?;
            if next.is_empty() {
                return Ok(());
            }
            step = next;
        }
        Ok(())
    }

    fn is_deferred(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|node| node.is_deferred)
    }

    fn conflict(&self, step: &BTreeSet<usize>) -> Result<(), InvalidGraph> {
        let mut replaced: Vec<(usize, FieldSet)> = Vec::new();
        for node in step {
            let writes = self.writes.get(*node).copied().flatten().unwrap_or_default().and(self.replaced);
            for (other, others) in &replaced {
                if let Some(field) = writes.and(*others).first() {
                    let name = |node: usize| self.nodes.get(node).map(|node| node.name.to_string()).unwrap_or_default();
                    let field = S::FIELDS.get(field).map_or("", |field| field.name).to_owned();
                    return Err(InvalidGraph::ParallelWriters { field, first: name(*other), second: name(*node) });
                }
            }
            replaced.push((*node, writes));
        }
        Ok(())
    }
}
