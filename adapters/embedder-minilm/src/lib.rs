//! Adjutant's embedder without a server: all-MiniLM-L6-v2, a small BERT for English sentences, run in process on the CPU.
//!
//! ```
//! use std::sync::Arc;
//!
//! use agent_core::{Caller, Embedder, RunContext, embed};
//! use embedder_minilm::MiniLmEmbedder;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! // Where the two files are.
//! let Some(folder) = std::env::var_os("ADJUTANT_MINILM_DIR") else { return Ok(()) };
//! let embedder: Arc<dyn Embedder> = Arc::new(MiniLmEmbedder::load(folder)?);
//! let cx = RunContext::standalone(Caller::new("acme", "ann")?);
//! let embeddings = embed(&embedder, &["Where is my order?", "Where is my parcel?"], &cx).await?;
//! assert_eq!((embeddings.len(), embeddings.dimensions()), (2, 384));
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - The host brings two files, `model.safetensors` (91 MB) and `vocab.txt`, as
//!   [Hugging Face](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2) has them. Nothing is fetched.
//! - A vector is the mean of a text's tokens, of length 1, as `sentence-transformers` makes it. A text's first 256 tokens count.
//! - The model knows English. [`Embedder::unknown_share`](agent_core::Embedder::unknown_share) says how much of a text it knows.
//! - What a text says is never read as one of the model's own tokens: `[SEP]` in a text is a word in brackets.

mod batch;
mod cache;
mod embedder;
mod error;
mod model;
mod tokens;
mod work;

pub use embedder::MiniLmEmbedder;
pub use error::LoadError;
