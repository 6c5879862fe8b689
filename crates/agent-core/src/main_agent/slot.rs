//! One call of a turn, from the model's wish to its one result.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use serde_json::Value;
use tokio::time::Instant;

use super::admit::{MAX_REPLACEMENTS, agree, decided};
use super::bounds::Bounds;
use super::builder::Callable;
use super::call_state::{Progress, Slot, SuspendedCall, WaitingCall};
use crate::agent_error::AgentError;
use crate::budget::Exceeded;
use crate::error::{ErrorCode, shorten};
use crate::event::{EventKind, Verdict};
use crate::function::{Effect, FunctionSpec};
use crate::message::{Arguments, CallResult};
use crate::path::CallPosition;
use crate::pending::{AnswerValue, PendingKind};
use crate::policy::{Action, Decision};
use crate::run_context::RunContext;
use crate::size::{MAX_LEVELS, is_too_deep};
use crate::sub_agent::AgentState;

/// A call that there is something to do for.
pub(super) struct Job {
    pub(super) position: CallPosition,
    pub(super) arguments: Arguments,
    /// Whether the answer ended, before the model was done, where the arguments would have begun.
    pub(super) is_cut: bool,
    pub(super) slot: Slot,
    /// What became of the same call before in this run.
    pub(super) earlier: Earlier,
    /// How many calls the turn makes, this one included.
    pub(super) calls_of_turn: u32,
}

/// What became of calls with the same function and arguments before in a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Earlier {
    /// How many were made.
    pub(super) calls: u32,
    /// Whether of one of them nobody knows whether it happened.
    pub(super) is_unknown: bool,
    /// Whether the Sub-Agent handed the request back, whatever it was called with.
    pub(super) is_handed_back: bool,
}

/// The code of a call of which nobody knows whether it happened.
pub(super) const UNKNOWN_OUTCOME: &str = "call.unknown_outcome";

/// How far a call came.
pub(super) enum Settlement {
    /// It has its result.
    Settled(CallResult),
    /// It goes on later.
    Open(Slot),
    /// It has its result, and the journal failed to keep it: the run ends.
    Unkept(CallResult, AgentError),
}

/// What every part of a call needs.
pub(super) struct Site<'a> {
    pub(super) bounds: &'a Bounds,
    pub(super) callable: &'a Callable,
    pub(super) spec: &'a FunctionSpec,
    /// The agent's context.
    pub(super) above: &'a RunContext,
    /// The call's context.
    pub(super) cx: RunContext,
    pub(super) job: Job,
    /// When an agent's own time is over. Boxed, since most calls are of tools.
    until: Option<Box<Instant>>,
}

/// Works on a call until it has a result or has to wait. An error is one that ends the whole run.
///
/// Boxed, and with its rare ways boxed once more: many runs have a call in flight at once, and most of their calls are plain.
pub(super) fn work<'a>(
    functions: &'a BTreeMap<Arc<str>, Callable>,
    may_use: impl Fn(&str) -> bool,
    bounds: &'a Bounds,
    name: &Arc<str>,
    job: Job,
    above: &'a RunContext,
) -> BoxFuture<'a, (usize, Worked)> {
    let Some(callable) = functions.get(name).filter(|_| may_use(name)) else {
        let known = functions.keys().map(|name| &**name).filter(|name| may_use(name)).collect();
        let result = unknown_function(known, name, &job.slot);
        finished(name, &result, &above.for_call(job.position, None));
        return Box::pin(ready((job.position.slot as usize, Ok(Settlement::Settled(result)))));
    };
    let site = Site::new(bounds, callable, job, above);
    Box::pin(async move {
        let end = site.cx.end_on_drop();
        // A panic of the host's policy or journal ends the run, but not the calls beside this one.
        let worked = AssertUnwindSafe(site.go_on()).catch_unwind().await.unwrap_or(Err(AgentError::Panicked));
        end.disarm();
        let worked = worked.inspect(|settlement| {
            if let Settlement::Settled(result) | Settlement::Unkept(result, _) = settlement {
                finished(&site.spec.name, result, &site.cx);
            }
        });
        (site.job.position.slot as usize, worked)
    })
}

/// How far a call came, or what ends the whole run.
pub(super) type Worked = Result<Settlement, AgentError>;

fn finished(function: &Arc<str>, result: &CallResult, cx: &RunContext) {
    cx.emit_kind(|| EventKind::CallFinished { function: function.clone(), result: result.clone() });
}

fn unknown_function(names: Vec<&str>, name: &str, slot: &Slot) -> CallResult {
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let name = shorten(name, 80);
    match slot {
        Slot::Ready(progress) if *progress == Progress::default() => {
            let message = format!("there is no function `{name}`; there are: {names}");
            CallResult::failed(ErrorCode::new("call.unknown_function"), message)
        }
        _ => {
            let message = format!("the function `{name}` is gone since the call was made; there are: {names}");
            CallResult::failed(ErrorCode::new("call.function_gone"), message)
        }
    }
}

