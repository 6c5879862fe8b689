//! One call of a turn, from the model's wish to its one result.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::admit::{MAX_REPLACEMENTS, decided};
use super::builder::{Agent, Callable};
use super::state::{Progress, Slot};
use crate::agent_error::AgentError;
use crate::error::{ErrorCode, shorten};
use crate::event::EventKind;
use crate::function::FunctionSpec;
use crate::message::{Arguments, Call, CallResult};
use crate::path::CallPosition;
use crate::pending::{Answer, AnswerValue, PendingKind};
use crate::policy::{Action, Decision};
use crate::run_context::RunContext;

/// A call that there is something to do for.
pub(super) struct Job {
    pub(super) index: usize,
    pub(super) position: CallPosition,
    pub(super) call: Call,
    pub(super) slot: Slot,
    /// How often the same call was made before in this run.
    pub(super) repeated: usize,
}

/// How far a call came.
pub(super) enum Settlement {
    /// It has its result.
    Settled(CallResult),
    /// It goes on later.
    Open(Box<Slot>),
}

impl Settlement {
    pub(super) fn open(slot: Slot) -> Self {
        Self::Open(Box::new(slot))
    }
}

/// What every part of a call needs.
pub(super) struct Site<'a> {
    pub(super) agent: &'a Agent,
    pub(super) callable: &'a Callable,
    pub(super) spec: &'a FunctionSpec,
    /// The agent's context.
    pub(super) above: &'a RunContext,
    /// The call's context.
    pub(super) cx: RunContext,
}

/// Works on a call until it has a result or has to wait. An error is one that ends the whole run.
pub(super) async fn work(agent: &Agent, job: Job, above: &RunContext) -> (usize, Result<Settlement, AgentError>) {
    let index = job.index;
    let name = job.call.name.clone();
    let (settlement, cx) = route(agent, job, above).await;
    if let Ok(Settlement::Settled(result)) = &settlement {
        cx.emit_kind(|| EventKind::CallFinished { function: name, result: result.clone() });
    }
    (index, settlement)
}

/// Finds what is called and goes on from where the call stands.
async fn route(agent: &Agent, job: Job, above: &RunContext) -> (Result<Settlement, AgentError>, RunContext) {
    let Job { call, slot, position, .. } = &job;
    let Some(callable) = agent.functions.get(&call.name) else {
        return (Ok(Settlement::Settled(unknown_function(agent, call, slot))), above.for_call(*position, None));
    };
    let spec = callable.spec();
    let cx = match (callable, slot) {
        (Callable::Tool(_), _) => {
            let deadline = after(spec.timeout.unwrap_or(agent.bounds.tool_timeout));
            above.for_call(*position, deadline)
        }
        (Callable::Agent(child), slot) => {
            let card = child.card();
            let time = spec.timeout.or(card.limits.time).unwrap_or(agent.bounds.agent_timeout);
            let lease = match slot {
                Slot::Child { lease, .. } => above.lease().restore_child(*lease),
                _ => above.lease().child(card.limits),
            };
            above.for_agent(*position, after(time), card, lease)
        }
    };
    let site = Site { agent, callable, spec, above, cx: cx.clone() };
    let settlement = match slot {
        Slot::Ready(progress) => site.begin(&job, progress.clone()).await,
        Slot::Waits { pending, progress, answer: Some(answer) } => {
            cx.emit_kind(|| EventKind::Answered { answer: answer.clone().into() });
            site.answered(&job, &pending.kind, progress.clone(), answer.clone()).await
        }
        Slot::Child { suspension, progress, answers, .. } => {
            let (suspension, progress) = (suspension.clone(), progress.clone());
            site.resume_child(&job, suspension, progress, answers.clone()).await
        }
        Slot::Waits { answer: None, .. } | Slot::Settled => Ok(Settlement::open(slot.clone())),
    };
    (settlement, cx)
}

