//! A run of a graph by itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::builder::Graph;
use super::fields::GraphState;
use super::machine::Machine;
use super::run::Ended;
use crate::agent_error::AgentError;
use crate::amount::Spend;
use crate::budget::{Lease, Limits, SavedLease};
use crate::caller::Caller;
use crate::error::ErrorCode;
use crate::event::{EventKind, Queue, Sinks};
use crate::id::RunId;
use crate::identity::Profile;
use crate::main_agent::{Link, Resume, RunHandle, RunOptions};
use crate::pending::Pending;
use crate::policy::{HintPolicy, Policies, Policy};
use crate::run_context::{Run, RunContext};
use crate::run_state::RunState;

/// How a graph's run ends, unless it fails.
#[derive(Debug)]
pub enum GraphOutcome<S> {
    /// At its end.
    Completed(GraphReport<S>),
    /// Not yet: it waits, or was drained.
    Suspended(Box<RunState>),
}

/// A graph that came to its end.
#[derive(Debug)]
#[non_exhaustive]
pub struct GraphReport<S> {
    /// The run.
    pub run_id: RunId,
    /// The state at the end.
    pub state: S,
    /// How many steps it took.
    pub steps: u32,
    /// What the run spent.
    pub spent: Spend,
}

/// A graph's run that failed: why, and what goes on from there.
#[non_exhaustive]
pub struct GraphFailed {
    /// Why.
    pub error: AgentError,
    /// What the run spent.
    pub spent: Spend,
    /// What tries again from where it failed: what has completed is not run again.
    pub state: Option<RunState>,
}

/// A graph that runs in a task of its own. Dropping it cancels the run.
pub type GraphHandle<S> = RunHandle<GraphOutcome<S>, GraphFailed>;

impl From<AgentError> for GraphFailed {
    fn from(error: AgentError) -> Self {
        Self { error, spent: Spend::ZERO, state: None }
    }
}

impl<S: GraphState> Graph<S> {
    /// Runs the graph, inline: within the caller's own task.
    ///
    /// # Errors
    ///
    /// [`GraphFailed`]: why, and what goes on from there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops everything at once, and nothing is kept. To stop a run and go on later use
    /// [`RunOptions::with_cancellation`].
    pub async fn run(&self, state: S, caller: Caller) -> Result<GraphOutcome<S>, Box<GraphFailed>> {
        self.run_with(state, caller, RunOptions::default()).await
    }

    /// Runs the graph with these options.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As for [`run`](Self::run).
    pub async fn run_with(
        &self,
        state: S,
        caller: Caller,
        options: RunOptions,
    ) -> Result<GraphOutcome<S>, Box<GraphFailed>> {
        let begun = self.begin(state, caller, &options).map_err(|error| refused(error, None))?;
        self.supervise(begun, options, None).await
    }

    /// Runs the graph in a task of its own, and gives a handle with the stream of events.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, as `tokio::spawn` does.
    #[must_use = "dropping the handle cancels the run"]
    pub fn start(&self, state: S, caller: Caller) -> GraphHandle<S> {
        self.start_with(state, caller, RunOptions::default())
    }

    /// Runs the graph with these options in a task of its own.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, as `tokio::spawn` does.
    #[must_use = "dropping the handle cancels the run"]
    pub fn start_with(&self, state: S, caller: Caller, mut options: RunOptions) -> GraphHandle<S> {
        let link = Link::new(&mut options);
        let begun = self.begin(state, caller, &options).map_err(|error| refused(error, None));
        self.spawn(link, begun, options)
    }

    fn begin(&self, state: S, caller: Caller, options: &RunOptions) -> Result<Begun<S>, AgentError> {
        let limits = options.limits.unwrap_or(self.plan.card.limits);
        let machine = Machine::start(&self.plan, state)?;
        let mut run = Run::new(RunId::random(), caller);
        run.task = options.task_id.unwrap_or(run.task);
        run.trace = options.trace_id.unwrap_or(run.trace);
        run.time_over = limits.time.and_then(|time| Instant::now().checked_add(time));
        Ok(Begun { machine, run, lease: SavedLease { limits, spent: Spend::ZERO } })
    }

    /// Goes on with a suspended run, inline. All answers are checked before anything happens.
    ///
    /// # Errors
    ///
    /// [`GraphFailed`]; its error is [`AgentError::Resume`] when an answer was refused and [`AgentError::State`] when the state is not
    /// this graph's.
    ///
    /// # Cancel safety
    ///
    /// As for [`run`](Self::run).
    pub async fn resume(&self, resume: Resume) -> Result<GraphOutcome<S>, Box<GraphFailed>> {
        let (begun, options) = self.go_on(resume)?;
        self.supervise(begun, options, None).await
    }

    /// Goes on with a suspended run in a task of its own.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, as `tokio::spawn` does.
    #[must_use = "dropping the handle cancels the run"]
    pub fn start_resume(&self, mut resume: Resume) -> GraphHandle<S> {
        let link = Link::new(&mut resume.options);
        match self.go_on(resume) {
            Ok((begun, options)) => self.spawn(link, Ok(begun), options),
            Err(refused) => self.spawn(link, Err(refused), RunOptions::default()),
        }
    }

