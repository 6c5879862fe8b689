//! Making an allowed call: counted, made, presented.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use tracing::Instrument;

use super::builder::Callable;
use super::call_state::{Progress, SuspendedCall};
use super::slot::{Settlement, Site, Worked, over_budget, refuse};
use super::stop::InFlight;
use crate::agent_error::AgentError;
use crate::amount::Spend;
use crate::budget::Reservation;
use crate::error::{ErrorCode, shorten};
use crate::event::EventKind;
use crate::message::CallResult;
use crate::pending::PendingKind;
use crate::size::{MAX_LEVELS, is_too_deep, json_size_within};
use crate::sub_agent::Dispatch;
use crate::telemetry::{record_error, task_span};
use crate::tool::{CallError, Tool, ToolOutput};

/// The code of a call that did not answer in time.
pub(super) const TIMEOUT: &str = "call.timeout";

/// How many bytes of a function's own words the model reads.
pub(super) const MAX_MESSAGE: usize = 4_096;

impl Site<'_> {
    /// Makes an allowed call, or goes on with one that was suspended, unless the journal knows that it happened before.
    pub(super) async fn make(
        &self,
        arguments: &Arc<Value>,
        progress: &mut Progress,
        resumed: Option<&SuspendedCall>,
    ) -> Worked {
        // A call is counted when it begins, on its caller's account: an agent's own ceilings are for what it does itself.
        let is_new = resumed.is_none() && !progress.begun;
        let count = match is_new.then(|| self.above.lease().try_reserve(Spend::tool_call())).transpose() {
            Ok(count) => count,
            Err(exceeded) => return Ok(over_budget(&exceeded)),
        };
        if let (Callable::Agent(child), None) = (self.callable, resumed)
            && child.card().dispatch == Dispatch::Durable
        {
            counted(count);
            return Box::pin(self.hand_over(&**child, arguments.clone(), progress)).await;
        }
        let key = self.spec.effect.is_journaled().then(|| Box::new(self.key(arguments, progress)));
        match key.as_deref() {
            Some(key) => {
                if let Some(known) = self.known(key, count, arguments, progress, resumed).await? {
                    return Ok(known);
                }
            }
            None => counted(count),
        }
        if resumed.is_none() {
            self.cx.emit_kind(|| self.started(arguments));
        }
        let settlement = match self.callable {
            Callable::Tool(tool) => self.call_tool(&**tool, arguments, progress).await?,
            Callable::Agent(child) => Box::pin(self.run_agent(&**child, arguments, progress, resumed)).await?,
        };
        match key {
            Some(key) => self.note(key, settlement).await,
            None => Ok(settlement),
        }
    }

    pub(super) fn started(&self, arguments: &Value) -> EventKind {
        EventKind::CallStarted { function: self.spec.name.clone(), arguments: arguments.to_string().into() }
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
        let mut in_flight = InFlight::new(self, progress, None);
        let result = match self.cx.within_deadline(called).instrument(span.clone()).await {
            Ok(Ok(Ok(ToolOutput::Done(value)))) => self.presentable(CallResult::done(value)),
            Ok(Ok(Ok(ToolOutput::Waits(kind)))) => {
                in_flight.end();
                drop(in_flight);
                return Ok(self.tool_waits(kind, progress));
            }
            Ok(Ok(Err(error))) => self.tool_failure(error),
            Ok(Err(_panic)) => CallResult::failed(ErrorCode::new("call.panicked"), "the function failed"),
            Err(_deadline) => self.timed_out()?,
        };
        in_flight.end();
        if let Some(failure) = result.failure() {
            record_error(&span, &failure.code);
        }
        Ok(Settlement::Settled(result))
    }

    fn tool_waits(&self, kind: PendingKind, progress: &mut Progress) -> Settlement {
        match kind {
            PendingKind::Question { .. } | PendingKind::External { .. } => self.wait("result", kind, progress),
            PendingKind::Approval { .. } | PendingKind::DurableCall { .. } | PendingKind::UnknownOutcome { .. } => {
                let message = format!("the function waits for `{}`, for which only the run itself waits", kind.name());
                refuse("call.invalid_wait", message)
            }
        }
    }

    fn tool_failure(&self, error: CallError) -> CallResult {
        let code = error.code();
        match error {
            CallError::Tell(message) | CallError::HandBack(message) => {
                CallResult::failed(code, shorten(&message, MAX_MESSAGE))
            }
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
        Ok(CallResult::failed(ErrorCode::new(TIMEOUT), message))
    }

    /// A result as the model may see it: of the declared schema, and not too large.
    pub(super) fn presentable(&self, result: CallResult) -> CallResult {
        let CallResult::Done(value) = &result else { return result };
        if is_too_deep(value) {
            let message = format!("the result nests deeper than {MAX_LEVELS} levels");
            return CallResult::failed(ErrorCode::new("call.invalid_result"), message);
        }
        if let Some(violation) = self.spec.output.as_ref().and_then(|schema| schema.check(value).err()) {
            let message = format!("the result does not fit its schema: {violation}");
            return CallResult::failed(ErrorCode::new("call.invalid_result"), message);
        }
        let limit = self.bounds.result_bytes;
        if json_size_within(value, limit).is_none() {
            let message = format!("the result is larger than {limit} bytes; ask for less");
            return CallResult::failed(ErrorCode::new("call.result_too_large"), message);
        }
        result
    }
}

/// The call begins.
pub(super) fn counted(count: Option<Reservation>) {
    if let Some(count) = count {
        count.settle(Spend::tool_call());
    }
}
