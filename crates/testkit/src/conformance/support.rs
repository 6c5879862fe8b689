//! What the suites share: contexts, ways to run work that may misbehave, and checks of values that are saved.

use std::any::Any;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use agent_core::{PendingKind, RunContext, Schema};
use futures_util::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Barrier;
use tokio::time::timeout;

use crate::somebody;

/// How long a suite waits for work that should end by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much later than its deadline work may stop: for the scheduling of a busy machine, not for the work.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// How long a suite waits for the next await of work that it is going to drop.
const WAKE: Duration = Duration::from_secs(1);

/// How long a thread may be held before that counts as blocking: far above the hiccups of a busy machine.
const BLOCKED: Duration = Duration::from_secs(1);

/// A context outside of any run, of a caller without roles.
pub(super) fn context(tenant: &str) -> RunContext {
    RunContext::standalone(somebody(tenant, "ann"))
}

/// The result of `work`, which has to end, and not by a panic.
pub(super) async fn ends<T>(what: &str, work: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => panic!("{what} panicked: {}", words(&*panic)),
        Err(_) => panic!("{what} did not end within {PATIENCE:?}"),
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}

/// The results of all `works`, which begin at once, each in a task of its own.
pub(super) async fn at_once<T, W>(what: &str, works: impl IntoIterator<Item = W>) -> Vec<T>
where
    T: Send + 'static,
    W: Future<Output = T> + Send + 'static,
{
    let works: Vec<W> = works.into_iter().collect();
    let start = Arc::new(Barrier::new(works.len()));
    let begin = |work: W| {
        let start = start.clone();
        tokio::spawn(async move {
            start.wait().await;
            work.await
        })
    };
    let tasks: Vec<_> = works.into_iter().map(begin).collect();
    ends(what, async {
        let mut results = Vec::with_capacity(tasks.len());
        for task in tasks {
            results.push(task.await.unwrap_or_else(|error| resume_unwind(error.into_panic())));
        }
        results
    })
    .await
}

/// Begins `work` and drops it at the await with this number, counted from one. Tells whether there may be later awaits.
pub(super) async fn abandon<T>(what: &str, awaits: u32, work: impl Future<Output = T>) -> bool {
    let polled = async {
        let (mut work, mut left) = (pin!(work), awaits);
        std::future::poll_fn(|task| {
            if work.as_mut().poll(task).is_ready() {
                return Poll::Ready(false);
            }
            left -= 1;
            if left == 0 { Poll::Ready(true) } else { Poll::Pending }
        })
        .await
    };
    ends(what, async { timeout(WAKE, polled).await.unwrap_or(false) }).await
}

/// Makes sure that the work that `begin` begins holds no thread for long: in one of two attempts, since a machine may be busy.
pub(super) async fn blocks_nothing<T, W: Future<Output = T>>(what: &str, begin: impl Fn() -> W) {
    let mut longest = Duration::ZERO;
    for _ in 0..2 {
        longest = ends(what, longest_poll(begin())).await;
        if longest < BLOCKED {
            return;
        }
    }
    panic!("{what} held its thread for {longest:?}: long CPU work and blocking calls go to `spawn_blocking`");
}

async fn longest_poll<T>(work: impl Future<Output = T>) -> Duration {
    let (mut work, mut longest) = (pin!(work), Duration::ZERO);
    std::future::poll_fn(|task| {
        let began = Instant::now();
        let polled = work.as_mut().poll(task);
        longest = longest.max(began.elapsed());
        polled.map(|_| longest)
    })
    .await
}

/// The value as it comes back from storage, which has to be equal.
pub(super) fn saved<T: Serialize + DeserializeOwned + PartialEq + Debug>(what: &str, value: &T) -> T {
    let back = reread(what, value);
    assert!(*value == back, "{what} comes back from JSON as {}, it was {}", brief(&back), brief(value));
    back
}

/// The value as it comes back from storage.
pub(crate) fn reread<T: Serialize + DeserializeOwned>(what: &str, value: &T) -> T {
    let text = serde_json::to_string(value).unwrap_or_else(|error| panic!("{what} does not serialise: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{what} cannot be read back: {error}"))
}

/// Makes sure that `kind` can be saved, and that an answer can fit it.
pub(super) fn can_be_answered(what: &str, kind: &PendingKind) {
    saved(what, kind);
    if let Some(Err(invalid)) = kind.schema().map(|schema| Schema::from_value((**schema).clone())) {
        panic!("{what} has a schema that no answer fits: {invalid}");
    }
}

/// The value for a message: its first 300 characters.
pub(super) fn brief(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}