    fn spawn(&self, link: Link, begun: Result<Begun<S>, Box<GraphFailed>>, options: RunOptions) -> GraphHandle<S> {
        let (graph, queue, finish) = (self.clone(), link.queue(), link.finish_on_drop());
        link.spawn(async move {
            let _finish = finish;
            graph.supervise(begun?, options, Some(queue)).await
        })
    }

    fn go_on(&self, resume: Resume) -> Result<(Begun<S>, RunOptions), Box<GraphFailed>> {
        let Resume { state: saved, by, answers, options } = resume;
        let may_answer = |pending: &Pending, by: &Caller| {
            (self.plan.policy.is_some() || HintPolicy.may_answer(pending, by)) && self.may_answer(pending, by)
        };
        let admitted = saved.check_answers(&by, &answers, may_answer).map_err(AgentError::from);
        let admitted = admitted.and_then(|()| self.restore(saved.suspension.state.clone(), answers.clone()));
        let machine = match admitted {
            Ok(machine) => machine,
            Err(error) => return Err(refused(error, Some(saved))),
        };
        let time_left = options.limits.map_or(saved.time_left, |limits| time_within(&limits, &saved));
        let lease = SavedLease { limits: options.limits.unwrap_or(saved.lease.limits), ..saved.lease };
        let answered = saved.answered.into_iter().chain(answers.into_iter().map(|answer| answer.pending)).collect();
        let run = Run {
            revision: saved.revision,
            task: saved.task_id,
            trace: saved.trace_id,
            time_over: time_left.and_then(|time| Instant::now().checked_add(time)),
            answered,
            ..Run::new(saved.run_id, saved.caller)
        };
        Ok((Begun { machine, run, lease }, options))
    }

    async fn supervise(
        &self,
        begun: Begun<S>,
        mut options: RunOptions,
        queue: Option<Arc<Queue>>,
    ) -> Result<GraphOutcome<S>, Box<GraphFailed>> {
        let Begun { mut machine, mut run, lease } = begun;
        options.detach();
        let deadline = run.deadline(options.deadline);
        let resumed = run.revision > 0;
        run.sinks = Sinks { observers: options.observers, queue };
        run.journal = self.plan.journal.clone();
        run.drain = options.drain;
        let name = self.plan.card.id();
        let policy = self.plan.policy.clone().unwrap_or_else(|| Arc::new(HintPolicy));
        let (policies, lease) = (Policies::of(policy), Lease::restore(lease));
        let token = options.cancellation;
        let cx = RunContext::root(run, name, &Profile::default(), policies, lease, deadline, token.clone());
        let _end = cx.end_on_drop();
        cx.emit_kind(|| EventKind::Started { agent: name.clone(), resumed });
        let ended = cx.until_stopped(token, self.work(&mut machine, &cx)).await;
        let spent = cx.lease().spent();
        let failed = match ended {
            Ok(Ended::Done) => {
                cx.emit_kind(|| EventKind::completed(spent));
                let (run_id, steps) = (cx.run_id(), machine.step);
                return Ok(GraphOutcome::Completed(GraphReport { run_id, state: machine.into_state(), steps, spent }));
            }
            Ok(Ended::Suspended) => match self.suspension(&mut machine) {
                Ok(suspension) => {
                    cx.emit_kind(|| EventKind::suspended(suspension.pending.len(), spent));
                    return Ok(GraphOutcome::Suspended(Box::new(RunState::of(&cx, suspension))));
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        cx.emit_kind(|| EventKind::failed(&failed, spent));
        let state = self.suspension(&mut machine).ok().map(|suspension| RunState::of(&cx, suspension));
        Err(Box::new(GraphFailed { error: failed, spent, state }))
    }
}

/// A run of a graph that is about to begin, or to go on.
struct Begun<S: GraphState> {
    machine: Machine<S>,
    run: Run,
    lease: SavedLease,
}

/// What is left of the time of new limits, after what was used under the old ones.
fn time_within(limits: &Limits, saved: &RunState) -> Option<Duration> {
    let known = saved.lease.limits.time.zip(saved.time_left);
    let used = known.map_or(Duration::ZERO, |(all, left)| all.saturating_sub(left));
    limits.time.map(|time| time.saturating_sub(used))
}

/// A failure before anything happened: the state goes back as it came.
fn refused(error: AgentError, state: Option<RunState>) -> Box<GraphFailed> {
    let spent = state.as_ref().map(|state| state.lease.spent).unwrap_or_default();
    Box::new(GraphFailed { error, spent, state })
}

impl<S> GraphOutcome<S> {
    /// The report of a graph that came to its end.
    ///
    /// # Errors
    ///
    /// The suspended run.
    pub fn into_report(self) -> Result<GraphReport<S>, Box<RunState>> {
        match self {
            Self::Completed(report) => Ok(report),
            Self::Suspended(state) => Err(state),
        }
    }

    /// The suspended run.
    ///
    /// # Errors
    ///
    /// The report of a graph that came to its end.
    pub fn into_suspended(self) -> Result<RunState, Box<GraphReport<S>>> {
        match self {
            Self::Suspended(state) => Ok(*state),
            Self::Completed(report) => Err(Box::new(report)),
        }
    }
}

impl GraphFailed {
    /// The error's stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.error.code()
    }
}

impl fmt::Debug for GraphFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphFailed")
            .field("error", &self.error)
            .field("spent", &self.spent)
            .field("can_go_on", &self.state.is_some())
            .finish()
    }
}

impl fmt::Display for GraphFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for GraphFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
