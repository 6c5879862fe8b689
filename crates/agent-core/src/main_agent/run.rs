//! A run of a Main Agent, from what it begins or goes on with to its outcome.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, field};

use super::builder::Agent;
use super::drive::{Ended, live};
use super::life::Life;
use super::nested;
use super::outcome::{Failure, Report, RunOutcome, Suspended};
use super::replay;
use super::state::LoopState;
use super::step::Stage;
use crate::agent_error::AgentError;
use crate::amount::Spend;
use crate::budget::Lease;
use crate::event::{EventKind, Queue, ResultStatus, Sinks};
use crate::message::CallResult;
use crate::pending::Answer;
use crate::policy::{HintPolicy, Policies};
use crate::run_context::{Run, RunContext};
use crate::run_state::RunState;
use crate::telemetry::{record_error, task_span};

/// Runs the loop until it ends, the run is cancelled, or its time is over.
pub(super) async fn supervise(
    agent: &Agent,
    life: Box<Life>,
    queue: Option<Arc<Queue>>,
) -> Result<RunOutcome, Box<Failure>> {
    let Opened { cx, mut state, revived, token } = open(agent, life, queue);
    let _end = cx.end_on_drop();
    let span = span(agent, &cx);
    let working = live(agent, &mut state, revived, &cx).instrument(span.clone());
    let ended = cx.until_stopped(token, working).await;
    // Nothing of what it ended with is kept across the wait, since there are many runs.
    let failure = match conclude(agent, *state, ended, &cx, &span) {
        Ok(outcome) => return Ok(outcome),
        Err(failure) => failure,
    };
    match &agent.dead_letters {
        Some(letters) if replay::is_for_good(&failure.error) => {
            Err(Box::pin(replay::keep(&**letters, failure, &cx)).await)
        }
        _ => Err(failure),
    }
}

/// What stays of a [`Life`] while the run goes on.
struct Opened {
    cx: RunContext,
    state: Box<LoopState>,
    revived: Option<Vec<Answer>>,
    token: Option<CancellationToken>,
}

/// Makes the context of a run's Main Agent.
fn open(agent: &Agent, life: Box<Life>, queue: Option<Arc<Queue>>) -> Opened {
    let Life { state, answered, revived, options, .. } = *life;
    let time_over = life.time_left.and_then(|time| Instant::now().checked_add(time));
    let run = Run {
        id: life.run_id,
        revision: life.revision,
        task: life.task_id,
        trace: life.trace_id,
        caller: life.caller,
        sinks: Sinks { observers: agent.observers.iter().cloned().chain(options.observers).collect(), queue },
        journal: agent.journal.clone(),
        drain: options.drain,
        time_over,
        answered: answered.into(),
        depth: agent.bounds.depth,
        stopping: AtomicBool::default(),
        aside: OnceLock::new(),
    };
    let deadline = run.deadline(options.deadline);
    let policy = agent.policy.clone().unwrap_or_else(|| Arc::new(HintPolicy));
    let token = options.cancellation;
    let lease = Lease::restore(life.lease);
    let policies = Policies::of(policy);
    let cx = RunContext::root(run, agent.card.id(), &agent.profile, policies, lease, deadline, token.clone());
    Opened { cx, state, revived, token }
}

fn span(agent: &Agent, cx: &RunContext) -> Span {
    let name = agent.card.id();
    task_span!(
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
    )
}

/// What the host gets: a report, a suspension or a failure, each with a valid conversation.
fn conclude(
    agent: &Agent,
    mut state: LoopState,
    ended: Result<Ended, AgentError>,
    cx: &RunContext,
    span: &Span,
) -> Result<RunOutcome, Box<Failure>> {
    let spent = cx.lease().spent();
    span.record("gen_ai.usage.total_tokens", spent.tokens.0);
    let error = match ended {
        Ok(Ended::Concluded(concluded)) => {
            let status = concluded.status();
            span.record("result_status", status.as_str());
            span.record("fallback_path", &*concluded.provenance.fallback_path());
            cx.emit_kind(|| EventKind::finished(concluded.provenance.clone(), status, spent));
            return Ok(RunOutcome::Completed(Report {
                run_id: cx.run_id(),
                output: concluded.output,
                status,
                provenance: concluded.provenance,
                finish: concluded.finish,
                conversation: state.into_conversation(&CallResult::not_made()),
                spent,
            }));
        }
        Ok(Ended::Suspended) => match save(agent, &state, cx) {
            Ok(saved) => {
                span.record("result_status", ResultStatus::Suspended.as_str());
                cx.emit_kind(|| EventKind::suspended(saved.pending().len(), spent));
                let conversation = state.work.conversation().clone();
                let attempts = state.attempts.clone();
                return Ok(RunOutcome::Suspended(Box::new(Suspended { state: saved, conversation, spent, attempts })));
            }
            Err(error) => error,
        },
        Err(error) => error,
    };
    record_error(span, &error.code());
    span.record("result_status", ResultStatus::of(&error).as_str());
    cx.emit_kind(|| EventKind::failed(&error, spent));
    state.stop(cx, agent.bounds.attempts);
    // What was refused stays refused.
    let saved = if matches!(error, AgentError::Denied { .. }) { None } else { save(agent, &state, cx).ok() };
    if agent.table.stage(state.at) == Some(Stage::Admit) && saved.is_none() {
        state.take_back_request();
    }
    Err(failed(error, saved, state, spent))
}

/// The run as a value, for whoever resumes it.
fn save(agent: &Agent, state: &LoopState, cx: &RunContext) -> Result<RunState, AgentError> {
    Ok(RunState::of(cx, nested::suspension(agent, state)?))
}

fn failed(error: AgentError, saved: Option<RunState>, state: LoopState, spent: Spend) -> Box<Failure> {
    let not_made = CallResult::failed(error.code(), format!("the call was not finished: {error}"));
    let attempts = state.attempts.clone();
    let conversation = state.into_conversation(&not_made);
    Box::new(Failure { error, conversation, spent, attempts, dead_letter: None, state: saved })
}
