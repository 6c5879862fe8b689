//! A graph at work, as a value: its state, and the tasks of the step that it is in.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::builder::Plan;
use super::failure::GraphFailure;
use super::fields::{FieldSet, GraphState};
use super::next::{Flow, Goto, Input, Target};
use crate::agent_error::AgentError;
use crate::budget::SavedLease;
use crate::model::Attempts;
use crate::pending::{Answer, Pending};
use crate::sub_agent::Suspension;

/// A graph at work.
#[derive(Debug)]
pub(super) struct Machine<S: GraphState> {
    pub(super) state: Arc<S>,
    pub(super) step: u32,
    /// In the order of nodes, and of ordinals for each.
    pub(super) tasks: Vec<Task<S>>,
    /// Which of its nodes each join has seen since it fired last.
    pub(super) arrived: Vec<BTreeSet<usize>>,
    /// Deferred nodes that are to run when nothing else is left.
    pub(super) deferred: BTreeSet<usize>,
    /// How many attempts are left for retries.
    pub(super) attempts: Attempts,
    /// What agents and graphs below left behind that were stopped in flight, by the index of their task.
    pub(super) left: Left,
}

pub(super) type Left = Arc<Mutex<Vec<(usize, Child)>>>;

/// One run of a node. Its identity is the node's name, the step and the ordinal: that completes once.
#[derive(Debug)]
pub(super) struct Task<S: GraphState> {
    pub(super) node: usize,
    pub(super) ordinal: u32,
    /// For a branch.
    pub(super) input: Option<Input>,
    pub(super) slot: Slot<S>,
}

/// How far a task is.
#[derive(Debug)]
pub(super) enum Slot<S: GraphState> {
    /// It is to be run.
    Ready,
    /// It has run. What it wrote before it waited comes first.
    Done(Vec<S::Update>, Written<S>),
    /// It waits.
    Waits(Box<Waiting<S>>),
    /// An agent or a graph below it is suspended.
    Child(Box<Child>),
}

/// What a node wrote at its end, and where it goes. Events share what it wrote.
#[derive(Debug)]
pub(super) struct Written<S: GraphState> {
    pub(super) update: Arc<S::Update>,
    pub(super) flow: Flow,
}

/// A node that waits.
#[derive(Debug)]
pub(super) struct Waiting<S: GraphState> {
    pub(super) pending: Pending,
    /// What it wrote when it waited, each time.
    pub(super) written: Vec<S::Update>,
    pub(super) answer: Option<Answer>,
}

/// Something suspended below a node.
#[derive(Debug, Clone)]
pub(super) struct Child {
    pub(super) suspension: Suspension,
    /// What is left of an agent's budget.
    pub(super) lease: Option<SavedLease>,
    pub(super) answers: Vec<Answer>,
}

impl<S: GraphState> Task<S> {
    /// The fields that it wrote.
    fn written(&self) -> FieldSet {
        match &self.slot {
            Slot::Done(written, last) => {
                written.iter().fold(S::written(&last.update), |fields, update| fields.or(S::written(update)))
            }
            Slot::Ready | Slot::Waits(_) | Slot::Child(_) => FieldSet::default(),
        }
    }
}

impl<S: GraphState> Slot<S> {
    /// Whether there is something to do without a further answer.
    pub(super) fn has_work(&self) -> bool {
        match self {
            Self::Ready => true,
            Self::Done(..) => false,
            Self::Waits(waiting) => waiting.answer.is_some(),
            Self::Child(child) => child.suspension.runnable || !child.answers.is_empty(),
        }
    }
}

impl<S: GraphState> Machine<S> {
    /// The graph at its start.
    pub(super) fn start(plan: &Plan<S>, state: S) -> Result<Self, AgentError> {
        let arrived = vec![BTreeSet::new(); plan.joins.len()];
        let (tasks, deferred, attempts) = (Vec::new(), BTreeSet::new(), Attempts::new(plan.attempts));
        let mut machine =
            Self { state: Arc::new(state), step: 0, tasks, arrived, deferred, attempts, left: Left::default() };
        machine.advance(plan, vec![(plan.start(), Flow::Edges)])?;
        Ok(machine)
    }

