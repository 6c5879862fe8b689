//! The step `act`: the calls of a turn are made, in parallel, each with exactly one result.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;

use super::builder::{Agent, Callable};
use super::call_state::Slot;
use super::drive::Next;
use super::invoke::TIMEOUT;
use super::slot::{self, Earlier, Job, Settlement, UNKNOWN_OUTCOME, Worked};
use super::state::{LoopState, Open, Work};
use crate::agent_error::{AgentError, HANDED_BACK};
use crate::amount::Spend;
use crate::budget::Limits;
use crate::conversation::{Entry, OpenTurn};
use crate::message::{Arguments, Call, FinishReason};
use crate::path::CallPosition;
use crate::pending::{Pending, PendingKind};
use crate::run_context::RunContext;

pub(super) async fn act(agent: &Agent, state: &mut LoopState, cx: &RunContext) -> Result<Next, AgentError> {
    let Work::Open(open) = &mut state.work else { return Ok(Next::Row) };
    ensure_children_fit(agent, open)?;

    let mut jobs = jobs(agent, open, state.turn, state.said_before, cx);
    jobs.reverse();
    let mut in_flight = FuturesUnordered::new();
    let mut fatal = None;
    let limit = agent.bounds.in_flight as usize;
    let may_use = |name: &str| agent.routing.as_ref().is_none_or(|routing| routing.may_use(name, cx));
    loop {
        // After a fatal failure, or when asked to drain, nothing new begins; what is in flight is not dropped.
        let may_begin = fatal.is_none() && !cx.run().is_draining();
        while may_begin && in_flight.len() < limit {
            let Some((name, job)) = jobs.pop() else { break };
            in_flight.push(slot::work(&agent.functions, may_use, &agent.bounds, &name, job, cx));
        }
        if jobs.is_empty() {
            // Many runs wait here: what is empty takes no room.
            jobs = Vec::new();
        }
        let Some((index, worked)) = in_flight.next().await else { break };
        if let Err(error) = settle(open, index, worked) {
            fatal = fatal.or(Some(error));
        }
    }
    if let Some(error) = fatal {
        return Err(error);
    }
    if open.slots.iter().any(|slot| *slot != Slot::Settled) {
        return Ok(Next::Suspend);
    }
    let Work::Open(open) = std::mem::take(&mut state.work) else { return Ok(Next::Row) };
    let conversation = open.turn.close().map_err(|_| AgentError::internal("a settled call has no result"))?;
    state.next_turn(conversation);
    Ok(Next::Row)
}

/// What there is to do for the calls of a turn. Others are left to others, with their budget.
fn jobs(agent: &Agent, open: &Open, turn: u32, said_before: usize, cx: &RunContext) -> Vec<(Arc<str>, Job)> {
    let fan_out = agent.bounds.fan_out;
    let mut earlier = EarlierCalls::before(&open.turn, said_before, fan_out);
    let calls_of_turn = u32::try_from(open.slots.len()).unwrap_or(u32::MAX).min(fan_out);
    let mut jobs = Vec::with_capacity(open.slots.iter().filter(|slot| slot.has_work()).count());
    open.slots.iter().filter(|slot| !slot.has_work()).for_each(|slot| carve_out_again(slot, cx));
    let may_be_cut = !matches!(open.turn.reply().finish, FinishReason::Stop | FinishReason::Calls);
    let calls = open.turn.reply().each_call().zip(&open.slots);
    for ((call, slot), index) in calls.zip(0..) {
        // What is over the bound is refused without a look.
        let earlier = if index < fan_out { earlier.and(call) } else { Earlier::default() };
        if slot.has_work() {
            let position = CallPosition { turn, slot: index };
            let Call { name, arguments, .. } = call.clone();
            let is_cut = may_be_cut && arguments.as_text().trim().is_empty();
            jobs.push((name, Job { position, arguments, is_cut, slot: slot.clone(), earlier, calls_of_turn }));
        }
    }
    jobs
}