pub(super) fn over_budget(exceeded: &Exceeded) -> Settlement {
    refuse("budget.exceeded", format!("the call is not made: {exceeded}"))
}

pub(super) fn refuse(code: &'static str, message: impl Into<Arc<str>>) -> Settlement {
    Settlement::Settled(CallResult::failed(ErrorCode::new(code), message))
}

impl<'a> Site<'a> {
    fn new(bounds: &'a Bounds, callable: &'a Callable, job: Job, above: &'a RunContext) -> Self {
        let spec = callable.spec();
        let suspended = job.slot.suspended();
        let time = match callable {
            Callable::Tool(_) => spec.timeout.unwrap_or(bounds.tool_timeout),
            Callable::Agent(child) => {
                let whole = spec.timeout.or(child.card().limits.time).unwrap_or(bounds.agent_timeout);
                suspended.and_then(|call| call.remaining_ms).map_or(whole, Duration::from_millis)
            }
        };
        let until = Instant::now().checked_add(time);
        let (cx, until) = match callable {
            Callable::Tool(_) => (above.for_call(job.position, until), None),
            Callable::Agent(child) => {
                let card = child.card();
                let lease = match suspended {
                    Some(call) => above.lease().restore_child(call.lease),
                    None => above.lease().child(card.limits),
                };
                (above.for_agent(job.position, until, card, lease), until.map(Box::new))
            }
        };
        Self { bounds, callable, spec, above, cx, job, until }
    }

    /// The arguments in use: what a policy or a person put in place, else the model's.
    pub(super) fn arguments(&self, progress: &Progress) -> Result<Arc<Value>, CallResult> {
        if let Some(replaced) = &progress.arguments {
            return Ok(replaced.clone());
        }
        let malformed = |message: String| CallResult::failed(ErrorCode::new("call.malformed_arguments"), message);
        if self.job.is_cut {
            return Err(malformed("the answer ended before the arguments began".to_owned()));
        }
        let parsed = self.job.arguments.parse().map(Arc::new);
        parsed.map_err(|problem| malformed(format!("the arguments are no JSON: {problem}")))
    }

