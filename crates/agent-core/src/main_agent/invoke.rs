//! Making an allowed call: the budget, the journal, the tool.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use tracing::Instrument;

use super::builder::Callable;
use super::slot::{Job, Settlement, Site, Worked, arguments_of, refuse};
use super::state::Progress;
use crate::agent_error::AgentError;
use crate::amount::Spend;
use crate::error::ErrorCode;
use crate::event::EventKind;
use crate::journal::Begun;
use crate::message::CallResult;
use crate::path::CallKey;
use crate::pending::PendingKind;
use crate::size::json_size_within;
use crate::sub_agent::{Begin, Dispatch};
use crate::telemetry::{record_error, task_span};
use crate::tool::{CallError, Tool, ToolOutput};

impl Site<'_> {
    /// Settles a call with a result that came from outside, which the journal gets too.
    pub(super) async fn keep(&self, job: &Job, progress: &Progress, result: CallResult) -> Worked {
        let result = self.presentable(result);
        if !self.spec.effect.is_journaled() {
            return Ok(Settlement::Settled(result));
        }
        let Ok(arguments) = arguments_of(job, progress) else { return Ok(Settlement::Settled(result)) };
        let (journal, key) = (self.cx.journal(), self.key(&arguments));
        match journal.begin(&key).await? {
            Begun::Finished(kept) => return Ok(Settlement::Settled(kept)),
            Begun::Conflict => return Ok(conflict()),
            Begun::Fresh | Begun::Unknown => journal.finish(&key, &result).await?,
        }
        Ok(Settlement::Settled(result))
    }

    fn key(&self, arguments: &Value) -> CallKey {
        CallKey::new(self.cx.run_id(), self.cx.path().clone(), &self.spec.name, arguments)
    }

    /// Makes an allowed call: counts it, asks the journal, runs it.
    pub(super) async fn make(&self, arguments: &Arc<Value>, progress: &mut Progress) -> Worked {
        // A call that is repeated was counted when it began.
        let count = if progress.repeat { Spend::ZERO } else { Spend::tool_call() };
        if let Err(exceeded) = self.cx.lease().charge(count) {
            return Ok(refuse("budget.exceeded", format!("the call is not made: {exceeded}")));
        }
        if let Callable::Agent(child) = self.callable
            && child.card().dispatch == Dispatch::Durable
        {
            return Box::pin(self.hand_over(&**child, arguments.clone(), progress)).await;
        }
        let key = self.spec.effect.is_journaled().then(|| Box::new(self.key(arguments)));
        if let Some(key) = key.as_deref().filter(|_| !progress.repeat) {
            match self.cx.journal().begin(key).await? {
                Begun::Fresh => {}
                Begun::Finished(result) => return Ok(Settlement::Settled(result)),
                Begun::Unknown if self.spec.effect.is_repeatable() => {}
                Begun::Unknown => return Box::pin(self.reconcile(key, arguments.clone(), progress)).await,
                Begun::Conflict => return Ok(conflict()),
            }
        }
        self.cx.emit_kind(|| EventKind::CallStarted {
            function: self.spec.name.clone(),
            arguments: arguments.to_string().into(),
        });
        let settlement = match self.callable {
            Callable::Tool(tool) => self.call_tool(&**tool, arguments, progress).await?,
            Callable::Agent(child) => {
                let begin = Begin::Start { input: arguments.clone() };
                Box::pin(self.run_agent(&**child, begin, progress)).await?
            }
        };
        if let (Some(key), Settlement::Settled(result)) = (key.as_deref(), &settlement) {
            self.cx.journal().finish(key, result).await?;
        }
        Ok(settlement)
    }

    /// A call began in another life of the run, and no result was kept: the tool may know, else a person has to say.
    async fn reconcile(&self, key: &CallKey, arguments: Arc<Value>, progress: &mut Progress) -> Worked {
        if let Callable::Tool(tool) = self.callable {
            let asked = AssertUnwindSafe((**tool).reconcile(&arguments, &self.cx)).catch_unwind();
            if let Ok(Ok(Some(result))) = self.cx.within_deadline(asked).await {
                self.cx.journal().finish(key, &result).await?;
                return Ok(Settlement::Settled(result));
            }
        }
        progress.asked += 1;
        let kind = PendingKind::UnknownOutcome { function: self.spec.name.clone(), arguments };
        Ok(self.wait(&format!("outcome-{}", progress.asked), kind, progress))
    }

    async fn call_tool(&self, tool: &dyn Tool, arguments: &Value, progress: &mut Progress) -> Worked {
        let span = task_span!(
            "execute_tool",
            self.cx,
            otel.name = %format_args!("execute_tool {}", self.spec.name),
            otel.kind = "internal",
            "gen_ai.operation.name" = "execute_tool",
            "gen_ai.tool.name" = &*self.spec.name,
            "gen_ai.tool.call.id" = %self.cx.path(),
            "gen_ai.tool.type" = "function",
        );
        let called = AssertUnwindSafe(tool.call(arguments, &self.cx)).catch_unwind();
        let result = match self.cx.within_deadline(called).instrument(span.clone()).await {
            Ok(Ok(Ok(ToolOutput::Done(value)))) => self.presentable(CallResult::done(value)),
            Ok(Ok(Ok(ToolOutput::Waits(kind)))) => return Ok(self.wait("result", kind, progress)),
            Ok(Ok(Err(error))) => self.tool_failure(error),
            Ok(Err(_panic)) => CallResult::failed(ErrorCode::new("call.panicked"), "the function failed"),
            Err(_deadline) => self.timed_out()?,
        };
        if let Some(failure) = result.failure() {
            record_error(&span, &failure.code);
        }
        Ok(Settlement::Settled(result))
    }

    fn tool_failure(&self, error: CallError) -> CallResult {
        let code = error.code();
        match error {
            CallError::Tell(message) => CallResult::failed(code, message),
            CallError::Internal(source) => {
                tracing::warn!(function = &*self.spec.name, path = %self.cx.path(), error = &*source, "a call failed");
                CallResult::failed(code, "the function failed")
            }
        }
    }

    /// A timeout of this call. The end of the whole run's time is not for the model.
    pub(super) fn timed_out(&self) -> Result<CallResult, AgentError> {
        self.cx.end();
        if self.above.time_left() == Some(Duration::ZERO) {
            return Err(AgentError::Deadline);
        }
        let message = "the function did not answer in time; whether it had an effect is unknown";
        Ok(CallResult::failed(ErrorCode::new("call.timeout"), message))
    }

    /// A result as the model may see it: of the declared schema, and not too large.
    pub(super) fn presentable(&self, result: CallResult) -> CallResult {
        let CallResult::Done(value) = &result else { return result };
        if let Some(violation) = self.spec.output.as_ref().and_then(|schema| schema.check(value).err()) {
            let message = format!("the result does not fit its schema: {violation}");
            return CallResult::failed(ErrorCode::new("call.invalid_result"), message);
        }
        let limit = self.agent.bounds.result_bytes;
        if json_size_within(value, limit).is_none() {
            let message = format!("the result is larger than {limit} bytes; ask for less");
            return CallResult::failed(ErrorCode::new("call.result_too_large"), message);
        }
        result
    }
}

fn conflict() -> Settlement {
    refuse("call.conflict", "another call was made at this place by a copy of this run; it is not made again")
}
