//! The step `act`: the calls of a turn are made, in parallel, each with exactly one result.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::builder::{Agent, Callable};
use super::drive::Next;
use super::slot::{self, Job, Settlement, Worked};
use super::state::{LoopState, Open, Slot, Work};
use crate::agent_error::AgentError;
use crate::amount::Spend;
use crate::budget::Limits;
use crate::conversation::{Entry, OpenTurn};
use crate::message::Call;
use crate::path::CallPosition;
use crate::pending::{Pending, PendingKind};
use crate::run_context::RunContext;

pub(super) async fn act(agent: &Agent, state: &mut LoopState, cx: &RunContext) -> Result<Next, AgentError> {
    let (turn, said_before) = (state.turn, state.said_before);
    let Work::Open(open) = &mut state.work else { return Ok(Next::Row) };
    ensure_children_fit(agent, open)?;

    let mut jobs = Vec::with_capacity(open.slots.iter().filter(|slot| slot.has_work()).count());
    let calls = open.turn.reply().each_call().cloned().zip(open.slots.iter().cloned());
    for (index, (call, slot)) in calls.enumerate() {
        if slot.has_work() {
            let position = CallPosition { turn, slot: u32::try_from(index).unwrap_or(u32::MAX) };
            let repeated = count_identical(&open.turn, said_before, index, &call);
            let Call { name, arguments, .. } = call;
            jobs.push(Job { index, position, name, arguments, slot, repeated });
        } else {
            set_aside(&slot, cx);
        }
    }

    let mut jobs = jobs.into_iter();
    let mut in_flight = FuturesUnordered::new();
    let mut fatal = None;
    let limit = agent.bounds.in_flight as usize;
    loop {
        // After a fatal failure, or when asked to drain, nothing new begins; what is in flight is not dropped.
        let may_begin = fatal.is_none() && !cx.run().is_draining();
        while may_begin && in_flight.len() < limit {
            let Some(job) = jobs.next() else { break };
            in_flight.push(slot::work(agent, job, cx));
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

/// Records how far a call came.
fn settle(open: &mut Open, index: usize, worked: Worked) -> Result<(), AgentError> {
    let slot = match worked? {
        Settlement::Settled(result) => {
            open.turn.settle(index, result).map_err(AgentError::internal)?;
            Slot::Settled
        }
        Settlement::Open(slot) => slot,
    };
    if let Some(place) = open.slots.get_mut(index) {
        *place = slot;
    }
    Ok(())
}

/// How often this call was made before in this run, in the turn's earlier slots included.
fn count_identical(turn: &OpenTurn, said_before: usize, index: usize, call: &Call) -> usize {
    let same = |other: &Call| other.name == call.name && other.arguments == call.arguments;
    let earlier = turn.conversation().entries().iter().skip(said_before).map(|entry| match entry {
        Entry::Agent(turn) => turn.reply().each_call().filter(|call| same(call)).count(),
        Entry::User(_) => 0,
    });
    earlier.sum::<usize>() + turn.reply().each_call().take(index).filter(|call| same(call)).count()
}

/// Sets the budget of durable calls aside that others are still making.
fn set_aside(slot: &Slot, cx: &RunContext) {
    for limits in slot.pending().filter_map(durable_limits) {
        cx.run().set_aside(cx.lease().hold(carve_out(limits)));
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
