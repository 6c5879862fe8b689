//! What is kept, listed and purged.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{AgentError, ClaimEnd, DeadLetter, DeadLetters, LetterStatus, Purge, RunId};

use super::super::support::abandon;
use super::claims::wait;
use super::store::{LONG, Store, bare, letter, state};

pub(super) async fn check(store: &Arc<dyn DeadLetters>) {
    letters_come_back_equal(&Store::new(store)).await;
    another_letter_of_the_run_takes_its_place(&Store::new(store)).await;
    a_list_tells_of_each_once(&Store::new(store)).await;
    purged_letters_are_gone(&Store::new(store)).await;
    claimed_letters_are_not_purged(&Store::new(store)).await;
    tenants_are_apart(&Store::new(store)).await;
    a_dropped_put_is_done_or_not(&Store::new(store)).await;
}

async fn letters_come_back_equal(store: &Store) {
    let tenant = &store.tenant;
    store.expect_none(RunId::random(), "a run that never failed").await;
    let strange = "\u{0}\u{7}\"\\\r\n\u{2028} Ä 東京 🦀";
    let mut worded = bare(tenant, RunId::random());
    worded.message = strange.to_owned();
    let letters = [
        ("a letter without a state", bare(tenant, RunId::random())),
        ("a letter with something in every field", letter(tenant, RunId::random()).await),
        ("a letter with strange words", worded.with_state(state(tenant, strange).await)),
        (
            "a letter with a large state",
            bare(tenant, RunId::random()).with_state(state(tenant, &strange.repeat(50_000)).await),
        ),
        ("a letter of long ago", bare(tenant, RunId::random()).with_failed_at(0)),
    ];
    for (what, letter) in &letters {
        store.put(letter.clone()).await;
        store.expect(letter, 1, what).await;
    }
    for (what, letter) in &letters {
        store.expect(letter, 1, &format!("{what}, after others were put")).await;
    }
}

async fn another_letter_of_the_run_takes_its_place(store: &Store) {
    let run = RunId::random();
    let first = letter(&store.tenant, run).await;
    let mut second = DeadLetter::new(
        run,
        first.task_id,
        first.caller.clone(),
        "desk-2",
        &AgentError::Denied { reason: "not today".into() },
    );
    // What a letter says of this itself is ignored.
    second.failures = 7;
    store.put(first).await;
    store.put(second.clone()).await;
    store.expect(&second, 2, "the second letter of a run").await;
    let listed = store.all().await;
    assert!(listed.len() == 1, "a run has one letter, however often it failed; the list is {listed:?}");
    store.purge(Purge::One(run)).await;
    store.put(second.clone()).await;
    store.expect(&second, 1, "a letter of a run whose letter was purged").await;
}

async fn a_list_tells_of_each_once(store: &Store) {
    let mut expected = Vec::new();
    // Kept in another order than that of their ids.
    let mut runs: Vec<RunId> = (0..7).map(|_| RunId::random()).collect();
    for run in runs.iter().rev() {
        let letter = letter(&store.tenant, *run).await;
        store.put(letter.clone()).await;
        let (kept, status) = store.get(*run).await.expect("a letter that was put");
        expected.push(kept.summary(status));
    }
    runs.sort();
    expected.sort_by_key(|summary| summary.run_id);
    let all = store.all().await;
    assert!(all == expected, "a list tells of each letter in the order of ids; it is {all:?}, expected {expected:?}");
    let none = store.list(None, 0).await;
    assert!(none.is_empty(), "a list of at most 0 letters is {none:?}");

    for size in [1, 2, 3, 7, 8] {
        let (mut paged, mut after) = (Vec::new(), None);
        for _ in 0..=runs.len() {
            let page = store.list(after, size).await;
            assert!(page.len() <= size, "a list of at most {size} letters has {}", page.len());
            let Some(last) = page.last() else { break };
            after = Some(last.run_id);
            paged.extend(page);
        }
        assert!(paged == expected, "pages of {size} tell of each letter once, in order; they tell {paged:?}");
    }

    let (second, third) = (runs[1], runs[2]);
    store.purge(Purge::One(second)).await;
    let next = store.list(Some(second), 1).await;
    let found = next.first().map(|summary| summary.run_id);
    assert!(found == Some(third), "after a letter that was purged comes the next one; it was {found:?}");
}

