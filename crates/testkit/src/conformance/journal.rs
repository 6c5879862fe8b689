//! The suite for [`Journal`].

use std::collections::BTreeSet;
use std::sync::Arc;

use agent_core::{Begun, CallKey, CallResult, ErrorCode, Journal, RunId};
use serde_json::json;

use super::support::{at_once, brief, ends};

/// How many begin or finish one call at once.
const RACERS: usize = 100;

/// Checks a [`Journal`]: `journal(async || MyJournal::connect().await).await`.
///
/// - A call that was never begun is fresh; one that was begun is unknown; one that was finished has its result.
/// - Results of every kind and size come back equal.
/// - A first result stays; finishing again changes nothing.
/// - Another call at the same place of the run is a conflict, and changes nothing about the first.
/// - Other runs and other paths have nothing to do with each other.
/// - Of many that begin one call at once, exactly one hears [`Begun::Fresh`]; of many that finish it, one result stays.
///
/// What a store keeps over a crash is checked by [`durable_journal`].
///
/// # Panics
///
/// When a rule is broken.
pub async fn journal<J: Journal + 'static>(open: impl AsyncFn() -> J) {
    let journal: Arc<dyn Journal> = Arc::new(open().await);
    a_call_is_fresh_then_unknown_then_finished(&*journal).await;
    results_come_back_equal(&*journal).await;
    a_first_result_stays(&*journal).await;
    another_call_is_a_conflict(&*journal).await;
    other_places_are_independent(&*journal).await;
    exactly_one_begins(&vec![journal.clone(); RACERS]).await;
    exactly_one_result_stays(&journal).await;
}

/// Checks a [`Journal`] whose store survives crashes. `open` opens the same store every time.
///
/// The rules of [`journal`], and:
///
/// - What was begun and finished is known to a journal that is opened later.
/// - Of many journals on one store that begin one call at once, exactly one says [`Begun::Fresh`].
///
/// # Panics
///
/// When a rule is broken.
pub async fn durable_journal<J: Journal + 'static>(open: impl AsyncFn() -> J) {
    journal(&open).await;
    what_was_finished_survives(&open).await;
    let mut journals: Vec<Arc<dyn Journal>> = Vec::new();
    for _ in 0..8 {
        journals.push(Arc::new(open().await));
    }
    exactly_one_begins(&journals).await;
}

async fn a_call_is_fresh_then_unknown_then_finished(journal: &dyn Journal) {
    let (key, result) = (key(RunId::random(), "/0.0"), CallResult::done(json!("refunded")));
    expect(journal, &key, Begun::Fresh, "a call that was never begun").await;
    expect(journal, &key, Begun::Unknown, "a call that was begun and not finished").await;
    expect(journal, &key, Begun::Unknown, "a call that was begun and not finished, asked again").await;
    finish(journal, &key, &result).await;
    expect(journal, &key, Begun::Finished(result.clone()), "a finished call").await;
    expect(journal, &key, Begun::Finished(result), "a finished call, asked again").await;
}

async fn results_come_back_equal(journal: &dyn Journal) {
    let results = [
        CallResult::done(json!(null)),
        CallResult::done(json!({"nested": [1, -2.5, u64::MAX, true, "\u{0}\u{7}\"\\ Ä 東京 🦀"], "": {}})),
        CallResult::done(json!("x".repeat(1 << 20))),
        CallResult::failed(ErrorCode::new("call.failed"), "there is no order A-1043"),
        CallResult::failed(ErrorCode::new("call.failed"), ""),
    ];
    for result in results {
        let key = key(RunId::random(), "/3.1");
        expect(journal, &key, Begun::Fresh, "a call that was never begun").await;
        finish(journal, &key, &result).await;
        expect(journal, &key, Begun::Finished(result), "a call comes back with the result that it finished with").await;
    }
}

async fn a_first_result_stays(journal: &dyn Journal) {
    let key = key(RunId::random(), "/0.0");
    let (first, second) = (CallResult::done(json!(1)), CallResult::done(json!(2)));
    expect(journal, &key, Begun::Fresh, "a call that was never begun").await;
    finish(journal, &key, &first).await;
    finish(journal, &key, &second).await;
    expect(journal, &key, Begun::Finished(first), "a first result stays, whatever it is finished with later").await;
}

