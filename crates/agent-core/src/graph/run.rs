//! Running a graph, step by step.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::task::coop::consume_budget;
use tokio::time::Instant;
use tracing::Instrument;

use super::builder::{Graph, Plan};
use super::failure::GraphFailure;
use super::fields::GraphState;
use super::machine::{Child, Left, Machine, Slot, Task, Waiting, Written};
use super::next::{Flow, Input, Next};
use super::node::{Done, Handler, Node, On, WorkKind};
use crate::agent_error::AgentError;
use crate::budget::SavedLease;
use crate::event::{EventKind, Payload};
use crate::model::Attempts;
use crate::path::CallPosition;
use crate::pending::{Answer, Pending};
use crate::run_context::RunContext;
use crate::sub_agent::Suspension;
use crate::telemetry::{record_error, task_span};

/// How a graph's work ended, unless it failed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ended {
    Done,
    Suspended,
}

/// A task as it is worked on: what is in its slot stays there until it has come further.
struct Job<'a, S: GraphState> {
    node: &'a Node<S>,
    index: usize,
    ordinal: u32,
    step: u32,
    state: Arc<S>,
    begin: BeginTask,
    /// How often it has waited.
    waits: usize,
    attempts: Attempts,
    left: Left,
    /// When the time of the graph is over, and not only that of the node.
    deadline: Option<Instant>,
    cx: RunContext,
}

enum BeginTask {
    Run(Option<Input>),
    Answer(Box<Answer>),
    Resume(Box<Child>),
}

impl<S: GraphState> Graph<S> {
    /// Works until the graph ends or has to wait.
    pub(super) async fn work(&self, machine: &mut Machine<S>, cx: &RunContext) -> Result<Ended, AgentError> {
        let plan = &*self.plan;
        loop {
            if machine.tasks.is_empty() {
                return Ok(Ended::Done);
            }
            if machine.step >= plan.steps {
                return Err(GraphFailure::StepLimit { steps: plan.steps }.into());
            }
            // A graph whose nodes wait for nothing would keep others, and whoever stops it, from their turn.
            consume_budget().await;
            cx.ensure_may_go_on()?;
            if machine.tasks.iter().any(|task| task.slot.has_work()) {
                if cx.run().is_draining() {
                    return Ok(Ended::Suspended);
                }
                step(plan, machine, cx).await?;
            }
            if machine.tasks.iter().any(|task| !matches!(task.slot, Slot::Done(..))) {
                return Ok(Ended::Suspended);
            }
            machine.close_step(plan)?;
            if plan.tells_state {
                let (step, state) = (machine.step, &machine.state);
                cx.emit_kind(|| EventKind::StateChanged { step, state: Payload::new(state.clone()) });
            }
        }
    }
}

/// Works on the tasks of a step that have something to do. What each did is kept as soon as it is known.
async fn step<S: GraphState>(plan: &Plan<S>, machine: &mut Machine<S>, cx: &RunContext) -> Result<(), AgentError> {
    let mut waiting: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
    let ready = machine.tasks.iter().enumerate().filter(|(_, task)| task.slot.has_work());
    for (index, task) in ready {
        waiting.entry(task.node).or_default().push_back(index);
    }
    let mut running: BTreeMap<usize, usize> = BTreeMap::new();
    let mut in_flight = FuturesUnordered::new();
    let mut failed: Option<(usize, AgentError)> = None;
    loop {
        // After a failure, or when asked to drain, nothing new begins; what is in flight is not dropped.
        if failed.is_none() && !cx.run().is_draining() {
            for (node, waiting) in &mut waiting {
                let limit = plan.nodes.get(*node).map_or(1, |node| node.concurrency);
                let running = running.entry(*node).or_default();
                while *running < limit && in_flight.len() < plan.in_flight {
                    let Some(index) = waiting.pop_front() else { break };
                    if let Some(job) = job(plan, machine, index, cx) {
                        *running += 1;
                        in_flight.push(job.run());
                    }
                }
            }
        }
        let Some((index, ended)) = in_flight.next().await else { break };
        if let Some(task) = machine.tasks.get_mut(index) {
            if let Some(running) = running.get_mut(&task.node) {
                *running -= 1;
            }
            match ended {
                Ok(came) => settle(task, came),
                // The first in the order of tasks, whichever failed first.
                Err(error) if failed.as_ref().is_none_or(|(first, _)| index < *first) => failed = Some((index, error)),
                Err(_) => {}
            }
        }
    }
    failed.map_or(Ok(()), |(_, error)| Err(error))
}

