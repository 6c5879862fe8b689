//! A run of a Main Agent from its start, or from a saved state, to its outcome.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, field};

use super::builder::Agent;
use super::drive::{Ended, live};
use super::options::{Request, Resume, RunOptions};
use super::outcome::{Failure, Report, RunOutcome, Suspended};
use super::state::LoopState;
use super::{nested, wire};
use crate::agent_error::AgentError;
use crate::amount::Spend;
use crate::budget::{Lease, Limits, SavedLease};
use crate::caller::Caller;
use crate::conversation::Conversation;
use crate::error::InvalidValue;
use crate::event::{EventKind, Queue, ResultStatus, Sinks};
use crate::id::{RunId, TaskId};
use crate::identity::TraceId;
use crate::message::CallResult;
use crate::pending::{Answer, PendingId};
use crate::policy::{HintPolicy, Policies};
use crate::run_context::{Run, RunContext};
use crate::run_state::{ResumeError, RunState};
use crate::sub_agent::{AgentState, Suspension};
use crate::telemetry::{record_error, task_span};

/// How long a run may be active when nobody says otherwise.
const DEFAULT_TIME: Duration = Duration::from_secs(600);

/// What a run knows of itself besides its loop's state.
struct Lineage {
    run_id: RunId,
    task_id: TaskId,
    trace_id: TraceId,
    caller: Caller,
    /// How often the run was suspended before.
    revision: u64,
    answered: Vec<PendingId>,
    lease: SavedLease,
    time_left: Option<Duration>,
}

pub(super) async fn begin(
    agent: &Agent,
    request: Request,
    caller: Caller,
    queue: Option<Arc<Queue>>,
) -> Result<RunOutcome, Box<Failure>> {
    let _finish = FinishOnDrop(queue.clone());
    let Request { message, conversation, options } = request;
    if message.is_blank() {
        let error = InvalidValue::new("request", message.joined_text(), "a text that is not blank, or an attachment");
        return Err(refused(error.into(), conversation, None));
    }
    let run_id = RunId::random();
    let limits = options.limits.unwrap_or(agent.card.limits);
    let lineage = Lineage {
        run_id,
        task_id: options.task_id.unwrap_or_else(|| TaskId::from_uuid(run_id.as_uuid())),
        trace_id: options.trace_id.unwrap_or_else(|| TraceId::from_bytes(run_id.as_uuid().into_bytes())),
        caller,
        revision: 0,
        answered: Vec::new(),
        lease: SavedLease { limits, spent: Spend::ZERO },
        time_left: time_of(&limits),
    };
    let said_before = conversation.entries().len();
    let state = LoopState::new(conversation.say(message), said_before, 0, agent.bounds.attempts);
    supervise(agent, lineage, state, None, options, queue).await
}

pub(super) async fn resume(
    agent: &Agent,
    resume: Resume,
    queue: Option<Arc<Queue>>,
) -> Result<RunOutcome, Box<Failure>> {
    let _finish = FinishOnDrop(queue.clone());
    let Resume { state: saved, by, answers, options } = resume;
    let state = match admit_answers(agent, &saved, &by, &answers) {
        Ok(state) => state,
        Err(error) => {
            let conversation = nested::peek(agent, &saved.suspension.state).unwrap_or_default();
            return Err(refused(error, conversation, Some(saved)));
        }
    };
    let mut lineage = Lineage {
        run_id: saved.run_id,
        task_id: saved.task_id,
        trace_id: saved.trace_id,
        caller: saved.caller,
        revision: saved.revision,
        answered: saved.answered,
        lease: saved.lease,
        time_left: saved.time_left,
    };
    lineage.answered.extend(answers.iter().map(|answer| answer.pending.clone()));
    if let Some(limits) = options.limits {
        lineage.lease.limits = limits;
        lineage.time_left = time_of(&limits);
    }
    supervise(agent, lineage, state, Some(answers), options, queue).await
}

fn time_of(limits: &Limits) -> Option<Duration> {
    Some(limits.time.unwrap_or(DEFAULT_TIME))
}

/// Checks everything about `answers` before anything changes, and reads the state.
fn admit_answers(agent: &Agent, saved: &RunState, by: &Caller, answers: &[Answer]) -> Result<LoopState, AgentError> {
    saved.check_answers(by, answers)?;
    for answer in answers {
        let pending = saved.find(&answer.pending)?;
        let by_policy = agent.policy.as_deref().unwrap_or(&HintPolicy).may_answer(pending, &answer.by);
        if !by_policy || !nested::below_may_answer(agent, pending, &answer.by) {
            let user = answer.by.user.to_string();
            return Err(ResumeError::NotAllowed { pending: answer.pending.clone(), user }.into());
        }
    }
    nested::read_state(agent, saved.suspension.state.clone())
}

