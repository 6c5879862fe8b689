//! The real model: `cargo xtask integration minilm`.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::sync::LazyLock;

use agent_core::{Embedder, RunContext};
use embedder_minilm::MiniLmEmbedder;
use serde::Deserialize;
use testkit::{caller, conformance};

/// How much a value may differ from the reference, which was computed in double precision.
const TOLERANCE: f64 = 1e-5;

static EMBEDDER: LazyLock<MiniLmEmbedder> = LazyLock::new(|| {
    let folder = std::env::var_os("ADJUTANT_MINILM_DIR").expect("`cargo xtask integration minilm` says where it is");
    MiniLmEmbedder::load(folder).unwrap()
});

/// What Hugging Face's tokenizers and a forward pass in numpy make of a text: `golden/minilm.py`.
#[derive(Deserialize)]
struct Golden {
    text: String,
    ids: Vec<u32>,
    /// The first values of the vector.
    head: Vec<f64>,
    norm: f64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    conformance::embedder(EMBEDDER.clone()).await;
    conformance::embedder(EMBEDDER.clone().with_cache_bytes(0).with_threads(NonZeroUsize::MIN)).await;
}

#[tokio::test]
async fn is_what_the_reference_is() {
    let golden: Vec<Golden> = serde_json::from_str(include_str!("golden/minilm.json")).unwrap();
    let embedder = EMBEDDER.clone().with_cache_bytes(0);
    let cx = RunContext::standalone(caller());
    let texts: Vec<&str> = golden.iter().map(|golden| &*golden.text).collect();
    let together = embedder.embed(&texts, &cx).await.unwrap();
    let mut worst = 0.0_f64;
    for (golden, vector) in golden.iter().zip(together.iter()) {
        assert_eq!(embedder.token_ids(&golden.text), golden.ids, "{:?}", golden.text);
        let alone = embedder.embed(&[&golden.text], &cx).await.unwrap();
        for vector in [vector, alone.get(0).unwrap()] {
            let norm = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            let values = vector.iter().map(|value| f64::from(*value)).chain([norm]);
            let expected = golden.head.iter().copied().chain([golden.norm]);
            let differences = values.take(golden.head.len()).chain([norm]).zip(expected);
            worst = differences.map(|(value, expected)| (value - expected).abs()).fold(worst, f64::max);
        }
    }
    println!("{} texts; the largest difference is {worst:.1e}", golden.len());
    assert!(worst <= TOLERANCE, "{worst:e} is more than {TOLERANCE:e}");
}

#[tokio::test]
async fn like_texts_have_like_vectors() {
    let cx = RunContext::standalone(caller());
    let texts = ["Where is my order?", "Has my parcel been sent yet?", "What is the capital of France?"];
    let vectors = EMBEDDER.embed(&texts, &cx).await.unwrap();
    let cosine = |one: usize, other: usize| -> f32 {
        vectors.get(one).unwrap().iter().zip(vectors.get(other).unwrap()).map(|(one, other)| one * other).sum()
    };
    assert!(cosine(0, 1) > 0.4 && cosine(0, 2) < 0.1, "{} and {}", cosine(0, 1), cosine(0, 2));
}

#[test]
fn knows_english_and_no_chinese() {
    let share = |text| EMBEDDER.unknown_share(text).unwrap();
    assert_eq!(share(""), 0.0);
    assert_eq!(share("Where is my order?"), 0.0);
    assert!(share("我想取消我的订单，请问需要多长时间？") > 0.3);
    assert_eq!(share("order 🦀"), 0.5);
}