    /// What is waited for, below included.
    pub(super) fn pending(&self) -> Vec<Pending> {
        let mut pending = Vec::new();
        for task in &self.tasks {
            match &task.slot {
                Slot::Waits(waiting) if waiting.answer.is_none() => pending.push(waiting.pending.clone()),
                Slot::Child(child) => {
                    let is_open = |one: &&Pending| child.answers.iter().all(|answer| answer.pending != one.id);
                    pending.extend(child.suspension.pending.iter().filter(is_open).cloned());
                }
                Slot::Ready | Slot::Done(..) | Slot::Waits(_) => {}
            }
        }
        pending
    }

    /// Takes up what was stopped in flight below.
    pub(super) fn take_up_left(&mut self) {
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        for (index, child) in left {
            if let Some(task) = self.tasks.get_mut(index) {
                task.slot = Slot::Child(Box::new(child));
            }
        }
    }

    /// The state, at the end.
    pub(super) fn into_state(self) -> S {
        Arc::unwrap_or_clone(self.state)
    }

    /// Whether there is something to do without a further answer.
    pub(super) fn is_runnable(&self) -> bool {
        self.tasks.iter().all(|task| matches!(task.slot, Slot::Done(..)))
            || self.tasks.iter().any(|task| task.slot.has_work())
    }

    /// Gives an answer to what waits for it. `false` when nothing does.
    pub(super) fn answer(&mut self, answer: Answer) -> bool {
        for task in &mut self.tasks {
            match &mut task.slot {
                Slot::Waits(waiting) if waiting.pending.id == answer.pending => {
                    waiting.answer = Some(answer);
                    return true;
                }
                Slot::Child(child) if child.suspension.pending.iter().any(|pending| pending.id == answer.pending) => {
                    child.answers.push(answer);
                    return true;
                }
                Slot::Ready | Slot::Done(..) | Slot::Waits(_) | Slot::Child(_) => {}
            }
        }
        false
    }

    /// Ends a step in which every task is done: takes in what they wrote, in their order, and goes where they lead.
    pub(super) fn close_step(&mut self, plan: &Plan<S>) -> Result<(), AgentError> {
        self.check_writes(plan)?;
        let mut flows = Vec::with_capacity(self.tasks.len());
        // A copy is made only where somebody has kept a view.
        let state = Arc::make_mut(&mut self.state);
        for task in self.tasks.drain(..) {
            if let Slot::Done(written, last) = task.slot {
                written.into_iter().for_each(|update| state.apply(update));
                state.apply(Arc::unwrap_or_clone(last.update));
                flows.push((task.node, last.flow));
            }
        }
        self.step = self.step.saturating_add(1);
        self.advance(plan, flows)
    }

    /// Refuses writes that their node has not declared, and two that cannot both count.
    fn check_writes(&self, plan: &Plan<S>) -> Result<(), GraphFailure> {
        let name = |node: usize| plan.name(node).to_owned();
        let field = |index: usize| S::FIELDS.get(index).map_or("", |field| field.name);
        let mut replaced = FieldSet::default();
        for (at, task) in self.tasks.iter().enumerate() {
            let written = task.written();
            if let Some(Some(allowed)) = plan.writes.get(task.node)
                && let Some(index) = written.without(*allowed).first()
            {
                return Err(GraphFailure::UndeclaredWrite { node: name(task.node), field: field(index) });
            }
            if let Some(index) = written.and(replaced).first() {
                let writes = |task: &&Task<S>| task.written().contains(index);
                let first = self.tasks.iter().take(at).find(writes).map_or(task.node, |task| task.node);
                let (field, step) = (field(index), self.step);
                return Err(GraphFailure::Conflict { field, first: name(first), second: name(task.node), step });
            }
            replaced = replaced.or(written.and(plan.replaced));
        }
        Ok(())
    }