/// Runs the loop until it ends, the run is cancelled, or its time is over.
async fn supervise(
    agent: &Agent,
    lineage: Lineage,
    mut state: LoopState,
    revived: Option<Vec<Answer>>,
    options: RunOptions,
    queue: Option<Arc<Queue>>,
) -> Result<RunOutcome, Box<Failure>> {
    let time_over = lineage.time_left.and_then(|time| Instant::now().checked_add(time));
    let deadline = match (time_over, options.deadline) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let cancellation = options.cancellation.map_or_else(CancellationToken::new, |token| token.child_token());
    // What was handed to threads and tasks hears of the end, also when this future is dropped.
    let _guard = cancellation.clone().drop_guard();
    let run = Run {
        id: lineage.run_id,
        revision: lineage.revision,
        task: lineage.task_id,
        trace: lineage.trace_id,
        caller: lineage.caller.clone(),
        sinks: Sinks { observers: agent.observers.iter().chain(&options.observers).cloned().collect(), queue },
        journal: agent.journal.clone(),
        drain: options.drain.unwrap_or_default(),
        set_aside: Mutex::default(),
    };
    let policy = agent.policy.clone().unwrap_or_else(|| Arc::new(HintPolicy));
    let lease = Lease::restore(lineage.lease);
    let name = agent.card.id();
    let cx = RunContext::root(run, name, &agent.profile, Policies::of(policy), lease, deadline, cancellation.clone());
    let span = task_span!(
        "invoke_agent",
        cx,
        otel.name = %format_args!("invoke_agent {name}"),
        otel.kind = "internal",
        "gen_ai.operation.name" = "invoke_agent",
        "gen_ai.agent.id" = &**name,
        "gen_ai.agent.name" = &**name,
        "gen_ai.agent.version" = agent.card.version.as_str(),
        "gen_ai.request.model" = &*agent.model.info().name,
        "gen_ai.usage.total_tokens" = field::Empty,
        result_status = field::Empty,
        fallback_path = field::Empty,
    );

    let stopped = Box::pin(stopped(deadline, &cancellation));
    let working =
        Box::pin(AssertUnwindSafe(live(agent, &mut state, revived, &cx)).catch_unwind().instrument(span.clone()));
    // Work first: a run whose last step is ready ends with its result, not with a deadline that has just passed.
    let ended = match select(working, stopped).await {
        Either::Left((Ok(ended), _)) => ended,
        Either::Left((Err(_panic), _)) => Err(AgentError::Panicked),
        Either::Right((error, _)) => Err(error),
    };
    let spent = cx.lease().spent();
    span.record("gen_ai.usage.total_tokens", spent.tokens.0);
    match ended {
        Ok(Ended::Concluded(concluded)) => {
            let status = concluded.status();
            span.record("result_status", status.as_str());
            span.record("fallback_path", &*concluded.provenance.fallback_path());
            cx.emit_kind(|| EventKind::Finished {
                provenance: concluded.provenance.clone(),
                result_status: status,
                spent,
            });
            let conversation = state.into_conversation(&CallResult::not_made());
            Ok(RunOutcome::Completed(Report {
                run_id: lineage.run_id,
                output: concluded.output,
                status,
                provenance: concluded.provenance,
                finish: concluded.finish,
                conversation,
                spent,
            }))
        }
        Ok(Ended::Suspended) => {
            span.record("result_status", ResultStatus::Suspended.as_str());
            let pending = state.pending();
            let result_status = ResultStatus::Suspended;
            cx.emit_kind(|| EventKind::Suspended { pending: pending.len(), result_status, spent });
            match save(agent, lineage, &state, &cx) {
                Ok(saved) => {
                    let conversation = state.work.conversation().clone();
                    Ok(RunOutcome::Suspended(Box::new(Suspended { state: saved, conversation, spent })))
                }
                Err(error) => Err(failed(error, None, state, spent)),
            }
        }
        Err(error) => {
            record_error(&span, &error.code());
            let result_status = status_of(&error);
            span.record("result_status", result_status.as_str());
            cx.emit_kind(|| EventKind::Failed { code: error.code(), result_status, spent });
            let saved = save(agent, lineage, &state, &cx).ok();
            Err(failed(error, saved, state, spent))
        }
    }
}

/// Ends when the run must.
async fn stopped(deadline: Option<Instant>, cancellation: &CancellationToken) -> AgentError {
    let Some(deadline) = deadline else {
        cancellation.cancelled().await;
        return AgentError::Cancelled;
    };
    match tokio::time::timeout_at(deadline, cancellation.cancelled()).await {
        Ok(()) => AgentError::Cancelled,
        Err(_) => AgentError::Deadline,
    }
}

pub(super) fn status_of(error: &AgentError) -> ResultStatus {
    match error {
        AgentError::Cancelled => ResultStatus::Cancelled,
        _ => ResultStatus::Failed,
    }
}

/// The run as a value, for whoever resumes it.
fn save(agent: &Agent, lineage: Lineage, state: &LoopState, cx: &RunContext) -> Result<RunState, AgentError> {
    let body = wire::encode(state, &agent.table).map_err(AgentError::internal)?;
    let suspension = Suspension {
        state: AgentState::new(&agent.card, wire::SCHEMA, body),
        pending: state.pending(),
        runnable: state.is_runnable(),
    };
    Ok(RunState {
        run_id: lineage.run_id,
        revision: lineage.revision + 1,
        task_id: lineage.task_id,
        trace_id: lineage.trace_id,
        caller: lineage.caller,
        lease: cx.lease().save(),
        // Whole milliseconds, as it is saved.
        time_left: cx
            .time_left()
            .map(|left| Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))),
        answered: lineage.answered,
        suspension,
    })
}

/// A failure of a run that had begun.
fn failed(error: AgentError, saved: Option<RunState>, state: LoopState, spent: Spend) -> Box<Failure> {
    let not_made = CallResult::failed(error.code(), format!("the call was not finished: {error}"));
    Box::new(Failure { error, conversation: state.into_conversation(&not_made), spent, state: saved })
}

/// A failure before anything happened.
fn refused(error: AgentError, conversation: Conversation, state: Option<RunState>) -> Box<Failure> {
    let spent = state.as_ref().map(|state| state.lease.spent).unwrap_or_default();
    Box::new(Failure { error, conversation, spent, state })
}

/// Ends the stream of events when the run ends, however it does.
struct FinishOnDrop(Option<Arc<Queue>>);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            queue.finish();
        }
    }
}
