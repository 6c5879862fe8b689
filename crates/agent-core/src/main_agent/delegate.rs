//! Delegating to a Sub-Agent: inline, resumed, or as a task of its own.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::Value;
use tracing::Instrument;

use super::act::carve_out;
use super::builder::Callable;
use super::slot::{Job, Settlement, Site, Worked, refuse};
use super::state::{Progress, Slot, SuspendedCall};
use crate::agent_error::AgentError;
use crate::amount::{MicroUsd, Tokens};
use crate::budget::{Lease, Limits, Resource};
use crate::error::ErrorCode;
use crate::message::CallResult;
use crate::path::CallPath;
use crate::pending::PendingKind;
use crate::sub_agent::{Begin, Outcome, SubAgent, Suspension};
use crate::telemetry::{record_error, task_span};

impl Site<'_> {
    pub(super) async fn resume_child(&self, job: &Job, suspended: &SuspendedCall) -> Worked {
        let Callable::Agent(child) = self.callable else {
            let message = format!("`{}` is no Sub-Agent any more", self.spec.name);
            return Ok(refuse("call.function_gone", message));
        };
        let (mut state, mut progress) = (suspended.suspension.state.clone(), suspended.progress.clone());
        if !state.is_of(child.card()) {
            state = child.migrate(state)?;
        }
        let begin = Begin::Resume { state, answers: suspended.answers.clone() };
        let settlement = self.run_agent(&**child, begin, &mut progress).await?;
        match settlement {
            Settlement::Settled(result) => self.keep(job, &suspended.progress, result).await,
            open @ Settlement::Open(_) => Ok(open),
        }
    }

    pub(super) async fn run_agent(&self, child: &dyn SubAgent, begin: Begin, progress: &mut Progress) -> Worked {
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
        let running = AssertUnwindSafe(child.run(begin, &self.cx)).catch_unwind();
        let result = match self.cx.within_deadline(running).instrument(span.clone()).await {
            Ok(Ok(Ok(Outcome::Completed(value)))) => self.presentable(CallResult::done(value)),
            Ok(Ok(Ok(Outcome::Suspended(suspension)))) => return self.suspended(suspension, progress),
            Ok(Ok(Err(error))) => self.agent_failure(error)?,
            Ok(Err(_panic)) => CallResult::failed(ErrorCode::new("call.panicked"), "the agent failed"),
            Err(_deadline) => self.timed_out()?,
        };
        if let Some(failure) = result.failure() {
            record_error(&span, &failure.code);
        }
        Ok(Settlement::Settled(result))
    }

    /// What the model learns of a child's failure. Failures that concern the whole run are not for the model.
    fn agent_failure(&self, error: AgentError) -> Result<CallResult, AgentError> {
        match error {
            AgentError::Journal(_) | AgentError::State(_) => Err(error),
            AgentError::Cancelled if self.above.is_cancelled() => Err(error),
            AgentError::Deadline => self.timed_out(),
            AgentError::Internal(source) => {
                tracing::warn!(agent = &*self.spec.name, path = %self.cx.path(), error = &*source, "an agent failed");
                Ok(CallResult::failed(ErrorCode::new("run.internal"), "the agent failed"))
            }
            error => Ok(CallResult::failed(error.code(), error.to_string())),
        }
    }

    /// A child that waits: what it waits for must have come up in it or below it, or its answers could not find it.
    fn suspended(&self, suspension: Suspension, progress: &mut Progress) -> Worked {
        let is_inside = |path: &CallPath| path.starts_with(self.cx.path());
        let strays =
            suspension.pending.iter().any(|pending| pending.id.run != self.cx.run_id() || !is_inside(&pending.id.path));
        if strays || (suspension.pending.is_empty() && !suspension.runnable) {
            let message = "the agent waits for something that is not its own, or for nothing";
            return Ok(refuse("call.invalid_suspension", message));
        }
        let (lease, progress) = (self.cx.lease().save(), std::mem::take(progress));
        Ok(Settlement::Open(Slot::Child(Box::new(SuspendedCall { suspension, lease, progress, answers: Vec::new() }))))
    }

    /// Leaves a durable call to the orchestrator, with its budget set aside.
    pub(super) async fn hand_over(&self, child: &dyn SubAgent, input: Arc<Value>, progress: &mut Progress) -> Worked {
        let card = child.card();
        let limits = within(&card.limits, self.above.lease());
        match self.above.reserve(carve_out(&limits)).await {
            Ok(reservation) => self.cx.run().set_aside(reservation),
            Err(AgentError::Budget(exceeded)) => {
                return Ok(refuse("budget.exceeded", format!("the call is not made: {exceeded}")));
            }
            Err(error) => return Err(error),
        }
        let (agent, version) = (card.id().clone(), card.version.clone());
        Ok(self.wait("result", PendingKind::DurableCall { agent, version, input, limits }, progress))
    }
}

/// The ceilings of a durable call: its own, and where it has none, what its parent has left.
fn within(limits: &Limits, lease: &Lease) -> Limits {
    let left = |own: Option<u64>, resource| match (own, lease.unspent(resource)) {
        (Some(own), Some(left)) => Some(own.min(left)),
        (own, left) => own.or(left),
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