    /// Makes the tasks of the next step: what `flows` lead to, in the order of nodes.
    fn advance(&mut self, plan: &Plan<S>, flows: Vec<(usize, Flow)>) -> Result<(), AgentError> {
        let mut following = Following::new(plan);
        for (from, flow) in flows {
            let Some(ways) = plan.ways.get(from) else { continue };
            match flow {
                Flow::Goto(goto) => {
                    let jumps = plan.nodes.get(from).map(|node| &*node.may_go_to).unwrap_or_default();
                    following.go(from, goto, |name, _| jumps.iter().any(|jump| jump == name))?;
                }
                Flow::Edges | Flow::Wait(_) => {
                    ways.edges.iter().for_each(|node| following.run(*node));
                    for route in &ways.routes {
                        let may = |_: &str, node: Option<usize>| match node {
                            Some(node) => route.targets.contains(&node),
                            None => route.ends,
                        };
                        following.go(from, (route.choose)(&self.state), may)?;
                    }
                }
            }
            for join in &ways.joins {
                let (Some(arrived), Some(join)) = (self.arrived.get_mut(*join), plan.joins.get(*join)) else {
                    continue;
                };
                arrived.insert(from);
                if arrived.len() == join.sources.len() {
                    arrived.clear();
                    following.run(join.target);
                }
            }
        }
        let Following { nodes, tasks, .. } = following;
        let (deferred, now): (Vec<usize>, Vec<usize>) =
            nodes.into_iter().partition(|node| plan.nodes.get(*node).is_some_and(|node| node.is_deferred));
        self.deferred.extend(deferred);
        self.begin(now, tasks);
        if self.tasks.is_empty() {
            let deferred = std::mem::take(&mut self.deferred);
            self.begin(deferred, Vec::new());
        }
        Ok(())
    }

    fn begin(&mut self, nodes: impl IntoIterator<Item = usize>, branches: Vec<(usize, Input)>) {
        let plain = nodes.into_iter().map(|node| (node, None));
        let mut starts: Vec<_> = plain.chain(branches.into_iter().map(|(node, input)| (node, Some(input)))).collect();
        // Tasks of one branch stay in the order in which they were given.
        starts.sort_by_key(|(node, _)| *node);
        let mut last = None;
        for (node, input) in starts {
            let ordinal = match last {
                Some((same, ordinal)) if same == node => ordinal + 1,
                _ => 0,
            };
            last = Some((node, ordinal));
            self.tasks.push(Task { node, ordinal, input, slot: Slot::Ready });
        }
    }
}

/// What a step leads to.
struct Following<'a, S: GraphState> {
    plan: &'a Plan<S>,
    /// Nodes that run once, however many ways lead there.
    nodes: BTreeSet<usize>,
    /// Tasks for branches.
    tasks: Vec<(usize, Input)>,
}

impl<'a, S: GraphState> Following<'a, S> {
    fn new(plan: &'a Plan<S>) -> Self {
        Self { plan, nodes: BTreeSet::new(), tasks: Vec::new() }
    }

    fn run(&mut self, node: usize) {
        self.nodes.insert(node);
    }

    /// Goes to where `may` allows: it is asked with a name, and the node of that name unless it is the end.
    fn go(&mut self, from: usize, goto: Goto, may: impl Fn(&str, Option<usize>) -> bool) -> Result<(), GraphFailure> {
        for target in goto.targets {
            let (name, input) = match target {
                Target::Node(name) => (name, None),
                Target::Branch(task) => (task.node, Some(task.input)),
            };
            let node = self.plan.find(&name);
            let is_known = node.is_some() || name == super::END;
            if !is_known || !may(&name, node) {
                let node = self.plan.name(from).to_owned();
                return Err(GraphFailure::UndeclaredTarget { node, target: name.into_owned() });
            }
            let Some(node) = node else { continue };
            let is_branch = self.plan.nodes.get(node).is_some_and(|node| node.work.is_branch());
            match input {
                Some(input) if is_branch => self.tasks.push((node, input)),
                None if !is_branch => self.run(node),
                _ => return Err(GraphFailure::WrongInput { node: name.into_owned() }),
            }
        }
        Ok(())
    }
}