async fn purged_letters_are_gone(store: &Store) {
    let at = |failed_at| bare(&store.tenant, RunId::random()).with_failed_at(failed_at);
    let (old, exact, young, replayed) = (at(1_000), at(2_000), at(3_000), at(4_000));
    for letter in [&old, &exact, &young, &replayed] {
        store.put(letter.clone()).await;
    }
    let token = store.take(replayed.run_id, LONG, "an open letter").await;
    assert!(store.settle(replayed.run_id, token, ClaimEnd::Replayed).await, "a claim that is settled in time");

    assert!(store.purge(Purge::One(RunId::random())).await == 0, "no letter of a run that never failed is purged");
    let purge = |which, expected: usize, what: &'static str, gone: RunId| async move {
        let count = store.purge(which).await;
        assert!(count == expected, "{what}: `purge` says {count}, expected {expected}");
        store.expect_none(gone, what).await;
        let again = store.purge(which).await;
        assert!(again == 0, "{what}, purged again: `purge` says {again}, expected 0");
    };
    purge(Purge::Before(2_000), 1, "letters from before some time", old.run_id).await;
    store.expect(&exact, 1, "a letter of the very time before which letters were purged").await;
    purge(Purge::Replayed, 1, "replayed letters", replayed.run_id).await;
    purge(Purge::One(exact.run_id), 1, "one letter", exact.run_id).await;
    store.expect(&young, 1, "a letter, after others were purged").await;
    store.put_new().await;
    purge(Purge::All, 2, "all letters", young.run_id).await;
    let listed = store.all().await;
    assert!(listed.is_empty(), "after all letters were purged the list is {listed:?}");
}

async fn claimed_letters_are_not_purged(store: &Store) {
    let run = store.put_new().await;
    let token = store.take(run, LONG, "an open letter").await;
    for which in [Purge::One(run), Purge::Before(u64::MAX), Purge::Replayed] {
        let count = store.purge(which).await;
        assert!(count == 0, "a claimed letter is not purged; {which:?} purged {count}");
    }
    assert!(store.settle(run, token, ClaimEnd::GivenBack).await, "a claim, after others tried to purge its letter");
    store.take(run, Duration::from_millis(50), "an open letter").await;
    wait(80).await;
    assert!(store.purge(Purge::One(run)).await == 1, "a letter whose claim's time is over is purged");

    let run = store.put_new().await;
    let token = store.take(run, LONG, "an open letter").await;
    assert!(store.purge(Purge::All).await == 1, "all letters are purged, claimed ones too");
    assert!(!store.settle(run, token, ClaimEnd::GivenBack).await, "the claim of a purged letter is no claim");
    store.expect_none(run, "a purged letter whose claim was settled later").await;
}

async fn tenants_are_apart(ours: &Store) {
    let (theirs, run) = (ours.elsewhere(), RunId::random());
    let our_letter = letter(&ours.tenant, run).await;
    ours.put(our_letter.clone()).await;

    theirs.expect_none(run, "another tenant's letter").await;
    let listed = theirs.all().await;
    assert!(listed.is_empty(), "another tenant's letters are not listed; the list is {listed:?}");
    let claim = theirs.claim(run, LONG).await;
    assert!(claim == agent_core::Claim::Unknown, "another tenant's letter: `claim` says {claim:?}, expected Unknown");
    for which in [Purge::One(run), Purge::Before(u64::MAX), Purge::Replayed, Purge::All] {
        let count = theirs.purge(which).await;
        assert!(count == 0, "another tenant's letter is not purged; {which:?} purged {count}");
    }
    let token = ours.take(run, LONG, "a letter that another tenant tried to claim").await;
    let is_settled = theirs.settle(run, token, ClaimEnd::Replayed).await;
    assert!(!is_settled, "another tenant's claim is not settled, even by its token");
    ours.expect_busy(run, "a claimed letter that another tenant tried to settle").await;

    // The same id at both.
    let their_letter = bare(&theirs.tenant, run);
    theirs.put(their_letter.clone()).await;
    theirs.expect(&their_letter, 1, "a letter of a run whose id another tenant has too").await;
    ours.expect_busy(run, "a claimed letter, after another tenant put one of the same id").await;
    assert!(ours.settle(run, token, ClaimEnd::GivenBack).await, "a claim, after another tenant put a letter of the id");
    ours.expect(&our_letter, 1, "a letter, after another tenant put one of the same id").await;
    assert!(theirs.purge(Purge::All).await == 1, "all letters of a tenant are purged");
    ours.expect(&our_letter, 1, "a letter, after another tenant purged all of its own").await;
}

async fn a_dropped_put_is_done_or_not(store: &Store) {
    for awaits in 1.. {
        let letter = letter(&store.tenant, RunId::random()).await;
        let is_dropped = abandon("a `put` that is dropped", awaits, store.port().put(letter.clone())).await;
        match store.get(letter.run_id).await {
            Some(_) => store.expect(&letter, 1, "a letter whose `put` was dropped").await,
            None => assert!(is_dropped, "a letter that was put: `get` says None"),
        }
        store.put(letter.clone()).await;
        let status = store.get(letter.run_id).await.map(|(_, status)| status);
        assert!(status == Some(LetterStatus::Open), "a letter whose `put` was dropped before: `get` says {status:?}");
        if !is_dropped {
            break;
        }
    }
}
