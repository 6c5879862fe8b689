//! Delegating to a Sub-Agent: inline, resumed, or as a task of its own.

use std::mem;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::Value;
use tracing::Instrument;

use super::act::carve_out;
use super::builder::Callable;
use super::call_state::{Progress, Slot, SuspendedCall};
use super::invoke::MAX_MESSAGE;
use super::slot::{Settlement, Site, Worked, over_budget, refuse};
use super::stop::InFlight;
use crate::agent_error::AgentError;
use crate::amount::{MicroUsd, Tokens};
use crate::budget::{Lease, Limits, Resource};
use crate::error::{ErrorCode, shorten};
use crate::event::EventKind;
use crate::message::CallResult;
use crate::pending::{Answer, Pending, PendingKind};
use crate::sub_agent::{Begin, Outcome, SubAgent, Suspension};
use crate::telemetry::{record_error, task_span};

impl Site<'_> {
    pub(super) async fn resume_child(&self, suspended: &SuspendedCall) -> Worked {
        let Callable::Agent(child) = self.callable else {
            let message = format!("`{}` is no Sub-Agent any more", self.spec.name);
            return Ok(refuse("call.function_gone", message));
        };
        let mut progress = suspended.progress.clone();
        let brought_over;
        let suspended = if self.is_own(&suspended.suspension.state) {
            suspended
        } else {
            let mut call = suspended.clone();
            call.suspension.state = child.migrate(call.suspension.state)?;
            brought_over = call;
            &brought_over
        };
        let arguments = match self.arguments(&progress) {
            Ok(arguments) => arguments,
            Err(result) => return Ok(Settlement::Settled(result)),
        };
        let tells = |answer: &&Answer| self.cx.tells_for(&answer.pending, self.spec.effect);
        for answer in suspended.answers.iter().filter(tells) {
            self.cx.emit_kind(|| EventKind::Answered { answer: answer.clone().into() });
        }
        self.make(&arguments, &mut progress, Some(suspended)).await
    }

    pub(super) async fn run_agent(
        &self,
        child: &dyn SubAgent,
        arguments: &Arc<Value>,
        progress: &mut Progress,
        resumed: Option<&SuspendedCall>,
    ) -> Worked {
        let card = child.card();
        let span = task_span!(
            "invoke_agent",
            self.cx,
            otel.name = %format_args!("invoke_agent {}", card.id()),
            otel.kind = "internal",
            "gen_ai.operation.name" = "invoke_agent",
            "gen_ai.agent.id" = &**card.id(),
            "gen_ai.agent.name" = &**card.id(),
            "gen_ai.agent.version" = card.version.as_str(),
        );
        let begin = match resumed {
            None => Begin::Start { input: arguments.clone() },
            Some(call) => Begin::Resume { state: call.suspension.state.clone(), answers: call.answers.clone() },
        };
        let running = AssertUnwindSafe(child.run(begin, &self.cx)).catch_unwind();
        let mut in_flight = InFlight::new(self, progress, resumed);
        let result = match self.cx.within_deadline(running).instrument(span.clone()).await {
            Ok(Ok(Ok(Outcome::Completed(value)))) => self.presentable(CallResult::done(value)),
            Ok(Ok(Ok(Outcome::Suspended(suspension)))) => {
                in_flight.end();
                let known = resumed.map_or(&[][..], |resumed| &resumed.suspension.pending);
                return Ok(self.suspended(suspension, in_flight.progress, known));
            }
            Ok(Ok(Err(error))) => self.agent_failure(error)?,
            Ok(Err(_panic)) => CallResult::failed(ErrorCode::new("call.panicked"), "the agent failed"),
            Err(_deadline) => self.timed_out()?,
        };
        in_flight.end();
        if let Some(failure) = result.failure() {
            record_error(&span, &failure.code);
        }
        Ok(Settlement::Settled(result))
    }

    /// What the model learns of a child's failure. Failures that concern the whole run are not for the model.
    fn agent_failure(&self, error: AgentError) -> Result<CallResult, AgentError> {
        match error {
            AgentError::Journal(_) | AgentError::State(_) | AgentError::Panicked => Err(error),
            AgentError::Cancelled if self.above.is_cancelled() => Err(error),
            AgentError::Deadline => self.timed_out(),
            AgentError::Internal(source) => {
                tracing::warn!(agent = &*self.spec.name, path = %self.cx.path(), error = &*source, "an agent failed");
                Ok(CallResult::failed(ErrorCode::new("run.internal"), "the agent failed"))
            }
            error => Ok(CallResult::failed(error.code(), shorten(&error.to_string(), MAX_MESSAGE))),
        }
    }

    /// A child that waits: each of its waits must have come up in it or below it, once, or its answer could not find it.
    fn suspended(&self, suspension: Suspension, progress: &mut Progress, known: &[Pending]) -> Settlement {
        if !self.cx.can_route(&suspension) {
            let message =
                "the agent waits for nothing, for something that is not its own, or for something a second time";
            return refuse("call.invalid_suspension", message);
        }
        self.cx.tell_waits(&suspension, known, self.spec.effect);
        let mut progress = mem::take(progress);
        progress.next_attempt();
        Settlement::Open(Slot::Child(Box::new(self.suspended_call(suspension, progress))))
    }

    /// The call as it goes on later, with what is left of the Sub-Agent's budget and time.
    pub(super) fn suspended_call(&self, suspension: Suspension, progress: Progress) -> SuspendedCall {
        let (lease, remaining_ms) = (self.cx.lease().save(), self.remaining_ms());
        SuspendedCall { suspension, lease, remaining_ms, progress, answers: Vec::new() }
    }

    /// Leaves a durable call to the orchestrator, with its budget carved out.
    pub(super) async fn hand_over(&self, child: &dyn SubAgent, input: Arc<Value>, progress: &mut Progress) -> Worked {
        let card = child.card();
        let mut limits = card.limits;
        let clamped = || {
            limits = within(&card.limits, self.above.lease(), self.job.calls_of_turn);
            Ok(carve_out(&limits))
        };
        match self.above.reserve_clamped(clamped).await {
            Ok(reservation) => self.cx.run().carve_out(reservation.into_carve_out()),
            Err(AgentError::Budget(exceeded)) => return Ok(over_budget(&exceeded)),
            Err(error) => return Err(error),
        }
        self.cx.emit_kind(|| self.started(&input));
        let (agent, version) = (card.id().clone(), card.version.clone());
        Ok(self.wait("result", PendingKind::DurableCall { agent, version, input, limits }, progress))
    }
}

/// The ceilings of a durable call: its own, and where it has none, its share of what its parent has left among the calls of the
/// turn: they are made side by side.
fn within(limits: &Limits, lease: &Lease, calls: u32) -> Limits {
    let left = |own: Option<u64>, resource| match (own, lease.unspent(resource)) {
        (Some(own), Some(left)) => Some(own.min(left)),
        (Some(own), None) => Some(own),
        (None, _) => lease.share(resource, calls),
    };
    let as_calls = |calls: u64| u32::try_from(calls).unwrap_or(u32::MAX);
    Limits {
        tokens: left(limits.of(Resource::Tokens), Resource::Tokens).map(Tokens),
        micro_usd: left(limits.of(Resource::MicroUsd), Resource::MicroUsd).map(MicroUsd),
        model_calls: left(limits.of(Resource::ModelCalls), Resource::ModelCalls).map(as_calls),
        tool_calls: left(limits.of(Resource::ToolCalls), Resource::ToolCalls).map(as_calls),
        time: limits.time,
    }
}
