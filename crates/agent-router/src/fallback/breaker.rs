//! One circuit breaker: whether something may be asked now, by how it did lately.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_core::InvalidValue;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// When a circuit breaker opens and for how long. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BreakerSettings {
    /// How many of the last calls are looked at.
    pub window: usize,
    /// How old a call may be to be looked at.
    pub window_ms: u64,
    /// How many calls there have to be before it opens.
    pub minimum_calls: usize,
    /// It opens when this many per cent of them failed, or more.
    pub failures_percent: u32,
    /// For how long it opens first. Each further time without a success between them doubles that. What is waited is random
    /// between half of it and all of it.
    pub open_ms: u64,
    /// For how long it opens at most.
    pub longest_open_ms: u64,
    /// For how long a model cools off that sends us away and does not say for how long.
    pub cooling_ms: u64,
    /// For how long a model cools off at most, whatever it says.
    pub longest_cooling_ms: u64,
    /// How long the call may take that decides whether it closes again: after that, another one may.
    pub longest_probe_ms: u64,
    /// For how long a refused credential is dead.
    pub dead_ms: u64,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            window: 20,
            window_ms: 30_000,
            minimum_calls: 5,
            failures_percent: 50,
            open_ms: 2_000,
            longest_open_ms: 15_000,
            cooling_ms: 1_000,
            longest_cooling_ms: 900_000,
            longest_probe_ms: 60_000,
            dead_ms: 300_000,
        }
    }
}

impl BreakerSettings {
    /// Whether they can open a breaker, and close it again.
    pub(super) fn ensure_valid(&self) -> Result<(), InvalidValue> {
        if self.window == 0 {
            return Err(InvalidValue::new("window", 0, "at least 1"));
        }
        if !(1..=self.window).contains(&self.minimum_calls) {
            return Err(InvalidValue::new("minimum_calls", self.minimum_calls, "at least 1, at most `window`"));
        }
        if self.window_ms == 0 {
            return Err(InvalidValue::new("window_ms", 0, "at least 1"));
        }
        if self.longest_probe_ms == 0 {
            return Err(InvalidValue::new("longest_probe_ms", 0, "at least 1"));
        }
        if !(1..=100).contains(&self.failures_percent) {
            return Err(InvalidValue::new("failures_percent", self.failures_percent, "1 to 100"));
        }
        Ok(())
    }
}

/// What state a circuit breaker is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BreakerState {
    /// Everybody may ask.
    Closed,
    /// Nobody may.
    Open,
    /// One may, and its verdict decides.
    HalfOpen,
}

/// What came of a call, for the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There was an answer, if only a refusal of the request.
    Alive,
    /// It failed.
    Failed,
}

/// A circuit breaker. Clones are one.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    settings: BreakerSettings,
    random: fastrand::Rng,
    phase: Phase,
    /// Counts changes of the phase: a verdict of before counts no more.
    generation: u64,
    /// Counts how often a host said that all is well: what calls of before say counts no more.
    epoch: u64,
    /// The last calls, and whether they failed.
    calls: VecDeque<(Instant, bool)>,
    /// How often it opened without a success since.
    opened: u32,
    cool_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Closed,
    Open {
        until: Instant,
    },
    /// One call is out; another one may follow it then.
    Probing {
        until: Instant,
    },
}

/// Why nothing may be asked now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NotNow {
    /// Whether it is about cooling off, not about failures.
    pub(super) is_cooling: bool,
    /// When it may be different. `None` while somebody else's verdict is waited for.
    pub(super) ready_at: Option<Instant>,
}

impl Breaker {
    pub(super) fn new(settings: BreakerSettings, random: fastrand::Rng) -> Self {
        let shared = Shared {
            settings,
            random,
            phase: Phase::Closed,
            generation: 0,
            epoch: 0,
            calls: VecDeque::new(),
            opened: 0,
            cool_until: None,
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something could be asked now, without taking the place of a probe.
    pub(super) fn check(&self, now: Instant) -> Result<(), NotNow> {
        self.lock().check(now)
    }

    /// Lets a call pass, as the only one where the breaker is half open.
    pub(super) fn admit(&self, now: Instant) -> Result<Permit, NotNow> {
        let mut shared = self.lock();
        shared.check(now)?;
        let is_probe = shared.phase != Phase::Closed;
        if is_probe {
            let until = later(now, Duration::from_millis(shared.settings.longest_probe_ms));
            shared.enter(Phase::Probing { until });
        }
        let Shared { generation, epoch, .. } = *shared;
        Ok(Permit { breaker: self.clone(), generation, epoch, is_probe, given: false })
    }

    /// Forgets everything: it is closed.
    pub(super) fn reset(&self) {
        let mut shared = self.lock();
        shared.calls.clear();
        shared.opened = 0;
        shared.cool_until = None;
        shared.epoch += 1;
        shared.enter(Phase::Closed);
    }

    /// How it is now.
    pub(super) fn look(&self) -> Look {
        let mut shared = self.lock();
        let now = Instant::now();
        shared.forget_old(now);
        let left = |until: Instant| until.saturating_duration_since(now);
        let (state, open_for) = match shared.phase {
            Phase::Closed => (BreakerState::Closed, Duration::ZERO),
            Phase::Open { until } if until > now => (BreakerState::Open, left(until)),
            Phase::Open { .. } | Phase::Probing { .. } => (BreakerState::HalfOpen, Duration::ZERO),
        };
        Look {
            state,
            open_for,
            cooling_for: shared.cool_until.map_or(Duration::ZERO, left),
            calls: shared.calls.len(),
            failures: shared.failures(),
        }
    }
}

/// How a breaker is at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    pub(super) state: BreakerState,
    pub(super) open_for: Duration,
    pub(super) cooling_for: Duration,
    pub(super) calls: usize,
    pub(super) failures: usize,
}

impl Shared {
    fn check(&self, now: Instant) -> Result<(), NotNow> {
        if let Some(until) = self.cool_until.filter(|until| *until > now) {
            return Err(NotNow { is_cooling: true, ready_at: Some(until) });
        }
        match self.phase {
            Phase::Open { until } if until > now => Err(NotNow { is_cooling: false, ready_at: Some(until) }),
            Phase::Probing { until } if until > now => Err(NotNow { is_cooling: false, ready_at: None }),
            Phase::Closed | Phase::Open { .. } | Phase::Probing { .. } => Ok(()),
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.generation += 1;
        self.phase = phase;
    }

    fn forget_old(&mut self, now: Instant) {
        let oldest = Duration::from_millis(self.settings.window_ms);
        while self.calls.len() > self.settings.window
            || self.calls.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > oldest)
        {
            self.calls.pop_front();
        }
    }

