//! The port to the journal: results of calls, put once, so that a copied or restarted run repeats nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::error::{BoxError, ErrorCode};
use crate::id::RunId;
use crate::message::CallResult;
use crate::path::{CallKey, CallPath, Fingerprint};

/// Keeps the results of calls with effects, under the calls' deterministic keys.
///
/// A run state is a value and can be copied: two processes may resume the same one. Within one lineage of states nothing runs
/// twice; across copies and crashes the journal decides.
///
/// # Contract
///
/// - Both methods are atomic: of several that begin one key at once, exactly one hears [`Begun::Fresh`].
/// - A first result stays; finishing again, or finishing another call at the same place, changes nothing.
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
    async fn begin(&self, key: &CallKey) -> Result<Begun, JournalError>;

    /// Keeps the call's result.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the store fails. The run fails then, since a copy of it could repeat the call.
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

    /// Always `journal.failed`.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::new("journal.failed")
    }
}

/// A journal in this process's memory: the default.
///
/// It protects copies of a run within the process. It keeps at most 65,536 calls unless told otherwise, and forgets whole runs,
/// the oldest first. A host that must survive crashes brings a durable journal.
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

impl Calls {
    fn is_known(&self, key: &CallKey) -> bool {
        self.runs.get(&key.run).is_some_and(|run| run.contains_key(&key.path))
    }

    /// The record of a call. A new one takes the place of the oldest run when there is no room.
    fn record(&mut self, key: &CallKey, capacity: usize) -> &mut Record {
        if !self.is_known(key) {
            while self.count >= capacity
                && let Some(oldest) = self.order.pop_front()
            {
                self.count -= self.runs.remove(&oldest).map_or(0, |run| run.len());
            }
            if !self.runs.contains_key(&key.run) {
                self.order.push_back(key.run);
            }
            self.count += 1;
        }
        let run = self.runs.entry(key.run).or_default();
        run.entry(key.path.clone()).or_insert_with(|| Record { fingerprint: key.fingerprint, result: None })
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn begin(&self, key: &CallKey) -> Result<Begun, JournalError> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = calls.is_known(key);
        let record = calls.record(key, self.capacity);
        Ok(match &record.result {
            _ if !is_known => Begun::Fresh,
            _ if record.fingerprint != key.fingerprint => Begun::Conflict,
            Some(result) => Begun::Finished(result.clone()),
            None => Begun::Unknown,
        })
    }

    async fn finish(&self, key: &CallKey, result: &CallResult) -> Result<(), JournalError> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let record = calls.record(key, self.capacity);
        if record.fingerprint == key.fingerprint {
            record.result.get_or_insert_with(|| result.clone());
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
