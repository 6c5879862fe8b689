//! What is known about the models of all plans: breakers, credentials, limits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_core::{InvalidValue, ModelInfo, TenantId, Tokens};
use serde::Serialize;
use tokio::time::Instant;

use super::breaker::{Breaker, BreakerSettings, BreakerState, NotNow, Permit, Verdict};
use super::limiter::{Limiter, Place, StepLimits};
use super::table::Mark;

/// What is known about models and credentials from the requests so far: their circuit breakers, what cools off, which credentials
/// are dead, and their limits.
///
/// Plans that are given the same `Targets` share what they learn, and the limits. Clones are one. It is kept in memory, for this
/// process.
///
/// Attempts and changes are told as metrics too, by `tracing` events with the target `adjutant::metrics`, whose fields have the
/// names that `tracing-opentelemetry`'s metrics layer reads: `monotonic_counter.adjutant.model.attempts` (with `outcome`),
/// `monotonic_counter.adjutant.model.skips` (with `reason`) and `monotonic_counter.adjutant.breaker.changes` (with `state`, the new
/// one), each with `provider`, `model` and `credential`. A gauge of states is [`states`](Self::states), read when it is scraped.
#[derive(Clone)]
pub struct Targets {
    shared: Arc<Shared>,
}

struct Shared {
    settings: BreakerSettings,
    random: Mutex<fastrand::Rng>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    targets: BTreeMap<TargetKey, Arc<Target>>,
    credentials: BTreeMap<CredentialKey, Breaker>,
}

type CredentialKey = (Arc<str>, Arc<str>);

/// What a circuit breaker is about: a provider's model, asked with one credential. The credential's name, not the credential.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub struct TargetKey {
    /// Who serves it.
    pub provider: Arc<str>,
    /// The model.
    pub model: Arc<str>,
    /// The name of the credential.
    pub credential: Arc<str>,
}

impl TargetKey {
    /// This model of this provider, asked with the credential of this name.
    pub fn new(provider: impl Into<Arc<str>>, model: impl Into<Arc<str>>, credential: impl Into<Arc<str>>) -> Self {
        Self { provider: provider.into(), model: model.into(), credential: credential.into() }
    }
}

/// What is known about a target at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TargetState {
    /// Which.
    #[serde(flatten)]
    pub key: TargetKey,
    /// Its circuit breaker.
    pub breaker: BreakerState,
    /// For how long the breaker stays open, in milliseconds.
    pub open_for_ms: u64,
    /// For how long it cools off because it was asked too often, in milliseconds.
    pub cooling_for_ms: u64,
    /// For how long the credential is dead, in milliseconds.
    pub dead_for_ms: u64,
    /// How many calls the breaker looks at.
    pub calls: usize,
    /// How many of these failed.
    pub failures: usize,
    /// How often it was asked since the start.
    pub attempts: u64,
    /// How often it was left out since the start.
    pub skips: u64,
    /// How many of its answers were empty, garbled or did not fit since the start.
    pub bad_answers: u64,
}

impl Targets {
    /// Nothing is known yet.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] for settings with which no breaker would ever open.
    pub fn new(settings: BreakerSettings) -> Result<Self, InvalidValue> {
        settings.ensure_valid()?;
        Ok(Self::with_random(settings, fastrand::Rng::new()))
    }

