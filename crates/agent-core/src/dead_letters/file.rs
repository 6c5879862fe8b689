//! Dead letters in a file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::letter::{Claim, ClaimEnd, DeadLetter, LetterStatus, LetterSummary, Purge};
use super::log::{Held, Log};
use super::shelf::claimed_until;
use super::wire::Op;
use super::{DeadLetterError, DeadLetters};
use crate::clock::now_ms;
use crate::id::{ClaimToken, RunId, TenantId};

/// Dead letters in a file of JSON lines, which survive crashes and which several processes of one machine share.
///
/// Each operation is one line, appended and synced to the disk before it is acknowledged. What a crash leaves of a line is no
/// operation, and is cut off. A line that is damaged is an error of every operation until a person looks at the file, and nothing
/// is overwritten. The file only grows, purged letters included, until it is [compacted](Self::compact).
///
/// In memory there is a summary of each letter; the letters themselves are read when they are asked for.
///
/// Beside the file lies `<path>.lock`, by which processes exclude each other, and which stays. On unix both are made for their
/// owner alone, since states hold conversations. The file system has to have locks that its users respect: a local one does.
#[derive(Debug, Clone)]
pub struct FileDeadLetters {
    log: Arc<Mutex<Log>>,
}

impl FileDeadLetters {
    /// Opens the file at `path`, or makes it if there is none. Its directory has to be there.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`] when the file cannot be opened or locked, or when it has a line that cannot be read.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, DeadLetterError> {
        let path = path.into();
        let log = spawn_blocking(move || Log::open(&path)).await.map_err(DeadLetterError::new)??;
        Ok(Self { log: Arc::new(Mutex::new(log)) })
    }

    /// Writes the file anew, with nothing in it of letters that were purged or replaced.
    ///
    /// Other processes may go on meanwhile: they wait for it, and then read the new file.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`] when the store fails. The letters are what they were.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await: the file is the old one then or the new one.
    pub async fn compact(&self) -> Result<(), DeadLetterError> {
        self.hold(|held| held.compact()).await
    }

    /// Does `work`, which is done to its end also when nobody waits for it any more.
    async fn hold<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Held<'_>) -> Result<T, DeadLetterError> + Send + 'static,
    ) -> Result<T, DeadLetterError> {
        // Waiting here takes no thread, however many wait.
        let mut log = self.log.clone().lock_owned().await;
        spawn_blocking(move || log.hold(work)).await.map_err(DeadLetterError::new)?
    }
}

#[async_trait]
impl DeadLetters for FileDeadLetters {
    async fn put(&self, mut letter: DeadLetter) -> Result<(), DeadLetterError> {
        self.hold(move |held| {
            letter.failures = held.shelf().next_failures(&letter.caller.tenant, letter.run_id);
            held.append(&Op::Put(&letter))
        })
        .await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        after: Option<RunId>,
        at_most: usize,
    ) -> Result<Vec<LetterSummary>, DeadLetterError> {
        let tenant = tenant.clone();
        self.hold(move |held| Ok(held.shelf().list(&tenant, after, at_most, now_ms()))).await
    }

    async fn get(&self, tenant: &TenantId, run: RunId) -> Result<Option<(DeadLetter, LetterStatus)>, DeadLetterError> {
        let tenant = tenant.clone();
        self.hold(move |held| {
            let found = held.shelf().find(&tenant, run).map(|kept| (kept.letter, kept.status(now_ms())));
            found.map(|(place, status)| Ok((held.letter(place)?, status))).transpose()
        })
        .await
    }

    async fn claim(&self, tenant: &TenantId, run: RunId, time: Duration) -> Result<Claim, DeadLetterError> {
        let tenant = tenant.clone();
        self.hold(move |held| {
            let now = now_ms();
            let place = match held.shelf().claimable(&tenant, run, now) {
                Ok(place) => *place,
                Err(claim) => return Ok(claim),
            };
            // Read first: a letter that cannot be read is not claimed.
            let (letter, token) = (Box::new(held.letter(place)?), ClaimToken::random());
            held.append(&Op::Claim { tenant, run_id: run, token, until: claimed_until(now, time) })?;
            Ok(Claim::Taken { letter, token })
        })
        .await
    }

    async fn settle(
        &self,
        tenant: &TenantId,
        run: RunId,
        token: ClaimToken,
        end: ClaimEnd,
    ) -> Result<bool, DeadLetterError> {
        let tenant = tenant.clone();
        self.hold(move |held| {
            let is_held = held.shelf().is_held(&tenant, run, token);
            if is_held {
                held.append(&Op::Settle { tenant, run_id: run, end, at: now_ms() })?;
            }
            Ok(is_held)
        })
        .await
    }

    async fn purge(&self, tenant: &TenantId, which: Purge) -> Result<usize, DeadLetterError> {
        let tenant = tenant.clone();
        self.hold(move |held| {
            let run_ids = held.shelf().purgeable(&tenant, which, now_ms());
            let count = run_ids.len();
            if count > 0 {
                held.append(&Op::Purge { tenant, run_ids })?;
            }
            Ok(count)
        })
        .await
    }
}
