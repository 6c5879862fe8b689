//! What a sentence costs, alone and among 32, beside what candle takes: time on one thread.
//!
//! `cargo xtask backends minilm -- cargo bench -p adjutant-embedder-minilm`
// A benchmark talks to a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::expect_used)]

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Instant;

use agent_core::{Caller, Embedder, RunContext};
use embedder_minilm::MiniLmEmbedder;

const SENTENCES: [&str; 8] = [
    "Where is my order, and when will it be delivered to me?",
    "I want to cancel my subscription before the end of the month.",
    "What is the balance of my savings account right now, please?",
    "Please book a table for four people at the Italian restaurant.",
    "My card was declined at the supermarket, what can I do?",
    "How long may I take to return a screen that is cracked?",
    "Is there a fee if I change the date of my flight to Rome?",
    "Tell me the weather in Paris for tomorrow and the day after.",
];

/// The best of so many rounds counts: others use the machine as well.
const ROUNDS: usize = 20;

/// Milliseconds a sentence of candle 0.11 on one thread, where this takes 6.5 and 3.3 (a Xeon with AVX-512). Candle is no part of this build,
/// which it would make minutes longer: on another machine the ratio says nothing.
const CANDLE: [(&str, f64); 2] = [("alone", 11.4), ("32 at once", 6.1)];

fn main() {
    let Some(folder) = std::env::var_os("ADJUTANT_MINILM_DIR") else {
        eprintln!("ADJUTANT_MINILM_DIR does not say where the model is: run this by `cargo xtask backends minilm --`");
        return;
    };
    let begun = Instant::now();
    let embedder = MiniLmEmbedder::load(folder).expect("the model").with_threads(NonZeroUsize::MIN);
    println!("loaded in {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let cx = RunContext::standalone(Caller::new("acme", "ann").expect("a caller"));
    let embed = |embedder: &MiniLmEmbedder, texts: &[&str]| {
        let begun = Instant::now();
        runtime.block_on(embedder.embed(texts, &cx)).expect("vectors");
        begun.elapsed().as_secs_f64()
    };

    // Texts that come twice in a call are embedded once: each of the 32 is another.
    let texts: Vec<String> = (0..32).map(|number| format!("{} {number}", SENTENCES[number % 8])).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let tokens: usize = texts.iter().map(|text| embedder.token_ids(text).len()).sum();
    let tokens = tokens as f64 / texts.len() as f64;
    println!("{tokens:.1} tokens a sentence");

    let uncached = embedder.clone().with_cache_bytes(0);
    println!("{:>12} {:>15} {:>10} {:>20}", "", "ms a sentence", "tokens/s", "candle's time / ours");
    for (batch, (name, candle)) in [1, 32].into_iter().zip(CANDLE) {
        let round = || texts.chunks(batch).map(|texts| embed(&uncached, texts)).sum::<f64>();
        let seconds = (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min) / texts.len() as f64;
        println!("{name:>12} {:>15.2} {:>10.0} {:>20.2}", seconds * 1e3, tokens / seconds, candle / (seconds * 1e3));
    }
    embed(&embedder, &texts);
    let seconds = (0..ROUNDS).map(|_| embed(&embedder, &texts)).fold(f64::INFINITY, f64::min) / texts.len() as f64;
    println!("{:>12} {:>15.4}", "kept", seconds * 1e3);
    let begun = Instant::now();
    for text in texts.iter().cycle().take(ROUNDS * texts.len()) {
        black_box(embedder.unknown_share(text));
    }
    println!("{:>12} {:>15.4}", "unknown share", begun.elapsed().as_secs_f64() * 1e3 / (ROUNDS * texts.len()) as f64);
}