    fn failures(&self) -> usize {
        self.calls.iter().filter(|(_, failed)| *failed).count()
    }

    fn count(&mut self, failed: bool) {
        let now = Instant::now();
        self.calls.push_back((now, failed));
        self.forget_old(now);
        if !failed {
            self.opened = 0;
            return;
        }
        let failures = self.failures() as u64;
        let bound = self.calls.len() as u64 * u64::from(self.settings.failures_percent);
        if self.calls.len() >= self.settings.minimum_calls && failures * 100 >= bound {
            self.open(now);
        }
    }

    fn open(&mut self, now: Instant) {
        self.opened = self.opened.saturating_add(1);
        let doubled = 1_u64.checked_shl(self.opened - 1).unwrap_or(u64::MAX);
        let bound = self.settings.open_ms.saturating_mul(doubled).min(self.settings.longest_open_ms);
        let wait = self.random.u64(bound.div_ceil(2)..=bound.max(1));
        self.calls.clear();
        self.enter(Phase::Open { until: later(now, Duration::from_millis(wait)) });
    }

    /// Takes a verdict in. `true` when that changes the phase.
    fn decide(&mut self, verdict: Verdict, is_probe: bool) -> bool {
        let before = self.generation;
        match (is_probe, verdict) {
            (true, Verdict::Alive) => {
                self.opened = 0;
                self.enter(Phase::Closed);
            }
            (true, Verdict::Failed) => self.open(Instant::now()),
            (false, verdict) => self.count(verdict == Verdict::Failed),
        }
        self.generation != before
    }
}

/// A call that may be made. It gives its verdict once; without one, the call says nothing about what was asked.
#[derive(Debug)]
pub(super) struct Permit {
    breaker: Breaker,
    generation: u64,
    epoch: u64,
    is_probe: bool,
    given: bool,
}

impl Permit {
    /// Gives the verdict. `true` when that opens or closes the breaker.
    pub(super) fn give(mut self, verdict: Verdict) -> bool {
        self.given = true;
        let mut shared = self.breaker.lock();
        shared.generation == self.generation && shared.decide(verdict, self.is_probe)
    }

    /// Lets nothing more pass for this long, or as long as it would anyway.
    pub(super) fn cool(&self, wait: Option<Duration>) {
        let mut shared = self.breaker.lock();
        if shared.epoch != self.epoch {
            return;
        }
        let BreakerSettings { cooling_ms, longest_cooling_ms, .. } = shared.settings;
        let longest = Duration::from_millis(longest_cooling_ms);
        let until = later(Instant::now(), wait.unwrap_or(Duration::from_millis(cooling_ms)).min(longest));
        shared.cool_until = shared.cool_until.max(Some(until));
    }

    /// Opens it for this long, or as long as it is anyway, unless calls that began after this one say otherwise.
    pub(super) fn trip(mut self, wait: Duration) {
        self.given = true;
        let mut shared = self.breaker.lock();
        let until = later(Instant::now(), wait);
        let until = match shared.phase {
            Phase::Open { until: earlier } if shared.epoch == self.epoch => until.max(earlier),
            _ if shared.generation == self.generation => until,
            _ => return,
        };
        shared.enter(Phase::Open { until });
    }

    /// Whether the breaker is half open for this.
    pub(super) const fn is_probe(&self) -> bool {
        self.is_probe
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.given || !self.is_probe {
            return;
        }
        let mut shared = self.breaker.lock();
        if shared.generation == self.generation {
            // Nothing was learnt: the next one probes.
            shared.enter(Phase::Open { until: Instant::now() });
        }
    }
}

/// `wait` after `now`, or a year if that is more than the clock can say.
fn later(now: Instant, wait: Duration) -> Instant {
    let year = Duration::from_secs(365 * 24 * 3_600);
    now.checked_add(wait.min(year)).unwrap_or(now)
}
