//! The embedder.

use std::fmt;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_core::{
    AgentError, Embedder, Embeddings, ModelError, ModelErrorClass, ModelInfo, Price, RunContext, Tokens, Usage,
    async_trait,
};

use crate::cache::{Cache, Embedded};
use crate::error::LoadError;
use crate::model::Model;
use crate::tokens::Tokenizer;
use crate::work::Workers;

/// How many bytes of vectors are kept by default: some 9,000 short texts.
const CACHE_BYTES: usize = 16 << 20;

/// all-MiniLM-L6-v2 in process: vectors of 384 values and length 1, made on the CPU.
///
/// Clones share the weights (91 MB), the cache and the bound on threads. Calls need a tokio runtime, whose threads for blocking work do
/// the work.
///
/// # What is kept
///
/// Vectors of texts are kept until newer ones need their room, 16 MiB of them ([`with_cache_bytes`](Self::with_cache_bytes)). All callers
/// share what is kept: a vector depends on its text alone, so nobody gets anything that he could not compute. Who measures how long a
/// call takes may learn, though, that a text was embedded before, by whomever: hosts to which that matters give each tenant a clone with
/// a cache of its own, or none. The texts are kept as well, in memory.
#[derive(Clone)]
pub struct MiniLmEmbedder {
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    cache: Arc<Mutex<Cache>>,
    workers: Workers,
    info: ModelInfo,
}

impl MiniLmEmbedder {
    /// Reads `model.safetensors` and `vocab.txt` in this folder. Blocks for as long as 91 MB take to read and unpack, and holds them twice
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when a file is missing, cut or another model's.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self, LoadError> {
        let folder = folder.as_ref();
        let (weights, vocabulary) = (folder.join("model.safetensors"), folder.join("vocab.txt"));
        // The small file first: a folder without it is told of at once.
        let vocabulary =
            fs::read_to_string(&vocabulary).map_err(|source| LoadError::File { file: vocabulary, source })?;
        let weights = fs::read(&weights).map_err(|source| LoadError::File { file: weights, source })?;
        Self::from_bytes(&weights, &vocabulary)
    }

    /// Takes the contents of `model.safetensors` and `vocab.txt`, which are not needed afterwards.
    ///
    /// Other models of the same make are taken as well: uncased BERT with heads of 32 values, whose vector is the mean of its tokens. A
    /// host that has one names it by [`with_info`](Self::with_info).
    ///
    /// # Errors
    ///
    /// [`LoadError`] when they are cut or another model's.
    pub fn from_bytes(weights: &[u8], vocabulary: &str) -> Result<Self, LoadError> {
        let model = Model::parse(weights)?;
        let tokenizer = Tokenizer::new(vocabulary, model.words(), model.window())?;
        let info = ModelInfo::new("adjutant", "all-MiniLM-L6-v2")
            .with_context_window(Tokens(model.window() as u64))
            .with_price(Price::FREE);
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            model: Arc::new(model),
            tokenizer: Arc::new(tokenizer),
            cache: Arc::new(Mutex::new(Cache::new(CACHE_BYTES))),
            workers: Workers::new(threads),
            info,
        })
    }

    /// The same, described like this.
    #[must_use]
    pub fn with_info(mut self, change: impl FnOnce(ModelInfo) -> ModelInfo) -> Self {
        self.info = change(self.info);
        self
    }

    /// The same with a cache of its own that holds so many bytes: texts, vectors, and what it takes to find them. 0 is none. Default: 16 MiB.
    #[must_use]
    pub fn with_cache_bytes(mut self, bytes: usize) -> Self {
        self.cache = Arc::new(Mutex::new(Cache::new(bytes)));
        self
    }

    /// The same with a bound of its own on how many threads work at once, over all calls. Default: as many as there are processors.
    #[must_use]
    pub fn with_threads(mut self, threads: NonZeroUsize) -> Self {
        self.workers = Workers::new(threads);
        self
    }

    /// The ids of the word pieces that the model reads of a text, those of `[CLS]` and `[SEP]` included: at most 256.
    #[must_use]
    pub fn token_ids(&self, text: &str) -> Vec<u32> {
        self.tokenizer.ids(text)
    }

    async fn embed_all(&self, texts: &[&str]) -> Result<Embeddings, ModelError> {
        let asked = self.look_up(texts);
        let missing: Arc<[Arc<str>]> = asked.missing.into();
        let mut made = vec![None; missing.len()];
        let mut work = self.workers.start(&self.model, &self.tokenizer, missing.clone()).await?;
        while let Some(batch) = work.next().await {
            let mut cache = self.cache();
            // What is done is kept even when the call is given up before the end.
            for (place, embedded) in batch? {
                cache.keep(&missing[place], embedded.clone());
                made[place] = Some(embedded);
            }
        }
        let found = asked.texts.into_iter().map(|text| match text {
            Found::Kept(embedded) => Some(embedded),
            Found::Missing(place) => made[place].clone(),
        });
        let found: Option<Vec<Embedded>> = found.collect();
        let found = found.ok_or_else(|| ModelError::new(ModelErrorClass::Malformed, "a text got no vector"))?;
        let tokens = |embedded: &Embedded| embedded.tokens;
        let all: u64 = found.iter().map(tokens).sum();
        let new: u64 = made.iter().flatten().map(tokens).sum();
        let mut usage = Usage::new(Tokens(all), Tokens::ZERO);
        usage.cached_input = Tokens(all.saturating_sub(new));
        let vectors = found.into_iter().map(|embedded| embedded.vector.to_vec());
        let embeddings = Embeddings::from_vectors(vectors).map_err(|invalid| {
            ModelError::new(ModelErrorClass::Malformed, "a vector is not valid").with_source(invalid)
        })?;
        Ok(embeddings.with_usage(usage))
    }

    /// Which of the texts are kept, and which others there are, each once.
    fn look_up(&self, texts: &[&str]) -> Asked {
        let mut cache = self.cache();
        let mut missing: Vec<Arc<str>> = Vec::new();
        let mut places = rustc_hash::FxHashMap::default();
        let texts = texts.iter().map(|text| match cache.get(text) {
            Some(embedded) => Found::Kept(embedded),
            None => Found::Missing(*places.entry(*text).or_insert_with(|| {
                missing.push(Arc::from(*text));
                missing.len() - 1
            })),
        });
        let texts = texts.collect();
        Asked { texts, missing }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The texts of a call.
struct Asked {
    texts: Vec<Found>,
    missing: Vec<Arc<str>>,
}

/// A text's vector, or its place among those that have to be made.
enum Found {
    Kept(Embedded),
    Missing(usize),
}

#[async_trait]
impl Embedder for MiniLmEmbedder {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn embed(&self, texts: &[&str], cx: &RunContext) -> Result<Embeddings, ModelError> {
        if texts.is_empty() {
            return Ok(Embeddings::default());
        }
        cx.unless_stopped(self.embed_all(texts)).await.unwrap_or_else(|stopped| Err(given_up(stopped)))
    }

    fn unknown_share(&self, text: &str) -> Option<f32> {
        Some(self.tokenizer.unknown_share(text))
    }
}

fn given_up(stopped: AgentError) -> ModelError {
    let (class, message) = match stopped {
        AgentError::Deadline => (ModelErrorClass::TimedOut, "there was no time left for all texts"),
        _ => (ModelErrorClass::Stopped, "the run was stopped"),
    };
    ModelError::new(class, message).with_source(stopped)
}

impl fmt::Debug for MiniLmEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MiniLmEmbedder")
            .field("info", &self.info)
            .field("cache", &*self.cache())
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}
