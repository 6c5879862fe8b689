//! The embedder's suite, and what else a caller may rely on, with a small model. `minilm.rs` has the real one.
#![allow(clippy::unwrap_used)]

mod support;

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use agent_core::{Embedder, Lease, Limits, ModelErrorClass, RunContext, Tokens};
use embedder_minilm::MiniLmEmbedder;
use support::Tiny;
use testkit::{caller, conformance};

fn embedder() -> MiniLmEmbedder {
    Tiny::new().load().unwrap()
}

fn context() -> RunContext {
    RunContext::standalone(caller())
}

/// Texts of some 200 tokens each, all of them different.
fn long_texts(number: usize) -> Vec<String> {
    (0..number).map(|number| format!("{number} {}", "order where ".repeat(100))).collect()
}

fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    conformance::embedder(embedder()).await;
    conformance::embedder(embedder().with_cache_bytes(0).with_threads(NonZeroUsize::MIN)).await;
    conformance::embedder(embedder().with_cache_bytes(2_000)).await;
}

#[tokio::test]
async fn conforms_on_one_thread() {
    conformance::embedder(embedder()).await;
}

#[tokio::test]
async fn usage_tells_new_tokens_from_kept_ones() {
    let embedder = embedder();
    let usage = async |embedder: &MiniLmEmbedder, texts: &[&str]| {
        let usage = embedder.embed(texts, &context()).await.unwrap().usage.unwrap();
        (usage.input, usage.cached_input)
    };
    // Four and three tokens, and a text that comes twice is embedded once.
    assert_eq!(usage(&embedder, &["my order", "order", "my order"]).await, (Tokens(11), Tokens(4)));
    assert_eq!(usage(&embedder.clone(), &["order", "is"]).await, (Tokens(6), Tokens(3)));
    let apart = embedder.with_cache_bytes(0);
    assert_eq!(usage(&apart, &["order"]).await, (Tokens(3), Tokens(0)));
    assert_eq!(usage(&apart, &["order"]).await, (Tokens(3), Tokens(0)));
}

#[tokio::test]
async fn kept_vectors_are_the_same() {
    let embedder = embedder();
    let texts = ["where is my order", "", "¿", "where is my order"];
    let first = embedder.embed(&texts, &context()).await.unwrap();
    let again = embedder.embed(&texts, &context()).await.unwrap();
    assert!(first.iter().eq(again.iter()));
    let norms = first.iter().map(|vector| vector.iter().map(|value| value * value).sum::<f32>());
    assert!(norms.into_iter().all(|norm| (norm - 1.0).abs() < 1e-5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_ends_it() {
    let lease = Lease::root(Limits::none().with_time(Duration::from_millis(50)));
    let cx = RunContext::standalone_with(caller(), lease, Vec::new());
    let texts = long_texts(3_000);
    let error = embedder().embed(&borrowed(&texts), &cx).await.unwrap_err();
    assert_eq!(error.class, ModelErrorClass::TimedOut);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_before_a_call_is_given_up_is_kept() {
    let embedder = embedder().with_threads(NonZeroUsize::MIN);
    let (texts, cx) = (long_texts(200), context());
    let texts = borrowed(&texts);
    let mut call = embedder.embed(&texts, &cx);
    while format!("{embedder:?}").contains("entries: 0") {
        let ended = tokio::time::timeout(Duration::from_millis(1), &mut call).await;
        assert!(ended.is_err(), "it ends after more than one batch");
    }
    drop(call);
    let kept = embedder.embed(&texts[..2], &context()).await.unwrap().usage.unwrap();
    assert_eq!(kept.cached_input, kept.input);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_is_stopped() {
    let cx = context();
    cx.cancellation().cancel();
    let texts = long_texts(3_000);
    let error = embedder().embed(&borrowed(&texts), &cx).await.unwrap_err();
    assert_eq!(error.class, ModelErrorClass::Stopped);
}

/// One thread works for all calls: a call that was given up must not hold it until all its texts are done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_calls_free_their_thread() {
    let embedder = embedder().with_cache_bytes(0).with_threads(NonZeroUsize::MIN);
    let texts = long_texts(100);
    let texts = borrowed(&texts);
    let begun = Instant::now();
    embedder.embed(&texts, &context()).await.unwrap();
    let all = begun.elapsed();
    let begun = Instant::now();
    for _ in 0..20 {
        let cx = context();
        let call = embedder.embed(&texts, &cx);
        assert!(tokio::time::timeout(all / 20, call).await.is_err());
    }
    embedder.embed(&["order"], &context()).await.unwrap();
    let dropped = begun.elapsed();
    assert!(dropped < all * 10, "20 calls that were dropped took {dropped:?}, a whole one {all:?}");
}

#[tokio::test]
async fn debug_shows_no_text() {
    let embedder = embedder();
    embedder.embed(&["my order"], &context()).await.unwrap();
    let shown = format!("{embedder:?}");
    assert!(
        shown.contains("all-MiniLM-L6-v2") && shown.contains("entries: 1") && !shown.contains("my order"),
        "{shown}"
    );
}