async fn another_call_is_a_conflict(journal: &dyn Journal) {
    let run = RunId::random();
    let (one, other) = (key(run, "/0.0"), CallKey::new(run, path("/0.0"), "refund", &json!({"order": "B-7"})));
    let result = CallResult::done(json!("refunded"));
    expect(journal, &one, Begun::Fresh, "a call that was never begun").await;
    expect(journal, &other, Begun::Conflict, "another call at the place of one that was begun").await;
    expect(journal, &one, Begun::Unknown, "a call that was begun, after a conflict about it").await;
    finish(journal, &one, &result).await;
    expect(journal, &other, Begun::Conflict, "another call at the place of one that was finished").await;
    expect(journal, &one, Begun::Finished(result), "a finished call, after a conflict about it").await;
}

async fn other_places_are_independent(journal: &dyn Journal) {
    let (run, result) = (RunId::random(), CallResult::done(json!("refunded")));
    let first = key(run, "/0.1");
    expect(journal, &first, Begun::Fresh, "a call that was never begun").await;
    finish(journal, &first, &result).await;
    // Paths that look alike to a store that compares text or prefixes.
    for other in ["/", "/0.10", "/1.0", "/0.1/2.0", "/0.1/2.0/0.1"] {
        expect(journal, &key(run, other), Begun::Fresh, "the same call at another path").await;
    }
    expect(journal, &key(RunId::random(), "/0.1"), Begun::Fresh, "the same call of another run").await;
    let again = first.clone().with_attempt(1);
    expect(journal, &again, Begun::Fresh, "another attempt at the same call").await;
    expect(journal, &again, Begun::Unknown, "another attempt that was begun").await;
    expect(journal, &first, Begun::Finished(result), "a finished call, after others began").await;
}

async fn exactly_one_begins(journals: &[Arc<dyn Journal>]) {
    let key = key(RunId::random(), "/0.0");
    let begins = journals.iter().cloned().map(|journal| {
        let key = key.clone();
        async move { begin(&*journal, &key).await }
    });
    let begun = at_once("one call, begun many times at once,", begins).await;
    let fresh = begun.iter().filter(|begun| **begun == Begun::Fresh).count();
    assert!(fresh == 1, "of {} that begin one call at once, exactly one hears Fresh; {fresh} did", begun.len());
    let unknown = begun.iter().filter(|begun| **begun == Begun::Unknown).count();
    assert!(unknown == begun.len() - 1, "the others hear Unknown; {unknown} of {} did", begun.len());
}

async fn exactly_one_result_stays(journal: &Arc<dyn Journal>) {
    let key = key(RunId::random(), "/0.0");
    expect(&**journal, &key, Begun::Fresh, "a call that was never begun").await;
    let finishes = (0..RACERS).map(|racer| {
        let (journal, key) = (journal.clone(), key.clone());
        async move {
            finish(&*journal, &key, &CallResult::done(json!(racer))).await;
            brief(&begin(&*journal, &key).await)
        }
    });
    let heard: BTreeSet<String> =
        at_once("one call, finished many times at once,", finishes).await.into_iter().collect();
    assert!(heard.len() == 1, "a first result stays; of {RACERS} that finish one call at once, these stood: {heard:?}");
}

async fn what_was_finished_survives<J: Journal>(open: &impl AsyncFn() -> J) {
    let run = RunId::random();
    let (finished, begun, result) = (key(run, "/0.0"), key(run, "/0.1"), CallResult::done(json!("refunded")));
    {
        let journal = open().await;
        expect(&journal, &finished, Begun::Fresh, "a call that was never begun").await;
        expect(&journal, &begun, Begun::Fresh, "a call that was never begun").await;
        finish(&journal, &finished, &result).await;
    }
    let journal = open().await;
    expect(&journal, &finished, Begun::Finished(result), "a finished call, after the store was opened anew").await;
    expect(&journal, &begun, Begun::Unknown, "a call that was begun, after the store was opened anew").await;
}

async fn expect(journal: &dyn Journal, key: &CallKey, expected: Begun, what: &str) {
    let found = begin(journal, key).await;
    assert!(found == expected, "{what}: `begin` says {}, expected {}", brief(&found), brief(&expected));
}

async fn begin(journal: &dyn Journal, key: &CallKey) -> Begun {
    ends("`begin`", journal.begin(key)).await.unwrap_or_else(|error| panic!("`begin` failed: {error:?}"))
}

async fn finish(journal: &dyn Journal, key: &CallKey, result: &CallResult) {
    ends("`finish`", journal.finish(key, result)).await.unwrap_or_else(|error| panic!("`finish` failed: {error:?}"));
}

fn key(run: RunId, place: &str) -> CallKey {
    CallKey::new(run, path(place), "refund", &json!({"order": "A-1042"}))
}

fn path(place: &str) -> agent_core::CallPath {
    place.parse().expect("a valid path")
}
