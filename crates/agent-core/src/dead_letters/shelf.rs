//! The letters of all tenants and the rules of their claims, wherever the letters themselves are.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::Duration;

use super::letter::{Claim, ClaimEnd, LetterStatus, LetterSummary, Purge};
use crate::id::{ClaimToken, RunId, TenantId};

/// Letters by tenant and run. `T` is the letter, or where it is.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    tenants: HashMap<TenantId, BTreeMap<RunId, Kept<T>>>,
}

/// A letter that is kept.
#[derive(Debug)]
pub(super) struct Kept<T> {
    summary: LetterSummary,
    pub(super) standing: Standing,
    pub(super) letter: T,
}

/// What becomes of a letter, as it is kept: a claim stays until somebody ends it or takes another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Standing {
    Open,
    Claimed { token: ClaimToken, until: u64 },
    Replayed { at: u64 },
}

impl Standing {
    /// As it is after a claim that ended at the time `now`.
    pub(super) fn after(end: ClaimEnd, now: u64) -> Self {
        match end {
            ClaimEnd::Replayed => Self::Replayed { at: now },
            ClaimEnd::GivenBack => Self::Open,
        }
    }

    /// As it is told at the time `now`.
    fn status(self, now: u64) -> LetterStatus {
        match self {
            Self::Claimed { until, .. } if now < until => LetterStatus::Claimed { until },
            Self::Open | Self::Claimed { .. } => LetterStatus::Open,
            Self::Replayed { at } => LetterStatus::Replayed { at },
        }
    }
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { tenants: HashMap::new() }
    }
}

impl<T> Kept<T> {
    pub(super) fn status(&self, now: u64) -> LetterStatus {
        self.standing.status(now)
    }
}

impl<T> Shelf<T> {
    /// Every letter, by tenant and run.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&TenantId, &RunId, &Kept<T>)> {
        self.tenants.iter().flat_map(|(tenant, runs)| runs.iter().map(move |(run, kept)| (tenant, run, kept)))
    }

    pub(super) fn find(&self, tenant: &TenantId, run: RunId) -> Option<&Kept<T>> {
        self.tenants.get(tenant)?.get(&run)
    }

    /// How often the run will have come here with its next letter.
    pub(super) fn next_failures(&self, tenant: &TenantId, run: RunId) -> u32 {
        self.find(tenant, run).map_or(0, |kept| kept.summary.failures).saturating_add(1)
    }

    pub(super) fn list(&self, tenant: &TenantId, after: Option<RunId>, at_most: usize, now: u64) -> Vec<LetterSummary> {
        let Some(runs) = self.tenants.get(tenant) else { return Vec::new() };
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = runs.range((start, Bound::Unbounded)).take(at_most);
        page.map(|(_, kept)| LetterSummary { status: kept.status(now), ..kept.summary.clone() }).collect()
    }

    /// The letter, if it can be claimed, or why not.
    pub(super) fn claimable(&self, tenant: &TenantId, run: RunId, now: u64) -> Result<&T, Claim> {
        let kept = self.find(tenant, run).ok_or(Claim::Unknown)?;
        match kept.status(now) {
            LetterStatus::Open => Ok(&kept.letter),
            LetterStatus::Claimed { until } => Err(Claim::Busy { until }),
            LetterStatus::Replayed { .. } => Err(Claim::Replayed),
        }
    }

    /// Whether the letter's claim is that of `token`, its time over or not.
    pub(super) fn is_held(&self, tenant: &TenantId, run: RunId, token: ClaimToken) -> bool {
        let standing = self.find(tenant, run).map(|kept| kept.standing);
        matches!(standing, Some(Standing::Claimed { token: held, .. }) if held == token)
    }

    /// The runs whose letters are to be removed.
    pub(super) fn purgeable(&self, tenant: &TenantId, which: Purge, now: u64) -> Vec<RunId> {
        let Some(runs) = self.tenants.get(tenant) else { return Vec::new() };
        let is_meant = |run: RunId, kept: &Kept<T>| {
            let status = kept.status(now);
            let is_claimed = matches!(status, LetterStatus::Claimed { .. });
            match which {
                Purge::One(one) => run == one && !is_claimed,
                Purge::Before(time) => kept.summary.failed_at < time && !is_claimed,
                Purge::Replayed => matches!(status, LetterStatus::Replayed { .. }),
                Purge::All => true,
            }
        };
        runs.iter().filter(|(run, kept)| is_meant(**run, kept)).map(|(run, _)| *run).collect()
    }

    /// Keeps a letter, which is open, in place of one of the same run.
    pub(super) fn put(&mut self, tenant: TenantId, summary: LetterSummary, letter: T) {
        let kept = Kept { standing: Standing::Open, letter, summary };
        self.tenants.entry(tenant).or_default().insert(kept.summary.run_id, kept);
    }

    /// Changes what becomes of a letter, if there is one.
    pub(super) fn set(&mut self, tenant: &TenantId, run: RunId, standing: Standing) {
        if let Some(kept) = self.tenants.get_mut(tenant).and_then(|runs| runs.get_mut(&run)) {
            kept.standing = standing;
        }
    }

    pub(super) fn remove(&mut self, tenant: &TenantId, removed: &[RunId]) {
        let Some(runs) = self.tenants.get_mut(tenant) else { return };
        for run in removed {
            runs.remove(run);
        }
        if runs.is_empty() {
            self.tenants.remove(tenant);
        }
    }
}

/// When a claim's time is over that begins at `now`.
pub(super) fn claimed_until(now: u64, time: Duration) -> u64 {
    let millis = time.as_nanos().div_ceil(1_000_000);
    now.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX))
}