    /// How much of the call's own time is left, in milliseconds.
    pub(super) fn remaining_ms(&self) -> Option<u64> {
        let left = self.until.as_deref()?.saturating_duration_since(Instant::now());
        Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    /// Whether the function here is the agent that saved `state`.
    pub(super) fn is_own(&self, state: &AgentState) -> bool {
        matches!(self.callable, Callable::Agent(child) if state.is_of(child.card()))
    }

    /// Goes on from where the call stands.
    async fn go_on(&self) -> Worked {
        match &self.job.slot {
            Slot::Ready(progress) => {
                let mut progress = progress.clone();
                self.begin(&mut progress).await
            }
            Slot::Waits(waiting) => Box::pin(self.answered(waiting)).await,
            Slot::Child(suspended) => Box::pin(self.resume_child(suspended)).await,
            Slot::Settled => Ok(Settlement::Open(Slot::Settled)),
        }
    }

    /// A call that is to be made: checks it, asks the policy, makes it.
    async fn begin(&self, progress: &mut Progress) -> Worked {
        if progress.begun
            && self.spec.effect.is_journaled()
            && let Some(known) = Box::pin(self.begun_before(progress)).await?
        {
            return Ok(known);
        }
        let arguments = match self.admitted(progress).await {
            Ok(arguments) => arguments,
            Err(settlement) => return Ok(settlement),
        };
        self.make(&arguments, progress, None).await
    }

    /// The arguments with which the call may be made.
    async fn admitted(&self, progress: &mut Progress) -> Result<Arc<Value>, Settlement> {
        if let Some(refusal) = self.over_bounds() {
            return Err(refusal);
        }
        let mut arguments = self.arguments(progress).map_err(Settlement::Settled)?;
        for _ in 0..MAX_REPLACEMENTS {
            if is_too_deep(&arguments) {
                let message = format!("the arguments nest deeper than {MAX_LEVELS} levels");
                return Err(refuse("call.malformed_arguments", message));
            }
            if let Err(violation) = self.spec.input.check(&arguments) {
                let message = format!("the arguments do not fit the schema: {violation}");
                return Err(refuse("call.invalid_arguments", message));
            }
            let approved_by = &progress.approved_by;
            let action = Action::Call { function: self.spec, arguments: &arguments, approved_by };
            match self.above.policies().decide(action, self.above).await {
                Decision::Allow => return Ok(arguments),
                Decision::Replace(other) if other == *arguments => return Ok(arguments),
                Decision::Replace(other) => {
                    decided(&self.cx, &self.spec.name, Verdict::Replace, "");
                    arguments = Arc::new(other);
                    progress.arguments = Some(arguments.clone());
                    // Whoever agreed, agreed to other arguments.
                    progress.approved_by.clear();
                }
                Decision::Deny(reason) => {
                    decided(&self.cx, &self.spec.name, Verdict::Deny, &reason);
                    return Err(Settlement::Settled(CallResult::denied(&reason)));
                }
                Decision::Ask(reason) => {
                    decided(&self.cx, &self.spec.name, Verdict::Ask, &reason);
                    return Err(self.ask(arguments, &reason, progress));
                }
            }
        }
        let message = format!("the policy replaced the arguments {MAX_REPLACEMENTS} times and did not decide");
        Err(refuse("call.denied", message))
    }

    /// Bounds on the shape of a run. What passes one is told to the model.
    fn over_bounds(&self) -> Option<Settlement> {
        let (bounds, job) = (self.bounds, &self.job);
        if job.position.slot >= bounds.fan_out {
            return Some(refuse("call.fan_out", format!("only {} calls are made in one turn", bounds.fan_out)));
        }
        if job.earlier.is_unknown && !matches!(self.spec.effect, Effect::ReadOnly | Effect::Idempotent) {
            let message = "the same call began before and may have happened: it is not made again";
            return Some(refuse(UNKNOWN_OUTCOME, message));
        }
        if job.earlier.calls >= bounds.identical_calls {
            let message = format!("this call was made {} times already with the same arguments", job.earlier.calls);
            return Some(refuse("call.repeated", message));
        }
        let Callable::Agent(_) = self.callable else { return None };
        if job.earlier.is_handed_back {
            let message = format!("`{}` handed the request back: it is not called again", self.spec.name);
            return Some(refuse("call.handed_back", message));
        }
        let depth = bounds.depth.min(self.cx.run().depth);
        if self.cx.path().depth() > depth as usize {
            return Some(refuse("call.depth", format!("agents may nest {depth} calls deep")));
        }
        let in_path = self.above.agents().iter().filter(|agent| **agent == self.spec.name).count();
        if in_path >= bounds.same_agent_in_path as usize {
            let message = format!("`{}` stands {in_path} times in this path of calls already", self.spec.name);
            return Some(refuse("call.same_agent", message));
        }
        None
    }

    fn ask(&self, arguments: Arc<Value>, reason: &str, progress: &mut Progress) -> Settlement {
        progress.asked = progress.asked.saturating_add(1);
        let kind = PendingKind::Approval {
            what: self.spec.name.clone(),
            proposed: arguments,
            reason: reason.into(),
            schema: Some(self.spec.input.as_value().clone()),
            approved_by: progress.approved_by.clone(),
        };
        self.wait(&format!("approval-{}", progress.asked), kind, progress)
    }

    pub(super) fn wait(&self, name: &str, kind: PendingKind, progress: &mut Progress) -> Settlement {
        let progress = std::mem::take(progress);
        let pending = self.cx.pending(name, kind);
        self.cx.emit_kind(|| EventKind::Waiting { pending: pending.clone().into() });
        Settlement::Open(Slot::Waits(Box::new(WaitingCall { pending, progress, answer: None, suspended: None })))
    }

    /// Goes on with a call that waited, if its answer has come.
    async fn answered(&self, waiting: &WaitingCall) -> Worked {
        let Some(answer) = waiting.answer.clone() else { return Ok(Settlement::Open(self.job.slot.clone())) };
        self.cx.emit_kind(|| EventKind::Answered { answer: answer.clone().into() });
        let mut progress = waiting.progress.clone();
        if let (PendingKind::UnknownOutcome { .. }, AnswerValue::Approve | AnswerValue::Deny(_)) =
            (&waiting.pending.kind, &answer.value)
            && let Some(settlement) = self.heard_since(&progress, waiting.suspended.as_deref()).await?
        {
            return Ok(settlement);
        }
        match (&waiting.pending.kind, answer.value) {
            (PendingKind::Approval { .. }, AnswerValue::Deny(reason)) => {
                Ok(Settlement::Settled(CallResult::denied(&reason)))
            }
            (PendingKind::UnknownOutcome { .. }, AnswerValue::Deny(reason)) => {
                Ok(refuse(UNKNOWN_OUTCOME, format!("nobody knows whether the call was made: {reason}")))
            }
            (PendingKind::Approval { .. }, AnswerValue::ApproveWith(arguments)) => {
                progress.arguments = Some(Arc::new(arguments));
                // Earlier consent was to other arguments.
                progress.approved_by = vec![answer.by];
                self.begin(&mut progress).await
            }
            (PendingKind::Approval { .. }, _) => {
                agree(&mut progress.approved_by, answer.by);
                self.begin(&mut progress).await
            }
            (PendingKind::UnknownOutcome { .. }, AnswerValue::Approve) => {
                progress.next_attempt();
                match &waiting.suspended {
                    Some(suspended) => self.resume_child(&SuspendedCall { progress, ..(**suspended).clone() }).await,
                    None => self.begin(&mut progress).await,
                }
            }
            (PendingKind::DurableCall { .. }, AnswerValue::Returned { result, spent }) => {
                let kept = self.keep(&progress, result).await?;
                self.above.lease().record(spent);
                Ok(kept)
            }
            (_, value) => self.keep(&progress, value.into_result()).await,
        }
    }
}
