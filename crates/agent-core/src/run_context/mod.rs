//! What every port call is given: who asks, where in the run, and what is left of time and budget.

mod run;

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, pending, select};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::run::Run;
use crate::agent_error::AgentError;
use crate::amount::Spend;
use crate::budget::{Lease, Limits, Reservation};
use crate::caller::Caller;
use crate::error::ErrorCode;
use crate::event::{DeltaPart, Emitter, EventKind, Origin, Sinks};
use crate::function::Effect;
use crate::id::{RunId, TaskId};
use crate::identity::{Identity, Profile};
use crate::journal::Journal;
use crate::model::Attempts;
use crate::observer::Observer;
use crate::path::{CallPath, CallPosition};
use crate::pending::{Pending, PendingId, PendingKind};
use crate::policy::{Policies, Policy};
use crate::sub_agent::{AgentCard, Suspension};

/// Who asks, where in the run, and what is left of time and budget. Cheap to clone.
///
/// It is mandatory at every port: nothing calls a model or a tool without a tenant. A run makes its own; a host that calls a port
/// by itself makes one with [`RunContext::standalone`].
#[derive(Clone)]
pub struct RunContext {
    place: Arc<Place>,
}

/// The bounds of the end of the time that is kept for whoever answers last.
const LONGEST_PART: Duration = Duration::from_secs(5);
const SHORTEST_PART: Duration = Duration::from_millis(10);

/// One agent or call of a run.
struct Place {
    run: Arc<Run>,
    /// The agent that this is called by.
    above: Option<Arc<Place>>,
    origin: Arc<Origin>,
    /// Names of the agents from the Main Agent down to this place.
    agents: Arc<[Arc<str>]>,
    policies: Policies,
    lease: Lease,
    deadline: Option<Instant>,
    /// Whether what works here has less time than its place, since the last part of it is kept for somebody else.
    is_narrowed: bool,
    /// Made when somebody asks for it: most calls need none.
    cancellation: OnceLock<CancellationToken>,
    emitter: Arc<Emitter>,
    attempts: Attempts,
}

impl RunContext {
    /// The context of a run's Main Agent.
    pub(crate) fn root(
        run: Run,
        agent: &Arc<str>,
        profile: &Profile,
        policies: Policies,
        lease: Lease,
        deadline: Option<Instant>,
        cancellation: Option<CancellationToken>,
    ) -> Self {
        let identity = Identity {
            trace_id: run.trace,
            tenant_id: run.caller.tenant.clone(),
            user_id: run.caller.user.clone(),
            task_id: run.task,
            run_id: run.id,
            main_agent_id: agent.clone(),
            sub_agent_id: None,
            sub_agent_version: None,
            profile: profile.clone(),
        };
        let emitter = Arc::new(Emitter::new(run.revision));
        let place = Place {
            run: Arc::new(run),
            above: None,
            origin: Arc::new(Origin::new(CallPath::root(), Arc::new(identity))),
            agents: Arc::new([agent.clone()]),
            policies,
            lease,
            deadline,
            is_narrowed: false,
            cancellation: cancellation.map_or_else(OnceLock::new, OnceLock::from),
            emitter,
            attempts: Attempts::unbounded(),
        };
        Self { place: Arc::new(place) }
    }

    /// A context outside of any run, for a host that calls a model or tool by itself: no ceilings, no deadline, no journal but the
    /// process's memory.
    #[must_use]
    pub fn standalone(caller: Caller) -> Self {
        Self::standalone_with(caller, Lease::root(Limits::none()), Vec::new())
    }

    /// A context outside of any run, with a budget and observers.
    #[must_use]
    pub fn standalone_with(caller: Caller, lease: Lease, observers: Vec<Arc<dyn Observer>>) -> Self {
        let id = RunId::random();
        let time_over = lease.limits().time.and_then(|time| Instant::now().checked_add(time));
        let sinks = Sinks { observers, queue: None };
        let run = Run { sinks, time_over, ..Run::new(id, caller) };
        let policies = Policies::of(Arc::new(crate::policy::HintPolicy));
        Self::root(run, &"host".into(), &Profile::default(), policies, lease, time_over, None)
    }

