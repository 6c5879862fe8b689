//! A store that is checked, as one tenant sees it, and letters to put there.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    AgentError, AttemptEnd, Attempted, Claim, ClaimEnd, ClaimToken, DeadLetter, DeadLetterError, DeadLetters,
    LetterStatus, LetterSummary, Level, MainAgent, MicroUsd, ModelErrorClass, Purge, RunId, RunState, Spend, TaskId,
    TenantId, Tokens,
};

use super::super::support::ends;
use crate::{FnModel, Line, somebody};

/// A claim that does not end during the suite.
pub(super) const LONG: Duration = Duration::from_secs(3600);

/// A store as one tenant sees it.
#[derive(Clone)]
pub(super) struct Store {
    store: Arc<dyn DeadLetters>,
    pub(super) tenant: TenantId,
}

impl Store {
    /// The store as a tenant sees it that has no letters yet.
    pub(super) fn new(store: &Arc<dyn DeadLetters>) -> Self {
        let tenant = TenantId::new(format!("tenant-{}", RunId::random())).expect("a valid tenant");
        Self::of(store, tenant)
    }

    /// The store as this tenant sees it.
    pub(super) fn of(store: &Arc<dyn DeadLetters>, tenant: TenantId) -> Self {
        Self { store: store.clone(), tenant }
    }

    /// Another store as the same tenant sees it.
    pub(super) fn with(&self, store: &Arc<dyn DeadLetters>) -> Self {
        Self::of(store, self.tenant.clone())
    }

    /// The same store as another tenant sees it.
    pub(super) fn elsewhere(&self) -> Self {
        Self::new(&self.store)
    }

    /// The store itself, for what is not waited for.
    pub(super) fn port(&self) -> &dyn DeadLetters {
        &*self.store
    }

    pub(super) async fn put(&self, letter: DeadLetter) {
        done("put", self.store.put(letter)).await;
    }

    /// Puts a letter of a new run.
    pub(super) async fn put_new(&self) -> RunId {
        let run = RunId::random();
        self.put(letter(&self.tenant, run).await).await;
        run
    }

    pub(super) async fn list(&self, after: Option<RunId>, at_most: usize) -> Vec<LetterSummary> {
        done("list", self.store.list(&self.tenant, after, at_most)).await
    }

    /// Everything that a list tells.
    pub(super) async fn all(&self) -> Vec<LetterSummary> {
        self.list(None, usize::MAX).await
    }

    pub(super) async fn get(&self, run: RunId) -> Option<(DeadLetter, LetterStatus)> {
        done("get", self.store.get(&self.tenant, run)).await
    }

    pub(super) async fn claim(&self, run: RunId, time: Duration) -> Claim {
        done("claim", self.store.claim(&self.tenant, run, time)).await
    }

    pub(super) async fn settle(&self, run: RunId, token: ClaimToken, end: ClaimEnd) -> bool {
        done("settle", self.store.settle(&self.tenant, run, token, end)).await
    }

    pub(super) async fn purge(&self, which: Purge) -> usize {
        done("purge", self.store.purge(&self.tenant, which)).await
    }

    /// Claims the letter, which has to be free.
    pub(super) async fn take(&self, run: RunId, time: Duration, what: &str) -> ClaimToken {
        match self.claim(run, time).await {
            Claim::Taken { token, .. } => token,
            claim => panic!("{what}: `claim` says {claim:?}, expected Taken"),
        }
    }

    pub(super) async fn expect_busy(&self, run: RunId, what: &str) {
        let claim = self.claim(run, LONG).await;
        assert!(matches!(claim, Claim::Busy { .. }), "{what}: `claim` says {claim:?}, expected Busy");
    }

    pub(super) async fn expect_none(&self, run: RunId, what: &str) {
        let found = self.get(run).await;
        assert!(found.is_none(), "{what}: `get` says {found:?}, expected None");
    }

    pub(super) async fn expect_status(&self, run: RunId, expected: LetterStatus, what: &str) {
        let status = self.get(run).await.map(|(_, status)| status);
        assert!(status == Some(expected), "{what}: `get` says {status:?}, expected {expected:?}");
        let listed = self.all().await.into_iter().find(|summary| summary.run_id == run).map(|summary| summary.status);
        assert!(listed == Some(expected), "{what}: `list` says {listed:?}, expected {expected:?}");
    }

    /// The letter has to be open, as it was put, and counted so often.
    pub(super) async fn expect(&self, letter: &DeadLetter, failures: u32, what: &str) {
        let mut expected = letter.clone();
        expected.failures = failures;
        let found = self.get(letter.run_id).await;
        let is_equal = found.as_ref().is_some_and(|found| *found == (expected.clone(), LetterStatus::Open));
        assert!(is_equal, "{what}: `get` says {found:?} with another state or other words than {expected:?}, open");
    }
}

/// The result of a method, which has to end and may not fail.
async fn done<T>(what: &str, work: impl Future<Output = Result<T, DeadLetterError>>) -> T {
    let what = format!("`{what}`");
    ends(&what, work).await.unwrap_or_else(|error| panic!("{what} failed: {error:?}"))
}

/// A letter with something in every field.
pub(super) async fn letter(tenant: &TenantId, run: RunId) -> DeadLetter {
    let spent = Spend::model_call(Tokens(1200)).with_micro_usd(MicroUsd(3600));
    let failed = AttemptEnd::Failed(ModelErrorClass::Unavailable);
    let attempts = vec![
        Attempted::new("small".into(), Some("first".into()), Level::Model, failed, spent),
        Attempted::new("large".into(), None, Level::Model, AttemptEnd::Stopped, Spend::ZERO),
    ];
    bare(tenant, run)
        .with_attempts(attempts)
        .with_spent(spent.plus(Spend::tool_call()))
        .with_state(state(tenant, "Refund A-1042").await)
}

/// A letter without anything but its words.
pub(super) fn bare(tenant: &TenantId, run: RunId) -> DeadLetter {
    let caller = somebody(tenant.as_str(), "ann").with_role("agent").expect("a valid role");
    DeadLetter::new(run, TaskId::random(), caller, "desk", &AgentError::TurnLimit { turns: 16 })
}

/// The state of a run that was asked this and failed.
pub(super) async fn state(tenant: &TenantId, asked: &str) -> RunState {
    let model = FnModel::new(|_| Line::fails(ModelErrorClass::Unavailable));
    let desk = MainAgent::builder("desk", model).build().expect("a valid agent");
    let failure = desk.run(asked, somebody(tenant.as_str(), "ann")).await.expect_err("the model fails");
    failure.state.expect("a run whose model fails can go on")
}
