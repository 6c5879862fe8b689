//! Journals that break a rule.

use std::collections::HashMap;
use std::sync::Mutex;

use agent_core::{Begun, CallKey, CallResult, Journal, JournalError, MemoryJournal, RunId, async_trait};
use testkit::conformance;

/// A journal of which one part is wrong.
#[derive(Default)]
struct Broken {
    fault: Option<Fault>,
    journal: MemoryJournal,
    results: Mutex<HashMap<String, CallResult>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// Knows nothing.
    Forgets,
    /// The last result stays.
    Overwrites,
    /// Takes another call at a place for the first one.
    ComparesNoFingerprint,
    /// Looks first and begins then.
    ChecksThenActs,
    /// Keeps only the beginning of a result.
    Truncates,
    /// Files by path alone.
    IgnoresTheRun,
    /// Files by run and path alone.
    IgnoresTheAttempt,
}

impl Broken {
    fn with(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }
}

fn no_run() -> RunId {
    RunId::from_uuid(Default::default())
}

#[async_trait]
impl Journal for Broken {
    async fn begin(&self, key: &CallKey) -> Result<Begun, JournalError> {
        let (mut key, fault) = (key.clone(), self.fault);
        if fault == Some(Fault::ComparesNoFingerprint) {
            key.fingerprint = agent_core::Fingerprint::from_bytes([0; 32]);
        }
        if fault == Some(Fault::IgnoresTheRun) {
            key.run = no_run();
        }
        if self.fault == Some(Fault::IgnoresTheAttempt) {
            key.attempt = 0;
        }
        if fault == Some(Fault::ChecksThenActs) {
            let known = self.results.lock().unwrap().contains_key(&key.to_string());
            tokio::task::yield_now().await;
            self.results.lock().unwrap().insert(key.to_string(), CallResult::done(true.into()));
            let begun = self.journal.begin(&key).await?;
            return Ok(if known { begun } else { Begun::Fresh });
        }
        let begun = self.journal.begin(&key).await?;
        match (fault, begun) {
            (Some(Fault::Forgets), _) => Ok(Begun::Fresh),
            (Some(Fault::Overwrites), Begun::Finished(_)) => {
                Ok(Begun::Finished(self.results.lock().unwrap()[&key.to_string()].clone()))
            }
            (Some(Fault::Truncates), Begun::Finished(result)) if result.size() > 65_536 => {
                Ok(Begun::Finished(CallResult::done("".into())))
            }
            (_, begun) => Ok(begun),
        }
    }

    async fn finish(&self, key: &CallKey, result: &CallResult) -> Result<(), JournalError> {
        let mut key = key.clone();
        if self.fault == Some(Fault::ComparesNoFingerprint) {
            key.fingerprint = agent_core::Fingerprint::from_bytes([0; 32]);
        }
        if self.fault == Some(Fault::IgnoresTheRun) {
            key.run = no_run();
        }
        if self.fault == Some(Fault::IgnoresTheAttempt) {
            key.attempt = 0;
        }
        self.results.lock().unwrap().insert(key.to_string(), result.clone());
        self.journal.finish(&key, result).await
    }
}

#[tokio::test]
async fn whole() {
    conformance::journal(async || Broken::default()).await;
}

#[tokio::test]
#[should_panic(expected = "a call that was begun and not finished: `begin` says Fresh, expected Unknown")]
async fn forgets() {
    conformance::journal(async || Broken::with(Fault::Forgets)).await;
}

#[tokio::test]
#[should_panic(expected = "a first result stays, whatever it is finished with later")]
async fn overwrites() {
    conformance::journal(async || Broken::with(Fault::Overwrites)).await;
}

#[tokio::test]
#[should_panic(expected = "another call at the place of one that was begun: `begin` says Unknown, expected Conflict")]
async fn compares_no_fingerprint() {
    conformance::journal(async || Broken::with(Fault::ComparesNoFingerprint)).await;
}

#[tokio::test]
#[should_panic(expected = "of 100 that begin one call at once, exactly one hears Fresh; 100 did")]
async fn checks_then_acts() {
    conformance::journal(async || Broken::with(Fault::ChecksThenActs)).await;
}

#[tokio::test]
#[should_panic(expected = "a call comes back with the result that it finished with")]
async fn truncates() {
    conformance::journal(async || Broken::with(Fault::Truncates)).await;
}

#[tokio::test]
#[should_panic(expected = "a call that was never begun: `begin` says")]
async fn ignores_the_run() {
    conformance::journal(async || Broken::with(Fault::IgnoresTheRun)).await;
}

#[tokio::test]
#[should_panic(expected = "another attempt at the same call: `begin` says")]
async fn ignores_the_attempt() {
    conformance::journal(async || Broken::with(Fault::IgnoresTheAttempt)).await;
}

#[tokio::test]
#[should_panic(expected = "a finished call, after the store was opened anew: `begin` says Fresh, expected Finished")]
async fn is_gone_when_it_is_opened_again() {
    conformance::durable_journal(async || MemoryJournal::new()).await;
}
