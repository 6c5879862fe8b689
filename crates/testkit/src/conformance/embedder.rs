//! The suite for [`Embedder`].

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Embedder, Embeddings, Lease, Limits, RunContext};
use tokio::time::timeout;

use super::support::{GRACE, abandon, at_once, brief, context, ends};
use crate::caller;

/// Vectors with a cosine above this count as equal: models round differently in batches of different sizes.
const EQUAL: f64 = 0.999;

/// Texts of several scripts and lengths, some of them alike.
const TEXTS: [&str; 6] = [
    "Where is my order?",
    "Where is my parcel?",
    "注文はどこですか？ 🦀 Grüße",
    "An invoice\twith a tab, \"quotes\" and a \\ in it",
    "a",
    "Where is my order?",
];

/// How many texts are embedded in one call, which is more than most backends take at once.
const MANY: usize = 300;

/// Checks an [`Embedder`]: `embedder(embedder).await`.
///
/// - Each text gets one vector, in the texts' order, be it one text or 300.
/// - A text has the same vector alone and among others; different texts have different ones.
/// - No texts give no vectors.
/// - Calls run at once, for different tenants, and each gets its own vectors.
/// - The future can be dropped at every await, and later calls are answered.
/// - Nothing waits past `cx.deadline()`.
/// - [`Embedder::info`] always says the same.
///
/// # Panics
///
/// When a rule is broken.
pub async fn embedder(embedder: impl Embedder + 'static) {
    let embedder: Arc<dyn Embedder> = Arc::new(embedder);
    let info = embedder.info().clone();
    let alone = each_text_has_its_vector(&*embedder).await;
    many_texts_keep_their_order(&*embedder).await;
    no_texts_give_no_vectors(&*embedder).await;
    calls_at_once_stay_apart(&embedder, &alone).await;
    a_dropped_call_leaves_nothing_behind(&*embedder).await;
    nothing_waits_past_the_deadline(&*embedder).await;
    assert!(*embedder.info() == info, "`info` always says the same; it said {info:?} and then {:?}", embedder.info());
}

/// Checks the texts alone and together, and returns the vectors that they have alone.
async fn each_text_has_its_vector(embedder: &dyn Embedder) -> Vec<Vec<f32>> {
    let mut alone = Vec::new();
    for text in TEXTS {
        alone.push(vector(&embedded(embedder, "one text", &[text], &context("acme")).await, 0));
    }
    let together = embedded(embedder, "several texts", &TEXTS, &context("acme")).await;
    for (index, vector_alone) in alone.iter().enumerate() {
        same(&format!("text {index} of several"), &vector(&together, index), vector_alone);
    }
    let (first, other) = (&alone[0], &alone[3]);
    assert!(
        cosine(first, other) < EQUAL,
        "different texts have different vectors; {:?} and {:?} have not",
        TEXTS[0],
        TEXTS[3]
    );
    alone
}

async fn many_texts_keep_their_order(embedder: &dyn Embedder) {
    let texts: Vec<String> = (0..MANY).map(|index| format!("order number {index} is {}", index * 7)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let together = embedded(embedder, "many texts", &texts, &context("acme")).await;
    for index in [0, 1, MANY / 2, MANY - 1] {
        let alone = embedded(embedder, "one of many texts", &[texts[index]], &context("acme")).await;
        same(&format!("text {index} of {MANY}"), &vector(&together, index), &vector(&alone, 0));
    }
}

async fn no_texts_give_no_vectors(embedder: &dyn Embedder) {
    let none = embedded(embedder, "no texts", &[], &context("acme")).await;
    assert!(none.is_empty(), "no texts give no vectors; they gave {}", none.len());
}

async fn calls_at_once_stay_apart(embedder: &Arc<dyn Embedder>, alone: &[Vec<f32>]) {
    let calls = (0..8).map(|call: usize| {
        let (embedder, cx) = (embedder.clone(), context(if call.is_multiple_of(2) { "acme" } else { "globex" }));
        let index = call % TEXTS.len();
        async move { (index, embedded(&*embedder, "one of several calls at once", &[TEXTS[index]], &cx).await) }
    });
    for (index, embeddings) in at_once("several calls at once", calls).await {
        same(&format!("text {index} in one of several calls at once"), &vector(&embeddings, 0), &alone[index]);
    }
}

async fn a_dropped_call_leaves_nothing_behind(embedder: &dyn Embedder) {
    for awaits in 1..=8 {
        let cx = context("acme");
        if !abandon("a dropped call", awaits, embedder.embed(&TEXTS, &cx)).await {
            break;
        }
    }
    embedded(embedder, "a call after dropped ones", &TEXTS, &context("acme")).await;
}

async fn nothing_waits_past_the_deadline(embedder: &dyn Embedder) {
    for time in [Duration::ZERO, Duration::from_millis(100)] {
        let lease = Lease::root(Limits::none().with_time(time));
        let cx = RunContext::standalone_with(caller(), lease, Vec::new());
        let in_time = timeout(time + GRACE, embedder.embed(&TEXTS, &cx)).await;
        assert!(
            in_time.is_ok(),
            "nothing waits past `cx.deadline()`; with {time:?} left it went on for {GRACE:?} more"
        );
    }
}

/// The vectors of texts that have to have some, one for each.
async fn embedded(embedder: &dyn Embedder, what: &str, texts: &[&str], cx: &RunContext) -> Embeddings {
    let embeddings = ends(what, embedder.embed(texts, cx)).await;
    let embeddings =
        embeddings.unwrap_or_else(|error| panic!("{what} has to be embedded; it failed: {error} ({error:?})"));
    assert!(
        embeddings.len() == texts.len(),
        "{what}: each text gets one vector; {} texts got {}",
        texts.len(),
        embeddings.len()
    );
    embeddings
}

fn vector(embeddings: &Embeddings, index: usize) -> Vec<f32> {
    embeddings.get(index).unwrap_or_else(|| panic!("there is no vector {index} in {}", brief(embeddings))).to_vec()
}

fn same(what: &str, one: &[f32], other: &[f32]) {
    let cosine = cosine(one, other);
    assert!(cosine > EQUAL, "{what} has the vector that it has alone; the cosine between them is {cosine:.4}");
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    if one.len() != other.len() {
        return 0.0;
    }
    let dot = |one: &[f32], other: &[f32]| -> f64 {
        one.iter().zip(other).map(|(one, other)| f64::from(*one) * f64::from(*other)).sum()
    };
    let lengths = (dot(one, one) * dot(other, other)).sqrt();
    if lengths == 0.0 { f64::from(one == other) } else { dot(one, other) / lengths }
}