    /// The same with times that are random in the same way each time, for tests.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_seed(settings: BreakerSettings, seed: u64) -> Result<Self, InvalidValue> {
        settings.ensure_valid()?;
        Ok(Self::with_random(settings, fastrand::Rng::with_seed(seed)))
    }

    /// With the default settings, and times that are random by this seed.
    pub(super) fn seeded(seed: u64) -> Self {
        Self::with_random(BreakerSettings::default(), fastrand::Rng::with_seed(seed))
    }

    fn with_random(settings: BreakerSettings, random: fastrand::Rng) -> Self {
        let (random, table) = (Mutex::new(random), Mutex::default());
        Self { shared: Arc::new(Shared { settings, random, table }) }
    }

    /// What is known, by target.
    #[must_use]
    pub fn states(&self) -> Vec<TargetState> {
        // Outside of the lock, since each has locks of its own.
        let targets: Vec<Arc<Target>> = self.table().targets.values().cloned().collect();
        targets.iter().map(|target| target.state()).collect()
    }

    /// Says that a credential is good again: it was replaced, or paid for. `false` when nobody uses such a credential.
    pub fn revive(&self, provider: &str, credential: &str) -> bool {
        let key = (Arc::from(provider), Arc::from(credential));
        let breaker = self.table().credentials.get(&key).cloned();
        breaker.inspect(Breaker::reset).is_some()
    }

    /// Closes the breaker of a target, and ends its cooling off. `false` when there is no such target.
    pub fn close(&self, key: &TargetKey) -> bool {
        let target = self.table().targets.get(key).cloned();
        target.inspect(|target| target.breaker.reset()).is_some()
    }

    /// Forgets a target: the next plan that names it begins anew, with limits of its own, while plans that are there go on with what
    /// they have. `false` when there is no such target.
    pub fn forget(&self, key: &TargetKey) -> bool {
        self.table().targets.remove(key).is_some()
    }

    /// The target of a plan's step.
    pub(super) fn target(
        &self,
        info: &ModelInfo,
        credential: &Arc<str>,
        limits: &StepLimits,
    ) -> Result<Arc<Target>, InvalidValue> {
        let (provider, model) = (info.provider.clone(), info.name.clone());
        let key = TargetKey { provider: provider.clone(), model, credential: credential.clone() };
        let mut table = self.table();
        if let Some(target) = table.targets.get(&key) {
            if target.limits != *limits {
                let expected = "the same limits as another step with this model and credential";
                return Err(InvalidValue::new("limits", &key, expected));
            }
            return Ok(target.clone());
        }
        let credential = table.credentials.entry((provider, credential.clone()));
        let credential = credential.or_insert_with(|| self.breaker()).clone();
        let target = Arc::new(Target {
            key: key.clone(),
            breaker: self.breaker(),
            credential,
            dead: Duration::from_millis(self.shared.settings.dead_ms),
            limiter: Limiter::new(*limits),
            limits: *limits,
            attempts: AtomicU64::new(0),
            skips: AtomicU64::new(0),
            bad_answers: AtomicU64::new(0),
            silence: Mutex::default(),
        });
        table.targets.insert(key, target.clone());
        Ok(target)
    }

    fn breaker(&self) -> Breaker {
        let random = self.shared.random.lock().unwrap_or_else(PoisonError::into_inner).fork();
        Breaker::new(self.shared.settings, random)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Targets {
    fn default() -> Self {
        Self::with_random(BreakerSettings::default(), fastrand::Rng::new())
    }
}

impl fmt::Debug for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.states()).finish()
    }
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} by {}", self.provider, self.model, self.credential)
    }
}

/// A model with a credential.
#[derive(Debug)]
pub(super) struct Target {
    key: TargetKey,
    breaker: Breaker,
    /// Shared by all models that are asked with it.
    credential: Breaker,
    dead: Duration,
    limiter: Limiter,
    limits: StepLimits,
    attempts: AtomicU64,
    skips: AtomicU64,
    bad_answers: AtomicU64,
    silence: Mutex<Silence>,
}

/// For how long a model is silent before it says something.
#[derive(Debug, Default)]
struct Silence {
    /// How long was waited for it, all together, by those who gave up since something was heard of it, and until when.
    waited: Duration,
    until: Option<Instant>,
    /// When something was heard of it last.
    heard: Option<Instant>,
    /// What it took to begin an answer lately, at most.
    usual: Duration,
}

/// A silence that is shorter than this says nothing about a model.
const TELLING: Duration = Duration::from_secs(5);

/// How long what a model usually takes says something, after it was heard of last.
const LATELY: Duration = Duration::from_secs(60);