    /// The context of the call of a tool at `position` of the agent here.
    pub(crate) fn for_call(&self, position: CallPosition, deadline: Option<Instant>) -> Self {
        self.descend(position, deadline, |_| {})
    }

    /// The context of work at `position` of the agent here, whose spend is known apart.
    pub(crate) fn for_work(&self, position: CallPosition, deadline: Option<Instant>) -> Self {
        self.descend(position, deadline, |place| place.lease = place.lease.child(Limits::none()))
    }

    /// Whether every wait of `suspension` came up here or below, once: or its answer could not find it.
    pub(crate) fn can_route(&self, suspension: &Suspension) -> bool {
        let ids: HashSet<&PendingId> = suspension.pending.iter().map(|pending| &pending.id).collect();
        let is_own = |id: &PendingId| {
            id.run == self.run_id() && id.path.starts_with(self.path()) && !self.run().answered.contains(id)
        };
        let idle = ids.is_empty() && !suspension.runnable;
        !idle && ids.len() == suspension.pending.len() && ids.into_iter().all(is_own)
    }

    /// The context of the Sub-Agent with this card, called at `position` of the agent here, under `lease`.
    pub(crate) fn for_agent(
        &self,
        position: CallPosition,
        deadline: Option<Instant>,
        card: &AgentCard,
        lease: Lease,
    ) -> Self {
        self.descend(position, deadline, |place| {
            let agents = place.agents.iter().cloned().chain([card.id().clone()]).collect();
            place.agents = agents;
            let identity = Identity {
                sub_agent_id: Some(card.id().clone()),
                sub_agent_version: Some(card.version.clone()),
                ..(*place.origin.identity).clone()
            };
            place.origin = Arc::new(Origin::new(place.origin.path.clone(), Arc::new(identity)));
            place.lease = lease;
            place.attempts = Attempts::unbounded();
        })
    }

    fn descend(&self, position: CallPosition, deadline: Option<Instant>, change: impl FnOnce(&mut Place)) -> Self {
        let above = &self.place;
        let mut place = Place {
            run: above.run.clone(),
            above: Some(above.clone()),
            origin: Arc::new(Origin::new(above.origin.path.child(position), above.origin.identity.clone())),
            agents: above.agents.clone(),
            policies: above.policies.clone(),
            lease: above.lease.clone(),
            deadline: sooner(above.deadline, deadline),
            is_narrowed: false,
            cancellation: OnceLock::new(),
            emitter: Arc::new(Emitter::new(above.run.revision)),
            attempts: Attempts::uncounted(),
        };
        change(&mut place);
        Self { place: Arc::new(place) }
    }

    /// The same place, for a Main Agent that is called there: with a policy and a profile of its own, where it has them.
    pub(crate) fn for_main_agent(&self, profile: &Profile, policy: Option<&Arc<dyn Policy>>) -> Self {
        let here = &self.place;
        if policy.is_none() && *profile == Profile::default() && here.attempts.are_counted() {
            return self.clone();
        }
        let origin = match profile {
            inherited if *inherited == Profile::default() => here.origin.clone(),
            own => {
                let identity = Identity { profile: own.clone(), ..(*here.origin.identity).clone() };
                Arc::new(Origin::new(here.origin.path.clone(), Arc::new(identity)))
            }
        };
        self.same_place(|place| {
            place.origin = origin;
            if let Some(policy) = policy {
                place.policies = place.policies.and(policy.clone());
            }
            if !place.attempts.are_counted() {
                // A host's tool that runs an agent.
                place.attempts = Attempts::unbounded();
            }
        })
    }

