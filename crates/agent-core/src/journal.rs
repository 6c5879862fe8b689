//! The port to the journal: results of calls, put once, so that a copied or restarted run repeats nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::error::{BoxError, ErrorCode};
use crate::id::RunId;
use crate::message::CallResult;
use crate::path::{CallKey, CallPath, CallPosition, Fingerprint};

/// Keeps the results of calls with effects, under the calls' deterministic keys.
///
/// A run state is a value and can be copied: two processes may resume the same one. Within one lineage of states nothing runs
/// twice; across copies and crashes the journal decides.
///
/// # Contract
///
/// - Both methods are atomic: of several that begin one key at once, exactly one hears [`Begun::Fresh`].
/// - A first result stays; finishing again, or finishing another call at the same place, changes nothing.
/// - Another [`attempt`](CallKey::attempt) is another place.
/// - A result is kept also when the beginning was not, because it was forgotten or never noted.
/// - What `finish` acknowledged is there after a crash, as far as the store itself survives one.
///
/// The testkit's `conformance::journal` checks an implementation.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Notes that the call begins, unless it is known.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the store fails. The call is not made then.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await: the call was noted then or it was not.
    async fn begin(&self, key: &CallKey) -> Result<Begun, JournalError>;

    /// Keeps the call's result.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the store fails. The run fails then, since a copy of it could repeat the call; its own state has the
    /// result.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await: the result was kept then or it was not.
    async fn finish(&self, key: &CallKey, result: &CallResult) -> Result<(), JournalError>;
}

/// What is known about a call that is about to begin.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Begun {
    /// Nothing: it may be made.
    Fresh,
    /// It was made, with this result.
    Finished(CallResult),
    /// It began, and no result was kept.
    Unknown,
    /// At this place of the run another call was made: other function, other arguments.
    Conflict,
}

/// The journal's store failed.
#[derive(Debug, thiserror::Error)]
#[error("the journal failed")]
pub struct JournalError(#[source] BoxError);

impl JournalError {
    /// A failure of the store.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self(source.into())
    }

    /// Whether the same may succeed later: always, as far as the run knows.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        true
    }

    /// Always `journal.failed`.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::new("journal.failed")
    }
}

/// A journal in this process's memory: the default.
///
/// It protects copies of a run within the process, as long as they are resumed by agents that share it: an agent that is built
/// without a journal gets one of its own, so a host that builds agents for each request gives them one. It keeps at most 65,536
/// calls unless told otherwise, with 64 MiB of results, and forgets whole runs, the oldest first. A host that must survive
/// crashes brings a durable journal.
#[derive(Debug)]
pub struct MemoryJournal {
    capacity: usize,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    runs: HashMap<RunId, HashMap<CallPath, Record>>,
    /// The runs in order of their first call, to forget the oldest.
    order: VecDeque<RunId>,
    /// How many calls there are in all runs.
    count: usize,
    /// How many bytes their results take.
    bytes: usize,
}

#[derive(Debug)]
struct Record {
    fingerprint: Fingerprint,
    result: Option<CallResult>,
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::with_capacity(65_536)
    }
}

impl MemoryJournal {
    /// A journal of 65,536 calls.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A journal of as many calls as `capacity`, at least one.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), calls: Mutex::default() }
    }
}

/// How many bytes of results a [`MemoryJournal`] keeps.
const MAX_BYTES: usize = 64 << 20;

impl Calls {
    fn get(&self, run: RunId, place: &CallPath) -> Option<&Record> {
        self.runs.get(&run)?.get(place)
    }

    /// The record of a call, made if there is none.
    fn record(&mut self, key: &CallKey, place: CallPath, capacity: usize) -> &mut Record {
        if self.get(key.run, &place).is_none() {
            while self.count >= capacity && self.forget_oldest() {}
            if !self.runs.contains_key(&key.run) {
                self.order.push_back(key.run);
            }
            self.count += 1;
        }
        let run = self.runs.entry(key.run).or_default();
        run.entry(place).or_insert_with(|| Record { fingerprint: key.fingerprint, result: None })
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(run) = self.order.pop_front().and_then(|oldest| self.runs.remove(&oldest)) else { return false };
        self.count -= run.len();
        self.bytes -= run.values().filter_map(|record| record.result.as_ref()).map(CallResult::size).sum::<usize>();
        true
    }
}

/// Where a call is filed: further attempts as if they were calls below it, at a turn that no run comes to.
fn place(key: &CallKey) -> CallPath {
    match key.attempt {
        0 => key.path.clone(),
        slot => key.path.child(CallPosition { turn: u32::MAX, slot }),
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn begin(&self, key: &CallKey) -> Result<Begun, JournalError> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let place = place(key);
        let Some(record) = calls.get(key.run, &place) else {
            calls.record(key, place, self.capacity);
            return Ok(Begun::Fresh);
        };
        Ok(match &record.result {
            _ if record.fingerprint != key.fingerprint => Begun::Conflict,
            Some(result) => Begun::Finished(result.clone()),
            None => Begun::Unknown,
        })
    }

    async fn finish(&self, key: &CallKey, result: &CallResult) -> Result<(), JournalError> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let size = result.size();
        // This run's own calls stay, however large they are.
        while calls.bytes + size > MAX_BYTES
            && calls.order.front().is_some_and(|oldest| *oldest != key.run)
            && calls.forget_oldest()
        {}
        let record = calls.record(key, place(key), self.capacity);
        if record.fingerprint == key.fingerprint && record.result.is_none() {
            record.result = Some(result.clone());
            calls.bytes += size;
        }
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Journal + ?Sized> Journal for Arc<T> {
    async fn begin(&self, key: &CallKey) -> Result<Begun, JournalError> {
        (**self).begin(key).await
    }

    async fn finish(&self, key: &CallKey, result: &CallResult) -> Result<(), JournalError> {
        (**self).finish(key, result).await
    }
}
