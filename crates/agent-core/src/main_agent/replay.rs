//! Runs that failed for good: kept as dead letters, and replayed.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::MainAgent;
use super::life::time_of;
use super::options::{Resume, RunOptions};
use super::outcome::{Failure, RunOutcome};
use crate::agent_error::AgentError;
use crate::caller::Caller;
use crate::dead_letters::{Claim, ClaimEnd, DeadLetter, DeadLetterError, DeadLetters};
use crate::error::ErrorCode;
use crate::id::{ClaimToken, RunId, TenantId};
use crate::run_context::RunContext;

/// How long a store may take to keep or to settle a letter: the run is over, and its caller waits.
const KEEPING: Duration = Duration::from_secs(10);

/// How long a replay without a deadline keeps others from replaying the same.
const UNBOUNDED: Duration = Duration::from_secs(24 * 3_600);

/// What a replay takes beyond its run's time: to begin, to save, to settle.
const AROUND: Duration = Duration::from_secs(60);

/// How often a replay's end is noted, should the store fail.
const SETTLINGS: u32 = 3;

/// Why a dead letter was not replayed, or how its replay failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The agent has no store of dead letters.
    #[error("the agent keeps no dead letters")]
    NoStore,
    /// The caller's tenant has no such letter.
    #[error("there is no such dead letter")]
    Unknown,
    /// Somebody else is replaying it.
    #[error("the dead letter is being replayed")]
    Busy,
    /// It was replayed before.
    #[error("the dead letter was replayed already")]
    Replayed,
    /// The failed run left nothing to go on from.
    #[error("the failed run left nothing to go on from")]
    NothingToGoOnFrom,
    /// The store failed. The letter was not replayed.
    #[error(transparent)]
    Store(#[from] DeadLetterError),
    /// It was replayed, and failed. It is a dead letter again, unless the failure is one that leaves none. Should the store fail to note
    /// that, which is told as an error event, the letter stays claimed until the claim's time is over.
    #[error("the replayed run failed: {0}")]
    Failed(#[source] Box<Failure>),
    /// It was replayed with this outcome, and the store failed to note that: it could be replayed once more when the claim's time is
    /// over. Whoever gets this settles the letter.
    #[error("the dead letter was replayed, which could not be noted")]
    Unsettled {
        /// What came of it.
        outcome: Box<RunOutcome>,
        /// What settles the letter.
        token: ClaimToken,
        /// How the store failed.
        source: DeadLetterError,
    },
}

impl ReplayError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoStore => ErrorCode::new("replay.no_store"),
            Self::Unknown => ErrorCode::new("replay.unknown"),
            Self::Busy => ErrorCode::new("replay.busy"),
            Self::Replayed => ErrorCode::new("replay.replayed"),
            Self::NothingToGoOnFrom => ErrorCode::new("replay.nothing_to_go_on_from"),
            Self::Store(error) => error.code(),
            Self::Failed(failure) => failure.code(),
            Self::Unsettled { .. } => ErrorCode::new("replay.unsettled"),
        }
    }

    /// Whether the same may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Busy => true,
            Self::Store(error) => error.retryable(),
            Self::Failed(failure) => failure.retryable(),
            _ => false,
        }
    }
}

impl MainAgent {
    /// Replays a run that failed for good, from where it failed, after the cause is gone: inline, as [`resume`](Self::resume).
    ///
    /// Of several that replay one letter at once, in this process or in others that share the store, one does. While it runs
    /// nobody else can replay it; if its process dies, the letter is free again when the run's time is over. A run that is suspended
    /// counts as replayed: its state is the caller's.
    ///
    /// `by` is of the run's own tenant. It has all of the run's time once more. The limits of `options` replace the run's own, which an
    /// exhausted budget needs: what was spent stays spent.
    ///
    /// # Errors
    ///
    /// [`ReplayError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the run at once; the letter stays claimed until the run's time would have been over.
    pub async fn replay(&self, run: RunId, by: Caller, options: RunOptions) -> Result<RunOutcome, ReplayError> {
        let letters = self.agent.dead_letters.clone().ok_or(ReplayError::NoStore)?;
        let tenant = by.tenant.clone();
        let known = guarded(letters.get(&tenant, run)).await?.ok_or(ReplayError::Unknown)?.0;
        let (letter, token) = match guarded(letters.claim(&tenant, run, claimed_for(&known, &options))).await? {
            Claim::Taken { letter, token } => (letter, token),
            Claim::Busy { .. } => return Err(ReplayError::Busy),
            Claim::Replayed => return Err(ReplayError::Replayed),
            Claim::Unknown => return Err(ReplayError::Unknown),
        };
        let Some(mut state) = letter.state else {
            settle(&*letters, &tenant, run, token, ClaimEnd::GivenBack).await?;
            return Err(ReplayError::NothingToGoOnFrom);
        };
        state.time_left = Some(time_of(&state.lease.limits));
        match self.resume(Resume::new(state, by).with_options(options)).await {
            Ok(outcome) => match settle(&*letters, &tenant, run, token, ClaimEnd::Replayed).await {
                Ok(()) => Ok(outcome),
                Err(source) => Err(ReplayError::Unsettled { outcome: Box::new(outcome), token, source }),
            },
            Err(failure) => {
                // What failed again for good is a letter anew, to which there is no claim.
                if failure.dead_letter.is_none() {
                    give_back(&*letters, &tenant, run, token, &failure).await;
                }
                Err(ReplayError::Failed(failure))
            }
        }
    }
}

