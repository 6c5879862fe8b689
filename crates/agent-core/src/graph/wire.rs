//! The saved form of a graph at work.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::builder::Plan;
use super::fields::GraphState;
use super::machine::{Child, Left, Machine, Slot, Task, Waiting, Written};
use super::next::{BranchTask, Flow, Goto, Input, Target};
use crate::budget::SavedLease;
use crate::model::Attempts;
use crate::pending::{Answer, Pending};
use crate::sub_agent::Suspension;

/// The version of the format.
pub(super) const SCHEMA: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Saved {
    step: u32,
    state: Value,
    tasks: Vec<SavedTask>,
    /// For each join, in the order of the graph, the nodes that it has seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    arrived: Vec<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deferred: Vec<String>,
    #[serde(default)]
    attempts: u32,
}

#[derive(Serialize, Deserialize)]
struct SavedTask {
    node: String,
    ordinal: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<Value>,
    #[serde(flatten)]
    slot: SavedSlot,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "slot", rename_all = "snake_case")]
enum SavedSlot {
    Ready,
    Done {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        written: Vec<Value>,
        update: Value,
        /// Where the node goes; by its edges and routes when this is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        goto: Option<Vec<SavedTarget>>,
    },
    Waits {
        pending: Pending,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        written: Vec<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<Answer>,
    },
    Child {
        suspension: Suspension,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<SavedLease>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        answers: Vec<Answer>,
    },
}

#[derive(Serialize, Deserialize)]
struct SavedTarget {
    node: String,
    /// For a branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<Value>,
}

pub(super) fn encode<S: GraphState>(machine: &Machine<S>, plan: &Plan<S>) -> serde_json::Result<Value> {
    let names = |nodes: &BTreeSet<usize>| nodes.iter().map(|node| plan.name(*node).to_owned()).collect::<Vec<_>>();
    serde_json::to_value(Saved {
        step: machine.step,
        state: serde_json::to_value(&*machine.state)?,
        tasks: machine.tasks.iter().map(|task| encode_task(task, plan)).collect::<Result<_, _>>()?,
        arrived: machine.arrived.iter().map(names).collect(),
        deferred: names(&machine.deferred),
        attempts: machine.attempts.left(),
    })
}

fn encode_task<S: GraphState>(task: &Task<S>, plan: &Plan<S>) -> serde_json::Result<SavedTask> {
    let values = |updates: &[S::Update]| updates.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
    let slot = match &task.slot {
        Slot::Ready => SavedSlot::Ready,
        Slot::Done(written, last) => SavedSlot::Done {
            written: values(written)?,
            update: serde_json::to_value(&*last.update)?,
            goto: match &last.flow {
                Flow::Goto(goto) => Some(goto.targets.iter().map(encode_target).collect::<Result<_, _>>()?),
                Flow::Edges | Flow::Wait(_) => None,
            },
        },
        Slot::Waits(waiting) => SavedSlot::Waits {
            pending: waiting.pending.clone(),
            written: values(&waiting.written)?,
            answer: waiting.answer.clone(),
        },
        Slot::Child(child) => {
            let Child { suspension, lease, answers } = (**child).clone();
            SavedSlot::Child { suspension, lease, answers }
        }
    };
    let input = task.input.as_ref().map(|input| input.save()).transpose()?;
    Ok(SavedTask { node: plan.name(task.node).to_owned(), ordinal: task.ordinal, input, slot })
}

fn encode_target(target: &Target) -> serde_json::Result<SavedTarget> {
    Ok(match target {
        Target::Node(node) => SavedTarget { node: node.to_string(), input: None },
        Target::Branch(task) => SavedTarget { node: task.node.to_string(), input: Some(task.input.save()?) },
    })
}

/// Reads what [`encode`] wrote.
///
/// # Errors
///
/// What is wrong with it, for a host's logs.
pub(super) fn decode<S: GraphState>(body: &Value, plan: &Plan<S>) -> Result<Machine<S>, String> {
    let saved = Saved::deserialize(body).map_err(|problem| problem.to_string())?;
    let nodes = |names: &[String]| names.iter().map(|name| find(plan, name)).collect::<Result<BTreeSet<_>, _>>();
    if saved.arrived.len() != plan.joins.len() {
        return Err(format!("it has {} joins, the graph has {}", saved.arrived.len(), plan.joins.len()));
    }
    Ok(Machine {
        state: Arc::new(serde_json::from_value(saved.state).map_err(|problem| problem.to_string())?),
        step: saved.step,
        tasks: saved.tasks.into_iter().map(|task| decode_task(task, plan)).collect::<Result<_, _>>()?,
        arrived: saved.arrived.iter().map(|names| nodes(names)).collect::<Result<_, _>>()?,
        deferred: nodes(&saved.deferred)?,
        attempts: Attempts::new(saved.attempts),
        left: Left::default(),
    })
}

fn find<S: GraphState>(plan: &Plan<S>, name: &str) -> Result<usize, String> {
    plan.find(name).ok_or_else(|| format!("the graph has no node `{name}`"))
}

fn decode_task<S: GraphState>(saved: SavedTask, plan: &Plan<S>) -> Result<Task<S>, String> {
    let node = find(plan, &saved.node)?;
    let input = saved.input.map(|input| decode_input(input, node, plan)).transpose()?.flatten();
    let update = |value: Value| serde_json::from_value::<S::Update>(value).map_err(|problem| problem.to_string());
    let updates = |values: Vec<Value>| values.into_iter().map(update).collect::<Result<Vec<_>, _>>();
    let slot = match saved.slot {
        SavedSlot::Ready => Slot::Ready,
        SavedSlot::Done { written, update: last, goto } => {
            let flow = match goto {
                None => Flow::Edges,
                Some(targets) => {
                    let targets = targets.into_iter().map(|target| decode_target(target, plan));
                    Flow::Goto(Goto { targets: targets.collect::<Result<_, _>>()? })
                }
            };
            Slot::Done(updates(written)?, Written { update: Arc::new(update(last)?), flow })
        }
        SavedSlot::Waits { pending, written, answer } => {
            Slot::Waits(Box::new(Waiting { pending, written: updates(written)?, answer }))
        }
        SavedSlot::Child { suspension, lease, answers } => Slot::Child(Box::new(Child { suspension, lease, answers })),
    };
    Ok(Task { node, ordinal: saved.ordinal, input, slot })
}

fn decode_input<S: GraphState>(input: Value, node: usize, plan: &Plan<S>) -> Result<Option<Input>, String> {
    let Some(node) = plan.nodes.get(node) else { return Ok(None) };
    node.work.load_input(input).map_err(|problem| format!("the input of `{}`: {problem}", node.name))
}

fn decode_target<S: GraphState>(target: SavedTarget, plan: &Plan<S>) -> Result<Target, String> {
    let Some(input) = target.input else { return Ok(Target::Node(target.node.into())) };
    let input = decode_input(input, find(plan, &target.node)?, plan)?;
    let input = input.ok_or_else(|| format!("`{}` takes no input", target.node))?;
    Ok(Target::Branch(BranchTask { node: target.node.into(), input }))
}