/// Records how far a call came.
fn settle(open: &mut Open, index: usize, worked: Worked) -> Result<(), AgentError> {
    let (result, failed) = match worked? {
        Settlement::Settled(result) => (result, Ok(())),
        Settlement::Unkept(result, error) => (result, Err(error)),
        Settlement::Open(slot) => {
            put(open, index, slot);
            return Ok(());
        }
    };
    open.turn.settle(index, result).map_err(AgentError::internal)?;
    put(open, index, Slot::Settled);
    failed
}

fn put(open: &mut Open, index: usize, slot: Slot) {
    if let Some(place) = open.slots.get_mut(index) {
        *place = slot;
    }
}

/// The calls that were made before in a run.
#[derive(Default)]
struct EarlierCalls {
    /// How many, by function and arguments as the model wrote them.
    counts: HashMap<(Arc<str>, Arguments), u32>,
    /// Those of which nobody knows whether they happened, however the model wrote them.
    unknown: Vec<(Arc<str>, Value)>,
    handed_back: HashSet<Arc<str>>,
}

impl EarlierCalls {
    /// Those of the turns before `turn`, as far as they were within the bound of calls a turn.
    fn before(turn: &OpenTurn, said_before: usize, fan_out: u32) -> Self {
        let mut calls = Self::default();
        for entry in turn.conversation().entries().iter().skip(said_before) {
            let Entry::Agent(turn) = entry else { continue };
            for (call, result) in turn.reply().each_call().zip(turn.results()).take(fan_out as usize) {
                calls.and(call);
                match result.failure().map(|failure| failure.code.as_str()) {
                    Some(TIMEOUT | UNKNOWN_OUTCOME) => {
                        let arguments = call.arguments.parse().ok();
                        calls.unknown.extend(arguments.map(|arguments| (call.name.clone(), arguments)));
                    }
                    Some(HANDED_BACK) => {
                        calls.handed_back.insert(call.name.clone());
                    }
                    _ => {}
                }
            }
        }
        calls
    }

    /// What became of this call before; from now on it counts as made.
    fn and(&mut self, call: &Call) -> Earlier {
        let same = |(name, arguments): &(Arc<str>, Value)| {
            *name == call.name && call.arguments.parse().is_ok_and(|own| own == *arguments)
        };
        let is_unknown = self.unknown.iter().any(same);
        let count = self.counts.entry((call.name.clone(), call.arguments.clone())).or_default();
        let calls = *count;
        *count = count.saturating_add(1);
        Earlier { calls, is_unknown, is_handed_back: self.handed_back.contains(&call.name) }
    }
}

/// Carves the budget of durable calls out again that others are still making.
fn carve_out_again(slot: &Slot, cx: &RunContext) {
    for limits in slot.pending().filter_map(durable_limits) {
        cx.run().carve_out(cx.lease().carve_out(carve_out(limits)));
    }
}

fn durable_limits(pending: &Pending) -> Option<&Limits> {
    match &pending.kind {
        PendingKind::DurableCall { limits, .. } => Some(limits),
        _ => None,
    }
}

/// The most that a durable call may spend, which is what is set aside for it.
pub(super) fn carve_out(limits: &Limits) -> Spend {
    Spend {
        tokens: limits.tokens.unwrap_or_default(),
        micro_usd: limits.micro_usd.unwrap_or_default(),
        model_calls: limits.model_calls.unwrap_or_default(),
        tool_calls: limits.tool_calls.unwrap_or_default(),
        ..Spend::ZERO
    }
}

/// Refuses to go on before anything happens when a suspended child is of a version that this agent does not have.
fn ensure_children_fit(agent: &Agent, open: &Open) -> Result<(), AgentError> {
    for (call, slot) in open.turn.reply().each_call().zip(&open.slots) {
        let Slot::Child(suspended) = slot else { continue };
        let Some(Callable::Agent(child)) = agent.functions.get(&call.name) else { continue };
        if slot.has_work() && !suspended.suspension.state.is_of(child.card()) {
            child.migrate(suspended.suspension.state.clone())?;
        }
    }
    Ok(())
}
