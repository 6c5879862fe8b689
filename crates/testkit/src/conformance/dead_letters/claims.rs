//! Who has a letter, and for how long.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Claim, ClaimEnd, ClaimToken, DeadLetters, LetterStatus, RunId};

use super::super::support::abandon;
use super::store::{LONG, Store, letter};

/// A claim that ends during the suite.
const SHORT: Duration = Duration::from_millis(50);

pub(super) async fn check(store: &Arc<dyn DeadLetters>) {
    a_claimed_letter_is_nobody_elses(&Store::new(store)).await;
    a_letter_that_was_given_back_is_open(&Store::new(store)).await;
    a_replayed_letter_stays_replayed(&Store::new(store)).await;
    a_letter_is_free_after_its_claims_time(&Store::new(store)).await;
    a_late_claim_that_nobody_took_is_settled(&Store::new(store)).await;
    a_new_letter_ends_the_claim(&Store::new(store)).await;
    a_dropped_claim_is_done_or_not(&Store::new(store)).await;
}

/// Waits by the wall clock, also when the runtime's is paused.
pub(super) async fn wait(millis: u64) {
    let sleep = move || std::thread::sleep(Duration::from_millis(millis));
    tokio::task::spawn_blocking(sleep).await.expect("a sleep");
}

async fn a_claimed_letter_is_nobody_elses(store: &Store) {
    let unknown = RunId::random();
    let claim = store.claim(unknown, LONG).await;
    assert!(claim == Claim::Unknown, "a run that never failed: `claim` says {claim:?}, expected Unknown");
    let is_settled = store.settle(unknown, ClaimToken::random(), ClaimEnd::Replayed).await;
    assert!(!is_settled, "the claim of a run that never failed is no claim");

    let run = RunId::random();
    let mut letter = letter(&store.tenant, run).await;
    store.put(letter.clone()).await;
    letter.failures = 1;
    let is_settled = store.settle(run, ClaimToken::random(), ClaimEnd::Replayed).await;
    assert!(!is_settled, "nobody's claim cannot be settled");
    store.expect_status(run, LetterStatus::Open, "a letter that was never claimed").await;

    let (taken, token) = match store.claim(run, LONG).await {
        Claim::Taken { letter, token } => (letter, token),
        claim => panic!("an open letter: `claim` says {claim:?}, expected Taken"),
    };
    assert!(*taken == letter, "who claims a letter gets it as it was put; it is {taken:?}, expected {letter:?}");
    let Claim::Busy { until } = store.claim(run, LONG).await else {
        panic!("a claimed letter: `claim` does not say Busy");
    };
    store.expect_status(run, LetterStatus::Claimed { until }, "a claimed letter").await;
    let is_settled = store.settle(run, ClaimToken::random(), ClaimEnd::Replayed).await;
    assert!(!is_settled, "a claim is not settled by another token");
    store.expect_status(run, LetterStatus::Claimed { until }, "a letter that another token tried to settle").await;
    assert!(store.settle(run, token, ClaimEnd::GivenBack).await, "a claim is settled in time by its token");
}

async fn a_letter_that_was_given_back_is_open(store: &Store) {
    let run = store.put_new().await;
    let first = store.take(run, LONG, "an open letter").await;
    assert!(store.settle(run, first, ClaimEnd::GivenBack).await, "a claim is settled in time by its token");
    store.expect_status(run, LetterStatus::Open, "a letter that was given back").await;
    assert!(!store.settle(run, first, ClaimEnd::Replayed).await, "a claim is settled once");
    store.expect_status(run, LetterStatus::Open, "a letter that was given back, settled again").await;
    let second = store.take(run, LONG, "a letter that was given back").await;
    assert!(first != second, "each claim has a token of its own");
    assert!(!store.settle(run, first, ClaimEnd::Replayed).await, "an old token does not settle a later claim");
    store.expect_busy(run, "a claimed letter that an old token tried to settle").await;
}

