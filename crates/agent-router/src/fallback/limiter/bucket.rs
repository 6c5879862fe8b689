//! A token bucket that may be in debt.

use std::time::Duration;

/// A bucket that refills all the time.
///
/// Levels are exact: they count in parts of a unit (a request or a token), of which a rate of one a minute refills one in a nanosecond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Units in a minute, which is parts in a nanosecond.
    rate: i128,
    burst: i128,
    /// Below zero is a debt.
    level: i128,
}

/// The parts of a unit: the nanoseconds of a minute.
const UNIT: i128 = 60_000_000_000;

impl Bucket {
    /// A full bucket.
    pub(super) fn new(per_minute: u64) -> Self {
        let rate = i128::from(per_minute.max(1));
        let burst = (rate * UNIT / 10).max(UNIT);
        Self { rate, burst, level: burst }
    }

    pub(super) fn refill(&mut self, elapsed: Duration) {
        let nanos = i128::try_from(elapsed.as_nanos()).unwrap_or(i128::MAX);
        self.add(self.rate.saturating_mul(nanos));
    }

    /// Whether a call that costs `units` may go ahead.
    pub(super) fn covers(&self, units: u64) -> bool {
        self.level >= self.needed(units)
    }

    /// How long until a call that costs `units` may go ahead, if others take `ahead` first.
    pub(super) fn ready_in(&self, units: u64, ahead: u128) -> Duration {
        let ahead = i128::try_from(ahead).unwrap_or(i128::MAX).saturating_mul(UNIT);
        let missing = self.needed(units).saturating_add(ahead).saturating_sub(self.level).max(0);
        let nanos = missing.unsigned_abs().div_ceil(self.rate.unsigned_abs());
        u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
    }

    pub(super) fn take(&mut self, units: u64) {
        self.level = self.level.saturating_sub(parts(units));
    }

    pub(super) fn give_back(&mut self, units: u64) {
        self.add(parts(units));
    }

    /// What has to be there: a full bucket is enough for any call.
    fn needed(&self, units: u64) -> i128 {
        parts(units).min(self.burst)
    }

    fn add(&mut self, parts: i128) {
        self.level = self.level.saturating_add(parts).min(self.burst);
    }

    #[cfg(test)]
    pub(super) fn is_full(&self) -> bool {
        self.level == self.burst
    }
}

fn parts(units: u64) -> i128 {
    i128::from(units) * UNIT
}