    fn same_place(&self, change: impl FnOnce(&mut Place)) -> Self {
        let here = &self.place;
        let mut place = Place {
            run: here.run.clone(),
            above: Some(here.clone()),
            origin: here.origin.clone(),
            agents: here.agents.clone(),
            policies: here.policies.clone(),
            lease: here.lease.clone(),
            deadline: here.deadline,
            is_narrowed: false,
            cancellation: OnceLock::new(),
            emitter: here.emitter.clone(),
            attempts: here.attempts.clone(),
        };
        change(&mut place);
        Self { place: Arc::new(place) }
    }

    /// Who asks.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.place.run.caller
    }

    /// The task.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.place.run.task
    }

    /// The run: a lineage of states.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.place.run.id
    }

    /// How often the run was resumed.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.place.run.revision
    }

    /// Everything that events and spans say about whose run this is.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.place.origin.identity
    }

    /// Where in which run events of this place happen.
    #[must_use]
    pub fn origin(&self) -> &Arc<Origin> {
        &self.place.origin
    }

    /// Where in the run this is.
    #[must_use]
    pub fn path(&self) -> &CallPath {
        &self.place.origin.path
    }

    /// The agents from the Main Agent down to this place, by name.
    #[must_use]
    pub fn agents(&self) -> &[Arc<str>] {
        &self.place.agents
    }

    /// When the time is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.place.deadline
    }

    /// How much time is left.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.place.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// When the end of the time begins that is kept for whoever answers when nobody else could: a tenth of what is left now, but not
    /// more than five seconds, and not less than ten milliseconds or half of it. `None` without a deadline.
    #[must_use]
    pub fn last_part(&self) -> Option<Instant> {
        let left = self.time_left()?;
        let kept = (left / 10).clamp(SHORTEST_PART, LONGEST_PART).min(left / 2);
        self.place.deadline?.checked_sub(kept)
    }

    /// The same place with its last part of the time kept for somebody else.
    pub(crate) fn without_last_part(&self) -> Option<Self> {
        let until = self.last_part()?;
        Some(self.same_place(|place| (place.deadline, place.is_narrowed) = (Some(until), true)))
    }

    /// The same place for a part of the work, under limits of its own: a smaller budget, and as much time from now on.
    #[must_use]
    pub fn within(&self, limits: Limits) -> Self {
        let until = limits.time.and_then(|time| Instant::now().checked_add(time));
        let lease = self.place.lease.child(limits);
        self.same_place(|place| (place.lease, place.deadline) = (lease, sooner(place.deadline, until)))
    }

    /// Cancelled when the run ends, or the call here is given up, for work that does not stop with the future: threads, spawned
    /// tasks.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        self.place.cancellation()
    }

    /// Whether the run has ended, or the call here was given up.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.places().filter_map(|place| place.cancellation.get()).any(CancellationToken::is_cancelled)
    }

    /// The budget here.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.place.lease
    }

    /// The attempts left for this turn's answer, shared by everything that repeats.
    #[must_use]
    pub fn attempts(&self) -> &Attempts {
        &self.place.attempts
    }

    /// The key under which an effect happens at most once: the same for this call however often its run is copied or repeated.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}{}", self.place.run.id, self.path())
    }

    /// Something that the agent or call here waits for, under a name of its own.
    #[must_use]
    pub fn pending(&self, name: impl Into<Arc<str>>, kind: PendingKind) -> Pending {
        Pending {
            id: PendingId::new(self.run_id(), self.path().clone(), name),
            agents: self.place.agents.clone(),
            requested_by: self.caller().clone(),
            kind,
        }
    }

    /// Emits an event of the host's own.
    pub fn emit(&self, name: impl Into<Arc<str>>, data: Value) {
        self.emit_kind(|| EventKind::Custom { name: name.into(), data: Arc::new(data) });
    }

    /// Tells that a step of a plan of fallbacks is left out, for which `code` is the stable reason: `step.cooling`.
    pub fn tell_skipped_step(&self, step: &Arc<str>, code: &'static str) {
        self.emit_kind(|| EventKind::StepSkipped { step: step.clone(), code: Box::new(ErrorCode::new(code)) });
    }

    /// Reserves budget, waiting until the deadline for what others will settle.
    ///
    /// # Errors
    ///
    /// [`AgentError::Budget`] when it cannot fit, [`AgentError::Deadline`] when the time is over first, [`AgentError::Cancelled`] when
    /// what is here is [cancelled](Self::cancellation).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future reserves nothing.
    pub async fn reserve(&self, amount: Spend) -> Result<Reservation, AgentError> {
        Ok(self.unless_stopped(self.lease().reserve(amount)).await??)
    }

    /// Reserves an amount that is clamped to what is left. While others are waited for, less may be left: then less is asked for.
    pub(crate) async fn reserve_clamped(
        &self,
        mut clamped: impl FnMut() -> Result<Spend, AgentError>,
    ) -> Result<Reservation, AgentError> {
        let mut amount = clamped()?;
        loop {
            match self.reserve(amount).await {
                Err(AgentError::Budget(exceeded)) => {
                    let now = clamped()?;
                    if now == amount {
                        return Err(exceeded.into());
                    }
                    amount = now;
                }
                admitted => return admitted,
            }
        }
    }

    /// Waits for `work` until the deadline.
    pub(crate) async fn within_deadline<T>(&self, work: impl Future<Output = T>) -> Result<T, AgentError> {
        match self.place.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, work).await.map_err(|_| AgentError::Deadline),
            None => Ok(work.await),
        }
    }

    /// Waits for `work` until the deadline, and until what is here is [cancelled](Self::cancellation). `work` that is ready counts,
    /// whatever else is.
    ///
    /// # Errors
    ///
    /// [`AgentError::Deadline`] and [`AgentError::Cancelled`].
    ///
    /// # Cancel safety
    ///
    /// As `work`'s own.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, AgentError> {
        let mut work = pin!(work);
        let mut stop = None;
        poll_fn(|task| {
            if let Poll::Ready(done) = work.as_mut().poll(task) {
                return Poll::Ready(Ok(done));
            }
            // What is done at once needs nothing that stops it.
            let stop =
                stop.get_or_insert_with(|| Box::pin(stopped(self.deadline(), Some(self.cancellation().clone()))));
            stop.as_mut().poll(task).map(Err)
        })
        .await
    }

    /// Ends this place of the run when the guard is dropped.
    pub(crate) fn end_on_drop(&self) -> EndOnDrop {
        EndOnDrop(Some(self.clone()))
    }

    /// Tells of what waits here and is not among `known`. An agent that only delegates tells of its waits by itself.
    pub(crate) fn tell_waits(&self, suspension: &Suspension, known: &[Pending], effect: Effect) {
        let is_new = |pending: &&Pending| known.iter().all(|known| known.id != pending.id);
        for pending in suspension.pending.iter().filter(is_new).filter(|pending| self.tells_for(&pending.id, effect)) {
            self.emit_kind(|| EventKind::Waiting { pending: pending.clone().into() });
        }
    }

    /// Whether the events of this wait are told here, by the caller of what waits.
    pub(crate) fn tells_for(&self, pending: &PendingId, effect: Effect) -> bool {
        effect != Effect::Delegated && pending.path == *self.path()
    }

    /// Waits for `work`, a run's, until the run must stop. A panic in it is a failure.
    ///
    /// No async function: `work` is boxed before the first wait, and takes no room beside its box.
    pub(crate) fn until_stopped<T>(
        &self,
        token: Option<CancellationToken>,
        work: impl Future<Output = Result<T, AgentError>>,
    ) -> impl Future<Output = Result<T, AgentError>> {
        let working = Box::pin(AssertUnwindSafe(work).catch_unwind());
        let stopped = Box::pin(stopped(self.deadline(), token));
        async move {
            // Work first: a run whose last step is ready ends with its result, not with a deadline that has just passed.
            match select(working, stopped).await {
                Either::Left((ended, _)) => ended.unwrap_or(Err(AgentError::Panicked)),
                Either::Right((error, working)) => {
                    self.run().stopping.store(true, Ordering::Relaxed);
                    drop(working);
                    Err(error)
                }
            }
        }
    }

    /// Whether there is time for more, and nobody has stopped it.
    ///
    /// # Errors
    ///
    /// [`AgentError::Cancelled`] and [`AgentError::Deadline`].
    pub fn ensure_may_go_on(&self) -> Result<(), AgentError> {
        if self.is_cancelled() {
            return Err(AgentError::Cancelled);
        }
        if self.time_left().is_some_and(|left| left.is_zero()) {
            return Err(AgentError::Deadline);
        }
        Ok(())
    }

    /// Tells what was handed to threads and tasks, or looks later, that the call here, or the run, is over.
    pub(crate) fn end(&self) {
        self.place.cancellation().cancel();
    }

    /// Whether everything in flight is dropped because the run stops, to go on later as a value.
    pub(crate) fn is_stopping(&self) -> bool {
        let Some(root) = self.places().last() else { return false };
        let is_over = |place: &Place| place.deadline.is_some_and(|deadline| deadline <= Instant::now());
        root.run.stopping.load(Ordering::Relaxed)
            || is_over(root)
            || self.places().any(|place| place.is_narrowed && is_over(place))
            || root.cancellation.get().is_some_and(CancellationToken::is_cancelled)
    }

    /// This place and those above it.
    fn places(&self) -> impl Iterator<Item = &Place> {
        std::iter::successors(Some(&*self.place), |place| place.above.as_deref())
    }

    pub(crate) fn run(&self) -> &Run {
        &self.place.run
    }

    pub(crate) fn journal(&self) -> &dyn Journal {
        &*self.place.run.journal
    }

    pub(crate) fn policies(&self) -> &Policies {
        &self.place.policies
    }

    pub(crate) fn emit_kind(&self, kind: impl FnOnce() -> EventKind) {
        let place = &self.place;
        place.emitter.emit(&place.run.sinks, &place.origin, kind);
    }

    pub(crate) fn emit_delta(&self, part: DeltaPart, text: &str) {
        let place = &self.place;
        place.emitter.emit_delta(&place.run.sinks, &place.origin, part, text);
    }
}