async fn a_replayed_letter_stays_replayed(store: &Store) {
    let run = RunId::random();
    let letter = letter(&store.tenant, run).await;
    store.put(letter.clone()).await;
    let token = store.take(run, LONG, "an open letter").await;
    assert!(store.settle(run, token, ClaimEnd::Replayed).await, "a claim is settled in time by its token");
    let status = store.get(run).await.map(|(_, status)| status);
    let Some(LetterStatus::Replayed { at }) = status else {
        panic!("a replayed letter: `get` says {status:?}, expected Replayed");
    };
    let claim = store.claim(run, LONG).await;
    assert!(claim == Claim::Replayed, "a replayed letter: `claim` says {claim:?}, expected Replayed");
    assert!(!store.settle(run, token, ClaimEnd::GivenBack).await, "a claim is settled once");
    store.expect_status(run, LetterStatus::Replayed { at }, "a replayed letter, settled again").await;
    store.put(letter.clone()).await;
    store.expect(&letter, 2, "the letter of a replayed run that failed again").await;
    store.take(run, LONG, "the letter of a replayed run that failed again").await;
}

async fn a_letter_is_free_after_its_claims_time(store: &Store) {
    let run = store.put_new().await;
    let late = store.take(run, SHORT, "an open letter").await;
    wait(80).await;
    store.expect_status(run, LetterStatus::Open, "a letter whose claim's time is over").await;
    let token = store.take(run, LONG, "a letter whose claim's time is over").await;
    for end in [ClaimEnd::Replayed, ClaimEnd::GivenBack] {
        let is_settled = store.settle(run, late, end).await;
        assert!(!is_settled, "a late token does not settle somebody else's claim as {end:?}");
    }
    store.expect_busy(run, "a claimed letter that a late token tried to settle").await;
    assert!(store.settle(run, token, ClaimEnd::Replayed).await, "a claim, after a late token tried to settle it");
}

async fn a_late_claim_that_nobody_took_is_settled(store: &Store) {
    let run = store.put_new().await;
    let token = store.take(run, SHORT, "an open letter").await;
    wait(80).await;
    assert!(store.settle(run, token, ClaimEnd::Replayed).await, "a late claim that nobody took since is settled");
    let claim = store.claim(run, LONG).await;
    assert!(claim == Claim::Replayed, "a letter that was replayed late: `claim` says {claim:?}, expected Replayed");
}

async fn a_new_letter_ends_the_claim(store: &Store) {
    let run = RunId::random();
    let letter = letter(&store.tenant, run).await;
    store.put(letter.clone()).await;
    let old = store.take(run, LONG, "an open letter").await;
    store.put(letter.clone()).await;
    store.expect(&letter, 2, "a letter that was put while the one before was claimed").await;
    assert!(!store.settle(run, old, ClaimEnd::Replayed).await, "a new letter of the run ends the claim");
    store.expect(&letter, 2, "a new letter that the token of the one before tried to settle").await;
    let token = store.take(run, LONG, "a letter that was put while the one before was claimed").await;
    assert!(!store.settle(run, old, ClaimEnd::GivenBack).await, "an old token does not settle a later claim");
    assert!(store.settle(run, token, ClaimEnd::Replayed).await, "a claim, after an old token tried to settle it");
}

async fn a_dropped_claim_is_done_or_not(store: &Store) {
    for awaits in 1.. {
        let run = store.put_new().await;
        let is_dropped =
            abandon("a `claim` that is dropped", awaits, store.port().claim(&store.tenant, run, SHORT)).await;
        let claim = store.claim(run, LONG).await;
        let is_known = matches!(claim, Claim::Taken { .. } | Claim::Busy { .. });
        assert!(is_known, "a letter whose `claim` was dropped: `claim` says {claim:?}");
        if matches!(claim, Claim::Busy { .. }) {
            wait(80).await;
            store.take(run, LONG, "a letter whose `claim` was dropped, after its time").await;
        }
        if !is_dropped {
            break;
        }
    }
}
