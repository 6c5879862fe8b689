//! The port to dead letters: tasks that failed for good are kept, looked at, replayed once, and purged.

mod error;
mod file;
mod letter;
mod log;
mod memory;
mod shelf;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use error::DeadLetterError;
pub use file::FileDeadLetters;
pub use letter::{Claim, ClaimEnd, DeadLetter, LetterStatus, LetterSummary, Purge};
pub use memory::MemoryDeadLetters;

pub use crate::id::ClaimToken;
use crate::id::{RunId, TenantId};

/// Keeps tasks that failed for good, until somebody replays or purges them.
///
/// There is one letter for each run, under the run's tenant and id. It is open, claimed or replayed: see [`LetterStatus`].
///
/// # Contract
///
/// - Every method is atomic: of several that claim one letter at once, exactly one hears [`Claim::Taken`].
/// - A claim ends when it is settled, when the run's letter is put again, or when another claims the letter after the claim's
///   time. What is settled later with the old token is not settled, and changes nothing.
/// - A claim whose time is over, which nobody else took since, can still be settled: the replay did happen.
/// - Times are those of the wall clock, since processes share a store. Clocks that disagree shorten or lengthen claims.
/// - Nothing of one tenant is visible to another, or changed by it.
/// - What a durable store acknowledged is there after a crash, as far as its disk survives one.
///
/// The testkit's `conformance::dead_letters` checks an implementation.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Keeps the letter of a run that failed.
    ///
    /// A letter of the same run is replaced, claimed or not: it is open then, and [`failures`](DeadLetter::failures) is one more
    /// than before.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`] when the store fails.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await: the letter was kept then or it was not.
    async fn put(&self, letter: DeadLetter) -> Result<(), DeadLetterError>;

    /// The first letters of `tenant`, at most this many: those of runs after `after`, in the order of the runs' ids.
    ///
    /// Ids that are made by [`RunId::random`] are in the order of time, so that the oldest run comes first. The last id of one
    /// page begins the next one, also when its letter was purged meanwhile.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`] when the store fails.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await.
    async fn list(
        &self,
        tenant: &TenantId,
        after: Option<RunId>,
        at_most: usize,
    ) -> Result<Vec<LetterSummary>, DeadLetterError>;

    /// The letter of a run, and what becomes of it. `None` if the tenant has none.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`] when the store fails.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await.
    async fn get(&self, tenant: &TenantId, run: RunId) -> Result<Option<(DeadLetter, LetterStatus)>, DeadLetterError>;

    /// Takes the letter of a run, to replay it, for as long as `time`, in whole milliseconds and rounded up.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`] when the store fails. The letter may be claimed then until the time is over, by nobody.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await: the letter was taken then or it was not. If it was, it is free again after `time`.
    async fn claim(&self, tenant: &TenantId, run: RunId, time: Duration) -> Result<Claim, DeadLetterError>;

    /// Ends the claim that `token` stands for. Tells whether it still was the letter's: otherwise nothing changes.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`] when the store fails.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await: the claim was settled then or it was not.
    async fn settle(
        &self,
        tenant: &TenantId,
        run: RunId,
        token: ClaimToken,
        end: ClaimEnd,
    ) -> Result<bool, DeadLetterError>;

    /// Removes letters of `tenant` for good, and tells how many. Claimed ones stay, unless it is [`Purge::All`].
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`] when the store fails.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await: all of them were removed then, or none.
    async fn purge(&self, tenant: &TenantId, which: Purge) -> Result<usize, DeadLetterError>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: DeadLetters + ?Sized> DeadLetters for Arc<T> {
    async fn put(&self, letter: DeadLetter) -> Result<(), DeadLetterError> {
        (**self).put(letter).await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        after: Option<RunId>,
        at_most: usize,
    ) -> Result<Vec<LetterSummary>, DeadLetterError> {
        (**self).list(tenant, after, at_most).await
    }

    async fn get(&self, tenant: &TenantId, run: RunId) -> Result<Option<(DeadLetter, LetterStatus)>, DeadLetterError> {
        (**self).get(tenant, run).await
    }

    async fn claim(&self, tenant: &TenantId, run: RunId, time: Duration) -> Result<Claim, DeadLetterError> {
        (**self).claim(tenant, run, time).await
    }

    async fn settle(
        &self,
        tenant: &TenantId,
        run: RunId,
        token: ClaimToken,
        end: ClaimEnd,
    ) -> Result<bool, DeadLetterError> {
        (**self).settle(tenant, run, token, end).await
    }

    async fn purge(&self, tenant: &TenantId, which: Purge) -> Result<usize, DeadLetterError> {
        (**self).purge(tenant, which).await
    }
}