impl fmt::Debug for RunContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunContext")
            .field("origin", &self.place.origin)
            .field("deadline", &self.place.deadline)
            .finish_non_exhaustive()
    }
}

impl Place {
    fn cancellation(&self) -> &CancellationToken {
        self.cancellation.get_or_init(|| match &self.above {
            Some(above) => above.cancellation().child_token(),
            None => CancellationToken::new(),
        })
    }
}

/// Ends a place of a run when it is dropped: what was handed to threads and tasks hears of it.
pub(crate) struct EndOnDrop(Option<RunContext>);

impl EndOnDrop {
    /// What is here came to its own end, and what it left behind may go on until the run ends.
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some(cx) = &self.0 {
            cx.end();
        }
    }
}

/// Ends when the run must.
async fn stopped(deadline: Option<Instant>, token: Option<CancellationToken>) -> AgentError {
    let cancelled = async {
        match token {
            Some(token) => token.cancelled().await,
            None => pending().await,
        }
    };
    let Some(deadline) = deadline else {
        cancelled.await;
        return AgentError::Cancelled;
    };
    match tokio::time::timeout_at(deadline, cancelled).await {
        Ok(()) => AgentError::Cancelled,
        Err(_) => AgentError::Deadline,
    }
}

/// The earlier of two deadlines.
fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