fn job<'a, S: GraphState>(
    plan: &'a Plan<S>,
    machine: &Machine<S>,
    index: usize,
    cx: &RunContext,
) -> Option<Job<'a, S>> {
    let task = machine.tasks.get(index)?;
    let node = plan.nodes.get(task.node)?;
    let (begin, waits, lease) = match &task.slot {
        Slot::Ready => (BeginTask::Run(task.input.clone()), 0, None),
        Slot::Waits(waiting) => (BeginTask::Answer(Box::new(waiting.answer.clone()?)), waiting.written.len(), None),
        Slot::Child(child) => (BeginTask::Resume(child.clone()), 0, child.lease),
        Slot::Done(..) => return None,
    };
    let deadline = cx.deadline();
    let cx = context(node, machine.step, index, lease, cx);
    let (ordinal, step) = (task.ordinal, machine.step);
    let (state, attempts) = (machine.state.clone(), machine.attempts.clone());
    Some(Job { node, index, ordinal, step, state, begin, waits, attempts, left: machine.left.clone(), deadline, cx })
}

/// The context of a task: its place in the run is the step, and its index among the tasks of it. `saved` is what is left of the budget
/// of an agent that goes on.
fn context<S: GraphState>(
    node: &Node<S>,
    step: u32,
    index: usize,
    saved: Option<SavedLease>,
    cx: &RunContext,
) -> RunContext {
    let position = CallPosition { turn: step, slot: u32::try_from(index).unwrap_or(u32::MAX) };
    let until = |time| Instant::now().checked_add(time);
    let WorkKind::Agent(card) = node.work.kind() else {
        let until = node.timeout.and_then(until);
        return if node.retries > 0 { cx.for_work(position, until) } else { cx.for_call(position, until) };
    };
    let lease = match saved {
        Some(saved) => cx.lease().restore_child(saved),
        None => cx.lease().child(card.limits),
    };
    cx.for_agent(position, node.timeout.or(card.limits.time).and_then(until), card, lease)
}

/// What a task came to.
enum Came<S: GraphState> {
    Done(Written<S>),
    /// It waits, and wrote this before.
    Wait(Pending, S::Update),
    Child(Box<Child>),
}

