//! The work of calls, on threads for blocking work.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_core::{ModelError, ModelErrorClass};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::batch::{self, Batch};
use crate::cache::Embedded;
use crate::model::Model;
use crate::tokens::Tokenizer;

/// The vectors of one batch, each with the place of its text.
type Done = Result<Vec<(usize, Embedded)>, ModelError>;

/// A bound on how many threads work at once.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    threads: NonZeroUsize,
    free: Arc<Semaphore>,
}

/// The work of one call. Dropping it stops what is under way: a thread that works on a batch ends after the layer it is at.
pub(crate) struct Work {
    batches: BoxStream<'static, Done>,
    _stop: StopOnDrop,
}

struct StopOnDrop(Arc<AtomicBool>);

impl Workers {
    pub(crate) fn new(threads: NonZeroUsize) -> Self {
        // More than a semaphore counts are as good as no bound.
        Self { threads, free: Arc::new(Semaphore::new(threads.get().min(Semaphore::MAX_PERMITS))) }
    }

    /// Takes the texts apart and plans their batches. Nothing else is done before [`Work::next`].
    pub(crate) async fn start(
        &self,
        model: &Arc<Model>,
        tokenizer: &Arc<Tokenizer>,
        texts: Arc<[Arc<str>]>,
    ) -> Result<Work, ModelError> {
        let stop = StopOnDrop(Arc::default());
        if texts.is_empty() {
            return Ok(Work { batches: stream::empty().boxed(), _stop: stop });
        }
        let (tokenizer, stopped) = (tokenizer.clone(), stop.0.clone());
        let read = move || texts.iter().map(|text| unless(&stopped, || tokenizer.ids(text))).collect();
        let read: Option<Vec<Vec<u32>>> = self.on_thread(read).await?;
        let batches = batch::plan(read.ok_or_else(stopped_early)?, self.threads.get());
        let work = |batch| self.clone().forward(model.clone(), batch, stop.0.clone());
        let batches: Vec<_> = batches.into_iter().map(work).collect();
        Ok(Work { batches: stream::iter(batches).buffer_unordered(self.threads.get()).boxed(), _stop: stop })
    }

    async fn forward(self, model: Arc<Model>, batch: Batch, stop: Arc<AtomicBool>) -> Done {
        let Batch { places, texts } = batch;
        let tokens: Vec<u64> = texts.iter().map(|ids| ids.len() as u64).collect();
        let vectors = self.on_thread(move || model.forward(&texts, &stop)).await?;
        let vectors = vectors.ok_or_else(stopped_early)?.into_iter().map(Arc::from);
        let embedded = vectors.zip(tokens).map(|(vector, tokens)| Embedded { vector, tokens });
        Ok(places.into_iter().zip(embedded).collect())
    }

    /// Does `work` when a thread is free for it. The thread counts until the work ends, also when nobody waits for it any more.
    async fn on_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ModelError> {
        let free = self.free.clone().acquire_owned().await.map_err(|_| stopped_early())?;
        let working = spawn_blocking(move || {
            let done = work();
            drop(free);
            done
        });
        working.await.map_err(|ended| match ended.is_panic() {
            true => ModelError::new(ModelErrorClass::Panicked, "the model's code panicked"),
            false => stopped_early(),
        })
    }
}

impl Work {
    /// The next batch that is done, in any order. Batches are under way only while this is waited for.
    pub(crate) async fn next(&mut self) -> Option<Done> {
        self.batches.next().await
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn unless<T>(stopped: &AtomicBool, work: impl FnOnce() -> T) -> Option<T> {
    (!stopped.load(Ordering::Relaxed)).then(work)
}

fn stopped_early() -> ModelError {
    ModelError::new(ModelErrorClass::Stopped, "the work was stopped")
}