/// The code of a step that was asked too often.
pub(super) const COOLING: &str = "step.cooling";

/// Why a target is left out, and when that may be different.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LeftOut {
    /// The stable code.
    pub(super) code: &'static str,
    pub(super) ready_at: Option<Instant>,
    /// Whether it may be different at all while this request waits.
    pub(super) is_passing: bool,
}

impl Target {
    /// Whether both belong to the same credential.
    pub(super) fn shares_credential(&self, other: &Self) -> bool {
        (&self.key.provider, &self.key.credential) == (&other.key.provider, &other.key.credential)
    }

    /// Whether it could be asked now, but for its limits.
    pub(super) fn check(&self) -> Result<(), LeftOut> {
        let now = Instant::now();
        self.credential.check(now).map_err(dead)?;
        self.breaker.check(now).map_err(resting)
    }

    /// Whether there are limits within which a place may have to be waited for.
    pub(super) const fn is_limited(&self) -> bool {
        !self.limits.are_none()
    }

    /// Waits for a place within its limits.
    pub(super) async fn seat(
        &self,
        tenant: &TenantId,
        tokens: Tokens,
        until: Option<Instant>,
    ) -> Result<Place, LeftOut> {
        self.limiter.admit(tenant, tokens, until).await.map_err(|busy| LeftOut {
            code: "step.busy",
            ready_at: busy.ready_in.and_then(|wait| Instant::now().checked_add(wait)),
            is_passing: true,
        })
    }

    /// Lets a call that has a place pass, if nothing was learnt meanwhile that forbids it.
    pub(super) fn pass(&self, place: Place) -> Result<Pass, LeftOut> {
        let now = Instant::now();
        let credential = self.credential.admit(now).map_err(dead);
        let admitted = credential.and_then(|credential| Ok((credential, self.breaker.admit(now).map_err(resting)?)));
        let (credential, permit) = match admitted {
            Ok(admitted) => admitted,
            Err(left_out) => {
                place.unsent();
                return Err(left_out);
            }
        };
        if permit.is_probe() {
            self.tell_breaker(BreakerState::HalfOpen);
        }
        self.attempts.fetch_add(1, Ordering::Relaxed);
        Ok(Pass { permit, credential, place })
    }

    /// Learns that a call gave an answer.
    pub(super) fn answered(&self, pass: Pass, tokens: Tokens) {
        self.tell_attempt("answered");
        self.alive(pass, tokens);
    }

    /// Learns that a call failed.
    pub(super) fn failed(&self, pass: Pass, mark: Mark, outcome: &str, retry_after: Option<Duration>, tokens: Tokens) {
        self.tell_attempt(outcome);
        match mark {
            Mark::Quality => {
                self.bad_answer();
                self.alive(pass, tokens);
            }
            Mark::Cool => {
                pass.permit.cool(retry_after);
                self.alive(pass, tokens);
            }
            Mark::DeadCredential => {
                pass.place.settle(tokens);
                pass.credential.trip(self.dead);
            }
            Mark::Count => {
                pass.place.settle(tokens);
                if retry_after.is_some() {
                    pass.permit.cool(retry_after);
                }
                if pass.permit.give(Verdict::Failed) {
                    self.tell_breaker(BreakerState::Open);
                }
            }
            Mark::None => self.alive(pass, tokens),
        }
    }

    fn alive(&self, pass: Pass, tokens: Tokens) {
        pass.place.settle(tokens);
        pass.credential.give(Verdict::Alive);
        if pass.permit.give(Verdict::Alive) {
            self.tell_breaker(BreakerState::Closed);
        }
    }

    /// Notes a sign of life: the beginning of an answer to a call that began then, or something later.
    pub(super) fn heard(&self, began: Option<Instant>) {
        let mut silence = self.silence();
        (silence.waited, silence.until, silence.heard) = (Duration::ZERO, None, Some(Instant::now()));
        if let Some(began) = began {
            silence.usual = (silence.usual / 10 * 9).max(began.elapsed());
        }
    }