impl<S: GraphState> Job<'_, S> {
    async fn run(self) -> (usize, Result<Came<S>, AgentError>) {
        let span = task_span!(
            "run_node",
            self.cx,
            otel.name = %format_args!("run_node {}", self.node.name),
            otel.kind = "internal",
            "adjutant.graph.node" = &*self.node.name,
            "adjutant.graph.step" = self.step,
            "adjutant.graph.ordinal" = self.ordinal,
        );
        let end = self.cx.end_on_drop();
        let below = LeftBelow(Some(&self));
        let came = self.work().instrument(span.clone()).await;
        if came.is_ok() {
            below.end();
        } else {
            // What failed below goes on from there, too.
            drop(below);
        }
        end.disarm();
        let node = || self.node.name.clone();
        match &came {
            Ok(Came::Done(written)) => {
                let update = || Payload::new(written.update.clone());
                self.cx.emit_kind(|| EventKind::NodeFinished { node: node(), update: update() });
            }
            Ok(Came::Wait(pending, _)) => {
                self.cx.emit_kind(|| EventKind::Waiting { pending: Arc::new(pending.clone()) })
            }
            Ok(Came::Child(_)) => {}
            Err(error) => {
                record_error(&span, &error.code());
                self.cx.emit_kind(|| EventKind::NodeFailed { node: node(), code: Box::new(error.code()) });
            }
        }
        (self.index, came)
    }

    async fn work(&self) -> Result<Came<S>, AgentError> {
        let done = match &self.begin {
            BeginTask::Run(input) => {
                let (node, step, ordinal) = (&self.node.name, self.step, self.ordinal);
                self.cx.emit_kind(|| EventKind::NodeStarted { node: node.clone(), step, ordinal });
                self.attempt(input).await?
            }
            BeginTask::Answer(answer) => {
                self.cx.emit_kind(|| EventKind::Answered { answer: Arc::new((**answer).clone()) });
                Done::Next(self.guard(self.handler()?.call((**answer).clone(), self.state.clone(), &self.cx)).await?)
            }
            BeginTask::Resume(child) => {
                let Child { suspension, answers, .. } = (**child).clone();
                if let WorkKind::Agent(card) = self.node.work.kind() {
                    let tells = |answer: &&Answer| self.cx.tells_for(&answer.pending, card.function.effect);
                    for answer in answers.iter().filter(tells) {
                        self.cx.emit_kind(|| EventKind::Answered { answer: answer.clone().into() });
                    }
                }
                self.guard(self.node.work.resume(suspension, answers, &self.cx)).await?
            }
        };
        match done {
            Done::Next(Next { update, flow: Flow::Wait(kind) }) => {
                self.handler()?;
                Ok(Came::Wait(self.cx.pending(self.waits.to_string(), *kind), update))
            }
            Done::Next(Next { update, flow }) => Ok(Came::Done(Written { update: Arc::new(update), flow })),
            Done::Suspended(suspension) => self.suspended(suspension),
        }
    }

    fn handler(&self) -> Result<&dyn Handler<S>, GraphFailure> {
        let handler = self.node.handler.as_deref();
        handler.ok_or_else(|| GraphFailure::NoHandler { node: self.node.name.to_string() })
    }

    /// What waits below: each of its waits must have come up there, once, or its answer could not find it.
    fn suspended(&self, suspension: Suspension) -> Result<Came<S>, AgentError> {
        let known: &[Pending] = match &self.begin {
            BeginTask::Resume(child) => &child.suspension.pending,
            BeginTask::Run(_) | BeginTask::Answer(_) => &[],
        };
        if !self.cx.can_route(&suspension) {
            let problem =
                "the node waits for nothing, for something that is not its own, or for something a second time";
            return Err(AgentError::internal(problem));
        }
        let lease = match self.node.work.kind() {
            WorkKind::Agent(card) => {
                self.cx.tell_waits(&suspension, known, card.function.effect);
                Some(self.cx.lease().save())
            }
            WorkKind::Function | WorkKind::Below => None,
        };
        Ok(Came::Child(Box::new(Child { suspension, lease, answers: Vec::new() })))
    }

    /// Runs the node, and again where that is allowed.
    async fn attempt(&self, input: &Option<Input>) -> Result<Done<S>, AgentError> {
        let mut retries = match self.node.work.kind() {
            WorkKind::Function => self.node.retries,
            WorkKind::Agent(_) | WorkKind::Below => 0,
        };
        loop {
            let on = On { node: &self.node.name, state: self.state.clone(), input: input.clone() };
            let error = match self.guard(self.node.work.begin(on, &self.cx)).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let asked_a_model = self.cx.lease().spent().model_calls > 0;
            let ends_the_run = matches!(
                error,
                AgentError::Cancelled | AgentError::Deadline | AgentError::Budget(_) | AgentError::Denied { .. }
            );
            if retries == 0 || asked_a_model || ends_the_run || !self.attempts.take() {
                return Err(error);
            }
            retries -= 1;
        }
    }

    /// Waits for work of the node within its time. A panic in it is a failure.
    async fn guard<T>(&self, work: impl Future<Output = Result<T, AgentError>>) -> Result<T, AgentError> {
        let work = AssertUnwindSafe(work).catch_unwind();
        let own = match self.node.work.kind() {
            WorkKind::Agent(card) => card.limits.time,
            WorkKind::Function | WorkKind::Below => None,
        };
        let ended = match self.node.timeout.or(own) {
            None => work.await,
            Some(_) => match self.cx.within_deadline(work).await {
                // An agent may have seen first that its time is over.
                Ok(Ok(Err(late @ AgentError::Deadline))) | Err(late) => return Err(self.late(late)),
                Ok(ended) => ended,
            },
        };
        ended.unwrap_or(Err(AgentError::Panicked))
    }

    /// The end of the node's time, unless it is that of the graph.
    fn late(&self, late: AgentError) -> AgentError {
        self.cx.end();
        let is_all_over = self.cx.is_stopping() || self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        if is_all_over { late } else { GraphFailure::Timeout { node: self.node.name.to_string() }.into() }
    }
}

/// What an agent or a graph below a task leaves behind when it fails or the run is stopped, with what is left of its budget.
struct LeftBelow<'a, 'b, S: GraphState>(Option<&'a Job<'b, S>>);

impl<S: GraphState> LeftBelow<'_, '_, S> {
    fn end(mut self) {
        self.0 = None;
    }
}

impl<S: GraphState> Drop for LeftBelow<'_, '_, S> {
    fn drop(&mut self) {
        let Some(job) = self.0 else { return };
        if let Some(suspension) = job.cx.run().stopped().take_agent(job.cx.path()) {
            let lease = matches!(job.node.work.kind(), WorkKind::Agent(_)).then(|| job.cx.lease().save());
            let child = Child { suspension, lease, answers: Vec::new() };
            job.left.lock().unwrap_or_else(PoisonError::into_inner).push((job.index, child));
        }
    }
}

/// Records what a task came to.
fn settle<S: GraphState>(task: &mut Task<S>, came: Came<S>) {
    let mut written = match &mut task.slot {
        Slot::Waits(waiting) => std::mem::take(&mut waiting.written),
        Slot::Ready | Slot::Done(..) | Slot::Child(_) => Vec::new(),
    };
    task.slot = match came {
        Came::Done(last) => Slot::Done(written, last),
        Came::Wait(pending, update) => {
            written.push(update);
            Slot::Waits(Box::new(Waiting { pending, written, answer: None }))
        }
        Came::Child(child) => Slot::Child(child),
    };
}
