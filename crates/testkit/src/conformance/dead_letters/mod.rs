//! The suite for [`DeadLetters`].

mod claims;
mod letters;
mod store;

use std::sync::Arc;

use agent_core::{Claim, ClaimEnd, DeadLetters, LetterStatus, Purge, RunId};

use self::store::{LONG, Store, letter};
use super::support::at_once;

/// How many claim one letter at once.
const RACERS: usize = 100;

/// Checks [`DeadLetters`]: `dead_letters(async || MyStore::connect().await).await`.
///
/// - Letters with and without a state, small and large, come back equal, open, and counted.
/// - A letter of the same run takes the place of the one before, is open, and is counted once more.
/// - A list tells of each letter once, in the order of the runs' ids, page by page, also when letters vanish meanwhile.
/// - A claimed letter is nobody else's until its claim ends: by being settled, by its time, or by a new letter of the run.
/// - Of many that claim one letter at once, exactly one gets it, and one of those that settle one claim at once.
/// - A claim that ended cannot be settled, and what is settled in vain changes nothing.
/// - A replayed letter cannot be claimed, unless its run fails again.
/// - What is purged is gone; what is claimed stays, unless everything is purged.
/// - Nothing of one tenant is visible to another, or changed by it, even under the same run's id.
/// - What is dropped at an await was done or was not.
///
/// What a store keeps over a crash is checked by [`durable_dead_letters`]. The suite uses tenants of its own, and leaves letters.
/// Claims end by the wall clock, also when that of the runtime is paused: the suite waits for some tenths of a second.
///
/// # Panics
///
/// When a rule is broken.
pub async fn dead_letters<D: DeadLetters + 'static>(open: impl AsyncFn() -> D) {
    let store: Arc<dyn DeadLetters> = Arc::new(open().await);
    letters::check(&store).await;
    claims::check(&store).await;
    exactly_one_claims(&vec![store.clone(); RACERS]).await;
    exactly_one_settles(&store).await;
}

/// Checks [`DeadLetters`] whose store survives crashes. `open` opens the same store every time.
///
/// The rules of [`dead_letters`], and:
///
/// - Letters, claims, what was replayed and what was purged are known to a store that is opened later.
/// - What one store did, another one that was open all the time sees.
/// - Of many stores that claim one letter at once, exactly one gets it.
///
/// # Panics
///
/// When a rule is broken.
pub async fn durable_dead_letters<D: DeadLetters + 'static>(open: impl AsyncFn() -> D) {
    dead_letters(&open).await;
    what_was_done_survives(&open).await;
    one_sees_what_another_did(&open).await;
    let mut stores: Vec<Arc<dyn DeadLetters>> = Vec::new();
    for _ in 0..8 {
        stores.push(Arc::new(open().await));
    }
    exactly_one_claims(&stores).await;
}

async fn exactly_one_claims(stores: &[Arc<dyn DeadLetters>]) {
    let Some(first) = stores.first().map(Store::new) else { return };
    let run = first.put_new().await;
    let claims = stores.iter().map(|store| {
        let store = first.with(store);
        async move { store.claim(run, LONG).await }
    });
    let claims = at_once("one letter, claimed many times at once,", claims).await;
    let taken = claims.iter().filter(|claim| matches!(claim, Claim::Taken { .. })).count();
    assert!(taken == 1, "of {} that claim one letter at once, exactly one gets it; {taken} did", claims.len());
    let busy = claims.iter().filter(|claim| matches!(claim, Claim::Busy { .. })).count();
    assert!(busy == claims.len() - 1, "the others hear Busy; {busy} of {} did", claims.len());
}

async fn exactly_one_settles(store: &Arc<dyn DeadLetters>) {
    let store = Store::new(store);
    let run = store.put_new().await;
    let token = store.take(run, LONG, "an open letter").await;
    let settles = (0..RACERS).map(|racer| {
        let store = store.clone();
        let end = if racer % 2 == 0 { ClaimEnd::Replayed } else { ClaimEnd::GivenBack };
        async move { store.settle(run, token, end).await }
    });
    let settled = at_once("one claim, settled many times at once,", settles).await;
    let count = settled.iter().filter(|settled| **settled).count();
    assert!(count == 1, "of {RACERS} that settle one claim at once, exactly one does; {count} did");
}

async fn what_was_done_survives<D: DeadLetters + 'static>(open: &impl AsyncFn() -> D) {
    let store = Store::new(&(Arc::new(open().await) as Arc<dyn DeadLetters>));
    let again = letter(&store.tenant, RunId::random()).await;
    store.put(again.clone()).await;
    store.put(again.clone()).await;
    let (claimed, replayed, purged) = (store.put_new().await, store.put_new().await, store.put_new().await);
    let token = store.take(claimed, LONG, "an open letter").await;
    let other = store.take(replayed, LONG, "an open letter").await;
    assert!(store.settle(replayed, other, ClaimEnd::Replayed).await, "a claim that is settled in time");
    assert!(store.purge(Purge::One(purged)).await == 1, "one letter is purged");
    let told = store.all().await;
    let tenant = store.tenant.clone();
    drop(store);

    let opened: Arc<dyn DeadLetters> = Arc::new(open().await);
    let store = Store::of(&opened, tenant);
    let listed = store.all().await;
    assert!(listed == told, "after the store was opened anew the list is {listed:?}, it was {told:?}");
    store.expect(&again, 2, "a letter, after the store was opened anew").await;
    store.expect_busy(claimed, "a claimed letter, after the store was opened anew").await;
    assert!(
        store.settle(claimed, token, ClaimEnd::GivenBack).await,
        "a claim is settled after the store was opened anew"
    );
    let claim = store.claim(replayed, LONG).await;
    assert!(claim == Claim::Replayed, "a replayed letter, after the store was opened anew: `claim` says {claim:?}");
    let claim = store.claim(purged, LONG).await;
    assert!(claim == Claim::Unknown, "a purged letter, after the store was opened anew: `claim` says {claim:?}");
}

async fn one_sees_what_another_did<D: DeadLetters + 'static>(open: &impl AsyncFn() -> D) {
    let (one, other): (Arc<dyn DeadLetters>, Arc<dyn DeadLetters>) = (Arc::new(open().await), Arc::new(open().await));
    let one = Store::new(&one);
    let other = one.with(&other);
    let run = one.put_new().await;
    let token = other.take(run, LONG, "a letter that another store was given").await;
    one.expect_busy(run, "a letter that another store claimed").await;
    assert!(one.settle(run, token, ClaimEnd::GivenBack).await, "a claim is settled by another store");
    other.expect_status(run, LetterStatus::Open, "a letter that another store gave back").await;
    assert!(other.purge(Purge::All).await == 1, "a letter that another store was given is purged");
    one.expect_none(run, "a letter that another store purged").await;
}