    /// Whether it was silent for so long that it is not just slow, for somebody who gives up, and waited from `since` to `missed`: longer
    /// than is telling, and than the double of what it took lately, and of how it paused before. The time that others waited counts as
    /// well, since something was heard of it. Whoever waited less than it usually takes has nothing to say, for a minute.
    pub(super) fn is_silent(&self, since: Instant, missed: Instant, longest_pause: Duration) -> bool {
        let mut silence = self.silence();
        let is_known = silence.heard.is_some_and(|heard| heard.elapsed() < LATELY);
        if is_known && missed.saturating_duration_since(since) <= silence.usual {
            return false;
        }
        let from = since.max(silence.until.unwrap_or(since)).max(silence.heard.unwrap_or(since));
        silence.waited += missed.saturating_duration_since(from);
        silence.until = silence.until.max(Some(missed));
        silence.waited >= TELLING.max(silence.usual * 2).max(longest_pause * 2)
    }

    fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an answer that was not good enough.
    pub(super) fn bad_answer(&self) {
        self.bad_answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts that it was left out.
    pub(super) fn skipped(&self, reason: &str) {
        self.skips.fetch_add(1, Ordering::Relaxed);
        let TargetKey { provider, model, credential } = &self.key;
        tracing::event!(target: "adjutant::metrics", tracing::Level::INFO, {
            monotonic_counter.adjutant.model.skips = 1_u64,
            provider = &**provider,
            model = &**model,
            credential = &**credential,
            reason,
        });
    }

    fn tell_attempt(&self, outcome: &str) {
        let TargetKey { provider, model, credential } = &self.key;
        tracing::event!(target: "adjutant::metrics", tracing::Level::INFO, {
            monotonic_counter.adjutant.model.attempts = 1_u64,
            provider = &**provider,
            model = &**model,
            credential = &**credential,
            outcome,
        });
    }

    fn tell_breaker(&self, state: BreakerState) {
        let TargetKey { provider, model, credential } = &self.key;
        let state = match state {
            BreakerState::Closed => "closed",
            BreakerState::HalfOpen => "half_open",
            BreakerState::Open => "open",
        };
        tracing::event!(target: "adjutant::metrics", tracing::Level::INFO, {
            monotonic_counter.adjutant.breaker.changes = 1_u64,
            provider = &**provider,
            model = &**model,
            credential = &**credential,
            state,
        });
    }

    fn state(&self) -> TargetState {
        let (breaker, credential) = (self.breaker.look(), self.credential.look());
        TargetState {
            key: self.key.clone(),
            breaker: breaker.state,
            open_for_ms: millis(breaker.open_for),
            cooling_for_ms: millis(breaker.cooling_for),
            dead_for_ms: millis(credential.open_for),
            calls: breaker.calls,
            failures: breaker.failures,
            attempts: self.attempts.load(Ordering::Relaxed),
            skips: self.skips.load(Ordering::Relaxed),
            bad_answers: self.bad_answers.load(Ordering::Relaxed),
        }
    }
}

/// A call that may be made. When it is dropped, nothing is learnt from it.
#[derive(Debug)]
pub(super) struct Pass {
    permit: Permit,
    credential: Permit,
    place: Place,
}

impl Pass {
    /// Gives it back: nothing is sent.
    pub(super) fn unused(self) {
        self.place.unsent();
    }
}

fn dead(not_now: NotNow) -> LeftOut {
    // Somebody else asks whether it is good again, which does not take long.
    let is_passing = not_now.ready_at.is_none();
    LeftOut { code: "step.dead_credential", ready_at: not_now.ready_at, is_passing }
}

fn resting(not_now: NotNow) -> LeftOut {
    let code = if not_now.is_cooling { COOLING } else { "step.open" };
    LeftOut { code, ready_at: not_now.ready_at, is_passing: true }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