fn after(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

fn unknown_function(agent: &Agent, call: &Call, slot: &Slot) -> CallResult {
    let mut names: Vec<&str> = agent.specs.iter().map(|spec| &*spec.name).collect();
    names.sort_unstable();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let name = shorten(&call.name, 80);
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

pub(super) fn refuse(code: &'static str, message: impl Into<Arc<str>>) -> Settlement {
    Settlement::Settled(CallResult::failed(ErrorCode::new(code), message))
}

/// The arguments in use: what a policy or a person put in place, else the model's.
pub(super) fn arguments_of(call: &Call, progress: &Progress) -> Result<Arc<Value>, CallResult> {
    if let Some(replaced) = &progress.arguments {
        return Ok(replaced.clone());
    }
    match &call.arguments {
        Arguments::Json(value) => Ok(value.clone()),
        Arguments::Malformed { problem, .. } => {
            let message = format!("the arguments are no JSON: {problem}");
            Err(CallResult::failed(ErrorCode::new("call.malformed_arguments"), message))
        }
    }
}

impl Site<'_> {
    /// A call that is to be made: checks it, asks the policy, makes it.
    async fn begin(&self, job: &Job, mut progress: Progress) -> Result<Settlement, AgentError> {
        if let Some(refusal) = self.over_bounds(job) {
            return Ok(refusal);
        }
        let mut arguments = match arguments_of(&job.call, &progress) {
            Ok(arguments) => arguments,
            Err(result) => return Ok(Settlement::Settled(result)),
        };
        for _ in 0..MAX_REPLACEMENTS {
            if let Err(violation) = self.spec.input.check(&arguments) {
                let message = format!("the arguments do not fit the schema: {violation}");
                return Ok(refuse("call.invalid_arguments", message));
            }
            let approved_by = &progress.approved_by;
            let action = Action::Call { function: self.spec, arguments: &arguments, approved_by };
            match self.above.policies().decide(action, self.above).await {
                Decision::Allow => return self.make(arguments, progress).await,
                Decision::Replace(other) => {
                    decided(&self.cx, &self.spec.name, "replace", "");
                    arguments = Arc::new(other);
                    progress.arguments = Some(arguments.clone());
                    // Whoever agreed, agreed to other arguments.
                    progress.approved_by.clear();
                }
                Decision::Deny(reason) => {
                    decided(&self.cx, &self.spec.name, "deny", &reason);
                    return Ok(Settlement::Settled(CallResult::denied(&reason)));
                }
                Decision::Ask(reason) => {
                    decided(&self.cx, &self.spec.name, "ask", &reason);
                    return Ok(self.ask(arguments, &reason, progress));
                }
            }
        }
        Ok(refuse(
            "call.denied",
            format!("the policy replaced the arguments {MAX_REPLACEMENTS} times and did not decide"),
        ))
    }

    /// Bounds on the shape of a run. What passes one is told to the model.
    fn over_bounds(&self, job: &Job) -> Option<Settlement> {
        let bounds = &self.agent.bounds;
        if job.index >= bounds.fan_out as usize {
            return Some(refuse("call.fan_out", format!("only {} calls are made in one turn", bounds.fan_out)));
        }
        if job.repeated >= bounds.identical_calls as usize {
            let message = format!("this call was made {} times already with the same arguments", job.repeated);
            return Some(refuse("call.repeated", message));
        }
        let Callable::Agent(_) = self.callable else { return None };
        if self.cx.path().depth() > bounds.depth as usize {
            return Some(refuse("call.depth", format!("agents may nest {} calls deep", bounds.depth)));
        }
        let in_path = self.above.agents().iter().filter(|agent| **agent == self.spec.name).count();
        if in_path >= bounds.same_agent_in_path as usize {
            let message = format!("`{}` stands {in_path} times in this path of calls already", self.spec.name);
            return Some(refuse("call.same_agent", message));
        }
        None
    }

    fn ask(&self, arguments: Arc<Value>, reason: &str, mut progress: Progress) -> Settlement {
        progress.asked += 1;
        let kind = PendingKind::Approval {
            what: self.spec.name.clone(),
            proposed: arguments,
            reason: reason.into(),
            schema: Some(self.spec.input.as_value().clone()),
            approved_by: progress.approved_by.clone(),
        };
        self.wait(&format!("approval-{}", progress.asked), kind, progress)
    }

    pub(super) fn wait(&self, name: &str, kind: PendingKind, progress: Progress) -> Settlement {
        let pending = self.cx.pending(name, kind);
        self.cx.emit_kind(|| EventKind::Waiting { pending: pending.clone().into() });
        Settlement::open(Slot::Waits { pending, progress, answer: None })
    }

    /// Goes on with a call that waited.
    async fn answered(
        &self,
        job: &Job,
        waited_for: &PendingKind,
        mut progress: Progress,
        answer: Answer,
    ) -> Result<Settlement, AgentError> {
        match (waited_for, answer.value) {
            (PendingKind::Approval { .. } | PendingKind::UnknownOutcome { .. }, AnswerValue::Deny(reason)) => {
                Ok(Settlement::Settled(CallResult::denied(&reason)))
            }
            (PendingKind::Approval { .. }, AnswerValue::ApproveWith(arguments)) => {
                progress.arguments = Some(Arc::new(arguments));
                // Earlier consent was to other arguments.
                progress.approved_by = vec![answer.by];
                self.begin(job, progress).await
            }
            (PendingKind::Approval { .. }, _) => {
                progress.approved_by.push(answer.by);
                self.begin(job, progress).await
            }
            (PendingKind::UnknownOutcome { .. }, AnswerValue::Approve) => {
                progress.repeat = true;
                match arguments_of(&job.call, &progress) {
                    Ok(arguments) => self.make(arguments, progress).await,
                    Err(result) => Ok(Settlement::Settled(result)),
                }
            }
            (PendingKind::DurableCall { .. }, AnswerValue::Returned { result, spent }) => {
                self.above.lease().record(spent);
                self.keep(job, &progress, result).await
            }
            (_, value) => self.keep(job, &progress, value.into_result()).await,
        }
    }
}
