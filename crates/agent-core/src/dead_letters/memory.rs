//! Dead letters in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::letter::{Claim, ClaimEnd, DeadLetter, LetterStatus, LetterSummary, Purge};
use super::shelf::{Shelf, Standing, claimed_until};
use super::{DeadLetterError, DeadLetters};
use crate::clock::now_ms;
use crate::id::{ClaimToken, RunId, TenantId};

/// Dead letters in this process's memory: for tests, and for hosts that can do without them after a restart.
///
/// It keeps everything, states with whole conversations included, until it is purged: a host that runs for long purges it now
/// and then, or brings a store that is not its memory.
#[derive(Debug, Default)]
pub struct MemoryDeadLetters {
    shelf: Mutex<Shelf<Arc<DeadLetter>>>,
}

impl MemoryDeadLetters {
    /// A store without letters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<Arc<DeadLetter>>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl DeadLetters for MemoryDeadLetters {
    async fn put(&self, mut letter: DeadLetter) -> Result<(), DeadLetterError> {
        let (tenant, mut shelf) = (letter.caller.tenant.clone(), self.shelf());
        letter.failures = shelf.next_failures(&tenant, letter.run_id);
        shelf.put(tenant, letter.summary(LetterStatus::Open), Arc::new(letter));
        Ok(())
    }

    async fn list(
        &self,
        tenant: &TenantId,
        after: Option<RunId>,
        at_most: usize,
    ) -> Result<Vec<LetterSummary>, DeadLetterError> {
        Ok(self.shelf().list(tenant, after, at_most, now_ms()))
    }

    async fn get(&self, tenant: &TenantId, run: RunId) -> Result<Option<(DeadLetter, LetterStatus)>, DeadLetterError> {
        let found = self.shelf().find(tenant, run).map(|kept| (kept.letter.clone(), kept.status(now_ms())));
        // States can be large: they are copied while nobody waits for the lock.
        Ok(found.map(|(letter, status)| (DeadLetter::clone(&letter), status)))
    }

    async fn claim(&self, tenant: &TenantId, run: RunId, time: Duration) -> Result<Claim, DeadLetterError> {
        let token = ClaimToken::random();
        let claimed = {
            let mut shelf = self.shelf();
            let now = now_ms();
            let claimed = shelf.claimable(tenant, run, now).cloned();
            if claimed.is_ok() {
                shelf.set(tenant, run, Standing::Claimed { token, until: claimed_until(now, time) });
            }
            claimed
        };
        Ok(match claimed {
            Ok(letter) => Claim::Taken { letter: Box::new(DeadLetter::clone(&letter)), token },
            Err(claim) => claim,
        })
    }

    async fn settle(
        &self,
        tenant: &TenantId,
        run: RunId,
        token: ClaimToken,
        end: ClaimEnd,
    ) -> Result<bool, DeadLetterError> {
        let mut shelf = self.shelf();
        let is_held = shelf.is_held(tenant, run, token);
        if is_held {
            shelf.set(tenant, run, Standing::after(end, now_ms()));
        }
        Ok(is_held)
    }

    async fn purge(&self, tenant: &TenantId, which: Purge) -> Result<usize, DeadLetterError> {
        let mut shelf = self.shelf();
        let runs = shelf.purgeable(tenant, which, now_ms());
        shelf.remove(tenant, &runs);
        Ok(runs.len())
    }
}
