//! What a run begins or goes on with, checked before anything happens.

use std::time::Duration;

use super::builder::Agent;
use super::nested;
use super::options::{Request, Resume, RunOptions};
use super::outcome::Failure;
use super::state::LoopState;
use crate::agent_error::AgentError;
use crate::amount::Spend;
use crate::budget::{Limits, SavedLease};
use crate::caller::Caller;
use crate::conversation::Conversation;
use crate::error::InvalidValue;
use crate::id::{RunId, TaskId};
use crate::identity::TraceId;
use crate::pending::{Answer, PendingId};
use crate::policy::HintPolicy;
use crate::run_state::RunState;

/// How long a run may be active when nobody says otherwise.
const DEFAULT_TIME: Duration = Duration::from_secs(600);

/// A run that is about to begin, or to go on.
pub(super) struct Life {
    pub(super) run_id: RunId,
    pub(super) task_id: TaskId,
    pub(super) trace_id: TraceId,
    pub(super) caller: Caller,
    /// How often the run was suspended before.
    pub(super) revision: u64,
    /// What was answered before, and now.
    pub(super) answered: Vec<PendingId>,
    pub(super) lease: SavedLease,
    pub(super) time_left: Option<Duration>,
    /// Boxed, since it alone stays while the run goes on.
    pub(super) state: Box<LoopState>,
    /// The answers, for a run that goes on.
    pub(super) revived: Option<Vec<Answer>>,
    pub(super) options: RunOptions,
}

/// The first life of a run.
pub(super) fn begin(agent: &Agent, request: Request, caller: Caller) -> Result<Box<Life>, Box<Failure>> {
    let Request { message, conversation, options } = request;
    if message.is_blank() {
        let error = InvalidValue::new("request", message.joined_text(), "a text that is not blank, or an attachment");
        return Err(refused(error.into(), conversation, None));
    }
    let run_id = RunId::random();
    let limits = options.limits.unwrap_or(agent.card.limits);
    let said_before = conversation.entries().len();
    Ok(Box::new(Life {
        run_id,
        task_id: options.task_id.unwrap_or_else(|| TaskId::from_uuid(run_id.as_uuid())),
        trace_id: options.trace_id.unwrap_or_else(|| TraceId::from_bytes(run_id.as_uuid().into_bytes())),
        caller,
        revision: 0,
        answered: Vec::new(),
        lease: SavedLease { limits, spent: Spend::ZERO },
        time_left: Some(time_of(&limits)),
        state: Box::new(LoopState::new(conversation.say(message), said_before, 0, agent.bounds.attempts)),
        revived: None,
        options,
    }))
}

/// The next life of a suspended run.
pub(super) fn resume(agent: &Agent, resume: Resume) -> Result<Box<Life>, Box<Failure>> {
    let Resume { state: saved, by, answers, options } = resume;
    let state = match admit_answers(agent, &saved, &by, &answers) {
        Ok(state) => state,
        Err(error) => {
            let conversation = nested::peek(agent, &saved.suspension.state).unwrap_or_default();
            return Err(refused(error, conversation, Some(saved)));
        }
    };
    let (lease, time_left) = match options.limits {
        Some(limits) => (SavedLease { limits, ..saved.lease }, Some(time_within(&limits, &saved))),
        None => (saved.lease, saved.time_left),
    };
    let mut answered = saved.answered;
    answered.extend(answers.iter().map(|answer| answer.pending.clone()));
    Ok(Box::new(Life {
        run_id: saved.run_id,
        task_id: saved.task_id,
        trace_id: saved.trace_id,
        caller: saved.caller,
        revision: saved.revision,
        answered,
        lease,
        time_left,
        state: Box::new(state),
        revived: Some(answers),
        options,
    }))
}

/// What is left of the time of new limits, after what was used under the old ones.
fn time_within(limits: &Limits, saved: &RunState) -> Duration {
    let used = time_of(&saved.lease.limits).saturating_sub(saved.time_left.unwrap_or_default());
    time_of(limits).saturating_sub(used)
}

pub(super) fn time_of(limits: &Limits) -> Duration {
    limits.time.unwrap_or(DEFAULT_TIME)
}

/// Checks everything about `answers` before anything changes, and reads the state.
fn admit_answers(agent: &Agent, saved: &RunState, by: &Caller, answers: &[Answer]) -> Result<LoopState, AgentError> {
    let policy = agent.policy.as_deref().unwrap_or(&HintPolicy);
    saved.check_answers(by, answers, |pending, by| {
        policy.may_answer(pending, by) && nested::below_may_answer(agent, pending, by)
    })?;
    let state = nested::read_state(agent, saved.suspension.state.clone())?;
    if state.pending() != saved.suspension.pending {
        let problem = "it does not wait for what stands beside it";
        return Err(AgentError::unreadable_state(&saved.suspension.state, problem));
    }
    Ok(state)
}

/// A failure before anything happened: the state goes back as it came.
fn refused(error: AgentError, conversation: Conversation, state: Option<RunState>) -> Box<Failure> {
    let spent = state.as_ref().map(|state| state.lease.spent).unwrap_or_default();
    Box::new(Failure { error, conversation, spent, attempts: Vec::new(), dead_letter: None, state })
}
