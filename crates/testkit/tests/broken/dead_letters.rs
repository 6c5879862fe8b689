//! Stores of dead letters that break a rule.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use agent_core::{
    Claim, ClaimEnd, ClaimToken, DeadLetter, DeadLetterError, DeadLetters, LetterStatus, LetterSummary,
    MemoryDeadLetters, Purge, RunId, TenantId, async_trait,
};
use testkit::conformance;

/// A store of which one part is wrong.
#[derive(Default)]
struct Broken {
    fault: Option<Fault>,
    letters: MemoryDeadLetters,
    tokens: Mutex<HashMap<RunId, ClaimToken>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// Looks whether a letter is claimed and takes it then.
    ChecksThenActs,
    /// Lets nobody take a letter after its claim's time.
    ClaimsForEver,
    /// Tells of every failure as the first.
    CountsNothing,
    /// Settles whatever claim there is.
    ComparesNoToken,
    /// Leaves a claimed letter as it is when the run fails again.
    KeepsTheClaim,
    /// Keeps letters without what goes on.
    LosesTheState,
    /// Files by run alone.
    IgnoresTheTenant,
    /// The youngest first.
    ListsBackwards,
    /// Begins each page with the last letter of the one before.
    RepeatsTheLast,
    /// Removes claimed letters too.
    PurgesClaims,
}

impl Broken {
    fn with(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn tenant(&self, tenant: &TenantId) -> TenantId {
        if self.has(Fault::IgnoresTheTenant) { TenantId::new("one").unwrap() } else { tenant.clone() }
    }
}

#[async_trait]
impl DeadLetters for Broken {
    async fn put(&self, mut letter: DeadLetter) -> Result<(), DeadLetterError> {
        letter.caller.tenant = self.tenant(&letter.caller.tenant);
        if self.has(Fault::LosesTheState) {
            letter.state = None;
        }
        let found = self.letters.get(&letter.caller.tenant, letter.run_id).await?;
        if self.has(Fault::KeepsTheClaim) && matches!(found, Some((_, LetterStatus::Claimed { .. }))) {
            return Ok(());
        }
        self.letters.put(letter).await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        after: Option<RunId>,
        at_most: usize,
    ) -> Result<Vec<LetterSummary>, DeadLetterError> {
        let mut listed = self.letters.list(&self.tenant(tenant), after, at_most).await?;
        if self.has(Fault::ListsBackwards) {
            listed.reverse();
        }
        if let Some(after) = after.filter(|_| self.has(Fault::RepeatsTheLast)) {
            let all = self.letters.list(tenant, None, usize::MAX).await?;
            listed = all.into_iter().filter(|summary| summary.run_id >= after).take(at_most).collect();
        }
        Ok(listed)
    }

    async fn get(&self, tenant: &TenantId, run: RunId) -> Result<Option<(DeadLetter, LetterStatus)>, DeadLetterError> {
        let mut found = self.letters.get(&self.tenant(tenant), run).await?;
        if let Some((letter, _)) = &mut found {
            letter.caller.tenant = tenant.clone();
            letter.failures = if self.has(Fault::CountsNothing) { 1 } else { letter.failures };
        }
        Ok(found)
    }

    async fn claim(&self, tenant: &TenantId, run: RunId, time: Duration) -> Result<Claim, DeadLetterError> {
        let tenant = self.tenant(tenant);
        let time = if self.has(Fault::ClaimsForEver) { Duration::MAX } else { time };
        if self.has(Fault::ChecksThenActs) {
            let found = self.letters.get(&tenant, run).await?;
            tokio::task::yield_now().await;
            let claim = self.letters.claim(&tenant, run, time).await?;
            return Ok(match (found, claim) {
                (Some((letter, LetterStatus::Open)), Claim::Busy { .. }) => {
                    Claim::Taken { letter: Box::new(letter), token: ClaimToken::random() }
                }
                (_, claim) => claim,
            });
        }
        let claim = self.letters.claim(&tenant, run, time).await?;
        if let Claim::Taken { token, .. } = &claim {
            self.tokens.lock().unwrap().insert(run, *token);
        }
        Ok(claim)
    }

    async fn settle(
        &self,
        tenant: &TenantId,
        run: RunId,
        token: ClaimToken,
        end: ClaimEnd,
    ) -> Result<bool, DeadLetterError> {
        let held = self.tokens.lock().unwrap().get(&run).copied();
        let token = held.filter(|_| self.has(Fault::ComparesNoToken)).unwrap_or(token);
        self.letters.settle(&self.tenant(tenant), run, token, end).await
    }

    async fn purge(&self, tenant: &TenantId, which: Purge) -> Result<usize, DeadLetterError> {
        let which = match which {
            Purge::Before(u64::MAX) if self.has(Fault::PurgesClaims) => Purge::All,
            which => which,
        };
        self.letters.purge(&self.tenant(tenant), which).await
    }
}

async fn check(fault: Fault) {
    conformance::dead_letters(async || Broken::with(fault)).await;
}

#[tokio::test]
async fn whole() {
    conformance::dead_letters(async || Broken::default()).await;
}

#[tokio::test]
#[should_panic(expected = "of 100 that claim one letter at once, exactly one gets it; 100 did")]
async fn checks_then_acts() {
    check(Fault::ChecksThenActs).await;
}

#[tokio::test]
#[should_panic(expected = "a letter whose claim's time is over")]
async fn claims_for_ever() {
    check(Fault::ClaimsForEver).await;
}

#[tokio::test]
#[should_panic(expected = "the second letter of a run: `get` says")]
async fn counts_nothing() {
    check(Fault::CountsNothing).await;
}

#[tokio::test]
#[should_panic(expected = "a claim is not settled by another token")]
async fn compares_no_token() {
    check(Fault::ComparesNoToken).await;
}

#[tokio::test]
#[should_panic(expected = "a letter that was put while the one before was claimed: `get` says")]
async fn keeps_the_claim() {
    check(Fault::KeepsTheClaim).await;
}

#[tokio::test]
#[should_panic(expected = "a letter with something in every field: `get` says")]
async fn loses_the_state() {
    check(Fault::LosesTheState).await;
}

#[tokio::test]
#[should_panic(expected = "a run has one letter, however often it failed")]
async fn ignores_the_tenant() {
    check(Fault::IgnoresTheTenant).await;
}

#[tokio::test]
#[should_panic(expected = "a list tells of each letter in the order of ids")]
async fn lists_backwards() {
    check(Fault::ListsBackwards).await;
}

#[tokio::test]
#[should_panic(expected = "pages of 1 tell of each letter once, in order")]
async fn repeats_the_last() {
    check(Fault::RepeatsTheLast).await;
}

#[tokio::test]
#[should_panic(expected = "a claimed letter is not purged; Before")]
async fn purges_claims() {
    check(Fault::PurgesClaims).await;
}

#[tokio::test]
#[should_panic(expected = "after the store was opened anew the list is []")]
async fn is_gone_when_it_is_opened_again() {
    conformance::durable_dead_letters(async || MemoryDeadLetters::new()).await;
}