/// Ends the claim to a letter whose replay failed. A store that fails is the host's business: the run's own failure counts.
async fn give_back(letters: &dyn DeadLetters, tenant: &TenantId, run: RunId, token: ClaimToken, failure: &Failure) {
    // What a person or a policy refused is not asked again.
    let is_decided = matches!(failure.error, AgentError::Denied { .. });
    let end = if is_decided { ClaimEnd::Replayed } else { ClaimEnd::GivenBack };
    if let Err(error) = settle(letters, tenant, run, token, end).await {
        tracing::error!(run = %run, code = %error.code(), "a dead letter was not settled");
    }
}

/// What a store gives, which is a host's own code, and may panic.
async fn guarded<T>(work: impl Future<Output = Result<T, DeadLetterError>>) -> Result<T, DeadLetterError> {
    let panicked = |_| Err(DeadLetterError::new(AgentError::Panicked));
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(panicked)
}

/// Ends the claim to a letter: in several tries should the store fail, and not for ever should it hang.
async fn settle(
    letters: &dyn DeadLetters,
    tenant: &TenantId,
    run: RunId,
    token: ClaimToken,
    end: ClaimEnd,
) -> Result<(), DeadLetterError> {
    let settling = async {
        let mut tries = 0;
        loop {
            tries += 1;
            match guarded(letters.settle(tenant, run, token, end)).await {
                Ok(_) => return Ok(()),
                Err(error) if tries >= SETTLINGS => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    timeout(KEEPING, settling).await.unwrap_or_else(|late| Err(DeadLetterError::new(late)))
}

/// For how long nobody else may replay the letter: as long as the run may take, and some more.
fn claimed_for(letter: &DeadLetter, options: &RunOptions) -> Duration {
    let by_deadline = options.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let by_limits = match &options.limits {
        Some(limits) => Some(time_of(limits)),
        None => letter.state.as_ref().map(|state| time_of(&state.lease.limits)),
    };
    let time = match (by_deadline, by_limits) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    time.map_or(UNBOUNDED, |time| time.saturating_add(AROUND))
}

/// Whether a run that failed with this failed for good: not when it was stopped, when what it asked for was refused or makes no
/// sense, or when it did not begin.
pub(super) const fn is_for_good(error: &AgentError) -> bool {
    !matches!(error, AgentError::Cancelled | AgentError::Denied { .. } | AgentError::Invalid(_) | AgentError::Resume(_))
}

/// Keeps a failed run as a dead letter. A store that fails is the host's business: the run's own failure counts.
pub(super) async fn keep(letters: &dyn DeadLetters, mut failure: Box<Failure>, cx: &RunContext) -> Box<Failure> {
    let agent = cx.identity().main_agent_id.clone();
    let letter = DeadLetter::new(cx.run_id(), cx.task_id(), cx.caller().clone(), agent, &failure.error);
    let letter = letter.with_attempts(failure.attempts.clone()).with_spent(failure.spent);
    let letter = match &failure.state {
        Some(state) => letter.with_state(state.clone()),
        None => letter,
    };
    match timeout(KEEPING, guarded(letters.put(letter))).await {
        Ok(Ok(())) => failure.dead_letter = Some(cx.run_id()),
        Ok(Err(error)) => tracing::error!(run = %cx.run_id(), code = %error.code(), "a dead letter was not kept"),
        Err(_) => tracing::error!(run = %cx.run_id(), "a dead letter was not kept in time"),
    }
    failure
}
