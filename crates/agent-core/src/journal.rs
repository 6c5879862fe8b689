//! The port to the journal: results of calls, put once, so that a copied or restarted run repeats nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::error::{BoxError, ErrorCode};
use crate::id::RunId;
use crate::message::CallResult;
use crate::path::{CallKey, CallPath};

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
/// It protects copies of a run within the process. It keeps the most recent calls, 65,536 unless told otherwise; what is older is
/// forgotten, oldest first. A host that must survive crashes brings a durable journal.
#[derive(Debug)]
pub struct MemoryJournal {
    capacity: usize,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    by_place: HashMap<(RunId, CallPath), Record>,
    /// Keys in order of arrival, to forget the oldest.
    order: VecDeque<(RunId, CallPath)>,
}

#[derive(Debug)]
struct Record {
    fingerprint: String,
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
    /// The record of a call. A new one takes the place of the oldest when there is no room.
    fn record(&mut self, key: &CallKey, capacity: usize) -> &mut Record {
        let place = (key.run, key.path.clone());
        if !self.by_place.contains_key(&place) {
            if self.order.len() >= capacity
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_place.remove(&oldest);
            }
            self.order.push_back(place.clone());
        }
        let new = || Record { fingerprint: key.fingerprint.clone(), result: None };
        self.by_place.entry(place).or_insert_with(new)
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn begin(&self, key: &CallKey) -> Result<Begun, JournalError> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = calls.by_place.contains_key(&(key.run, key.path.clone()));
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
