//! Making an allowed call: the budget, the journal, the tool.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::Value;
use tracing::Instrument;

use super::builder::Callable;
use super::call_state::{Progress, Slot, SuspendedCall};
use super::slot::{Settlement, Site, Worked, refuse};
use super::stop::{InFlight, Stop, Unnoted};
use crate::agent_error::AgentError;
use crate::amount::Spend;
use crate::budget::Reservation;
use crate::error::{ErrorCode, shorten};
use crate::event::EventKind;
use crate::journal::Begun;
use crate::message::CallResult;
use crate::path::CallKey;
use crate::pending::{Answer, PendingKind};
use crate::size::{MAX_LEVELS, is_too_deep, json_size_within};
use crate::sub_agent::Dispatch;
use crate::telemetry::{record_error, task_span};
use crate::tool::{CallError, Tool, ToolOutput};

/// What the journal knows of a call.
enum Known {
    Fresh,
    Unknown,
    Settled(Box<Settlement>),
}

/// The code of a call that did not answer in time.
pub(super) const TIMEOUT: &str = "call.timeout";

/// How many bytes of a function's own words the model reads.
pub(super) const MAX_MESSAGE: usize = 4_096;

impl Site<'_> {
    /// Settles a call with a result that came from outside, which the journal gets too.
    pub(super) async fn keep(&self, progress: &Progress, result: CallResult) -> Worked {
        let result = self.presentable(result);
        if !self.spec.effect.is_journaled() {
            return Ok(Settlement::Settled(result));
        }
        let Ok(arguments) = self.arguments(progress) else { return Ok(Settlement::Settled(result)) };
        let (journal, key) = (self.cx.journal(), self.key(&arguments, progress));
        match journal.begin(&key).await? {
            Begun::Finished(kept) => Ok(Settlement::Settled(kept)),
            Begun::Conflict => Ok(conflict()),
            Begun::Fresh | Begun::Unknown => Ok(self.finish(&key, result).await),
        }
    }

    /// Keeps a result, which stands even if the journal fails.
    async fn finish(&self, key: &CallKey, result: CallResult) -> Settlement {
        match self.cx.journal().finish(key, &result).await {
            Ok(()) => Settlement::Settled(result),
            Err(error) => Settlement::Unkept(result, error.into()),
        }
    }

    fn key(&self, arguments: &Value, progress: &Progress) -> CallKey {
        let key = CallKey::new(self.cx.run_id(), self.cx.path().clone(), &self.spec.name, arguments);
        // Odd numbers are for what is left at the end of the attempt before them.
        key.with_attempt(u32::from(progress.attempt) * 2)
    }

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
            Err(exceeded) => return Ok(refuse("budget.exceeded", format!("the call is not made: {exceeded}"))),
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

    /// What the journal, the tool or else a person has to say about a call that happened before, or may have.
    async fn known(
        &self,
        key: &CallKey,
        count: Option<Reservation>,
        arguments: &Arc<Value>,
        progress: &mut Progress,
        resumed: Option<&SuspendedCall>,
    ) -> Result<Option<Settlement>, AgentError> {
        let known = self.ask_journal(key).await?;
        counted(count);
        match known {
            Known::Settled(settlement) => Ok(Some(with_own_answers(*settlement, progress, resumed))),
            Known::Fresh if !progress.begun => Ok(None),
            Known::Fresh | Known::Unknown if self.spec.effect.is_repeatable() => Ok(None),
            Known::Fresh | Known::Unknown => {
                Box::pin(self.reconcile(key, arguments.clone(), progress, resumed)).await.map(Some)
            }
        }
    }

    /// Notes in the journal what became of a call.
    async fn note(&self, key: Box<CallKey>, settlement: Settlement) -> Worked {
        match settlement {
            Settlement::Settled(result) => {
                let unnoted = Unnoted::new(&self.cx, Stop::Made(result.clone()));
                let settlement = self.finish(&key, result).await;
                unnoted.end();
                Ok(settlement)
            }
            Settlement::Open(Slot::Child(left)) => Box::pin(self.leave(&key, left)).await,
            other => Ok(other),
        }
    }

    /// What the journal knows of a call, which begins unless it is known.
    async fn ask_journal(&self, key: &CallKey) -> Result<Known, AgentError> {
        Ok(match self.cx.journal().begin(key).await? {
            Begun::Fresh => Known::Fresh,
            Begun::Finished(result) => Known::Settled(Box::new(Settlement::Settled(result))),
            Begun::Conflict => Known::Settled(Box::new(conflict())),
            Begun::Unknown => match Box::pin(self.left(key)).await? {
                Some(left) => Known::Settled(Box::new(Settlement::Open(Slot::Child(left)))),
                None => Known::Unknown,
            },
        })
    }

    /// Keeps what a Sub-Agent left when it was suspended, so that a copy of the run goes on from there too.
    async fn leave(&self, key: &CallKey, left: Box<SuspendedCall>) -> Worked {
        let body = serde_json::to_value(&left).map_err(AgentError::internal)?;
        let unnoted = Unnoted::new(&self.cx, Stop::At(Slot::Child(left.clone())));
        self.cx.journal().finish(&suspension_of(key), &CallResult::done(body)).await?;
        unnoted.end();
        Ok(Settlement::Open(Slot::Child(left)))
    }

    /// What a Sub-Agent left in another copy of the run.
    async fn left(&self, key: &CallKey) -> Result<Option<Box<SuspendedCall>>, AgentError> {
        if let Callable::Agent(_) = self.callable
            && let Begun::Finished(CallResult::Done(body)) = self.cx.journal().begin(&suspension_of(key)).await?
        {
            return SuspendedCall::deserialize(&*body).map(|left| Some(Box::new(left))).map_err(AgentError::internal);
        }
        Ok(None)
    }

    /// What became of a call whose outcome was unknown, if the journal heard of it since.
    pub(super) async fn heard_since(
        &self,
        progress: &Progress,
        resumed: Option<&SuspendedCall>,
    ) -> Result<Option<Settlement>, AgentError> {
        let Ok(arguments) = self.arguments(progress) else { return Ok(None) };
        match self.ask_journal(&self.key(&arguments, progress)).await? {
            Known::Settled(settlement) => Ok(Some(with_own_answers(*settlement, progress, resumed))),
            Known::Fresh | Known::Unknown => Ok(None),
        }
    }

    /// What is known of a call that was stopped after it had begun, before anybody judges it anew.
    pub(super) async fn begun_before(&self, progress: &mut Progress) -> Result<Option<Settlement>, AgentError> {
        let Ok(arguments) = self.arguments(progress) else { return Ok(None) };
        let key = self.key(&arguments, progress);
        self.known(&key, None, &arguments, progress, None).await
    }

    pub(super) fn started(&self, arguments: &Value) -> EventKind {
        EventKind::CallStarted { function: self.spec.name.clone(), arguments: arguments.to_string().into() }
    }

    /// A call began in another life of the run, and no result was kept: the tool may know, else a person has to say.
    async fn reconcile(
        &self,
        key: &CallKey,
        arguments: Arc<Value>,
        progress: &mut Progress,
        resumed: Option<&SuspendedCall>,
    ) -> Worked {
        if let Callable::Tool(tool) = self.callable
            && let Some(result) = self.known_outcome(&**tool, &arguments).await
        {
            return Ok(self.finish(key, result).await);
        }
        progress.asked = progress.asked.saturating_add(1);
        let kind = PendingKind::UnknownOutcome { function: self.spec.name.clone(), arguments };
        let mut waiting = self.wait(&format!("outcome-{}", progress.asked), kind, progress);
        if let Settlement::Open(Slot::Waits(call)) = &mut waiting {
            call.suspended = resumed.cloned().map(Box::new);
        }
        Ok(waiting)
    }

    /// What became of a call, if the tool can find out.
    async fn known_outcome(&self, tool: &dyn Tool, arguments: &Value) -> Option<CallResult> {
        let asked = AssertUnwindSafe(tool.reconcile(arguments, &self.cx)).catch_unwind();
        let known = self.cx.within_deadline(asked).await.ok()?.ok()??;
        Some(self.presentable(known))
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
            CallError::Tell(message) => CallResult::failed(code, shorten(&message, MAX_MESSAGE)),
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
        let limit = self.agent.bounds.result_bytes;
        if json_size_within(value, limit).is_none() {
            let message = format!("the result is larger than {limit} bytes; ask for less");
            return CallResult::failed(ErrorCode::new("call.result_too_large"), message);
        }
        result
    }
}

/// What a Sub-Agent left in another copy of the run, with the answers that this copy has for it.
fn with_own_answers(mut known: Settlement, progress: &Progress, resumed: Option<&SuspendedCall>) -> Settlement {
    if let Settlement::Open(Slot::Child(left)) = &mut known {
        let waits = |answer: &&Answer| left.suspension.pending.iter().any(|pending| pending.id == answer.pending);
        left.answers = resumed.iter().flat_map(|call| &call.answers).filter(waits).cloned().collect();
        left.progress.asked = left.progress.asked.max(progress.asked);
    }
    known
}

/// The call begins.
fn counted(count: Option<Reservation>) {
    if let Some(count) = count {
        count.settle(Spend::tool_call());
    }
}

/// The key of what a Sub-Agent leaves when it is suspended.
fn suspension_of(key: &CallKey) -> CallKey {
    key.clone().with_attempt(key.attempt + 1)
}

fn conflict() -> Settlement {
    refuse("call.conflict", "another call was made at this place by a copy of this run; it is not made again")
}
