//! What is told of files that cannot be used.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use embedder_minilm::{LoadError, MiniLmEmbedder};
use safetensors::Dtype;
use support::{Tiny, WIDTH};

/// Breaks the model and compares what is said of it.
fn check(break_it: impl FnOnce(&mut Tiny), code: &str, expected: &str) {
    let mut tiny = Tiny::new();
    break_it(&mut tiny);
    let error = tiny.refused();
    assert_eq!((error.code().as_str(), &*error.to_string(), error.retryable()), (code, expected, false));
}

#[test]
fn tensors_that_are_missing_are_named() {
    let lacks = |name: &str| {
        check(|tiny| drop(tiny.tensors.remove(name)), "minilm.tensor", &format!("the weights have no tensor {name}"));
    };
    for name in Tiny::new().tensors.keys() {
        lacks(name);
    }
}

#[test]
fn shapes_are_named_with_what_was_expected() {
    let has = |name: &str, shape: &[usize], expected: &str| {
        let said = format!("tensor {name} has the shape {shape:?}, expected {expected}");
        check(|tiny| tiny.chance(name, shape), "minilm.tensor", &said);
    };
    has("embeddings.word_embeddings.weight", &[99, 33], "[any, a multiple of 32]");
    has("embeddings.word_embeddings.weight", &[99 * 32], "[any, a multiple of 32]");
    has("embeddings.word_embeddings.weight", &[0, 32], "[any, a multiple of 32]");
    has("embeddings.position_embeddings.weight", &[2, WIDTH], "[at least 3, 32]");
    has("embeddings.position_embeddings.weight", &[512, 64], "[at least 3, 32]");
    has("embeddings.token_type_embeddings.weight", &[0, WIDTH], "[at least 1, 32]");
    has("embeddings.LayerNorm.weight", &[31], "[32]");
    has("encoder.layer.0.attention.self.query.weight", &[WIDTH, 31], "[32, 32]");
    has("encoder.layer.0.attention.self.query.bias", &[WIDTH, 1], "[32]");
    has("encoder.layer.0.intermediate.dense.weight", &[64, 31], "[any, 32]");
    has("encoder.layer.0.intermediate.dense.bias", &[65], "[64]");
    has("encoder.layer.0.output.dense.weight", &[64, WIDTH], "[32, 64]");
}

#[test]
fn only_finite_floats_of_32_bits_are_weights() {
    let name = "embeddings.LayerNorm.bias";
    let half = (vec![WIDTH], Dtype::F16, vec![0; 2 * WIDTH]);
    let half = |tiny: &mut Tiny| drop(tiny.tensors.insert(name.to_owned(), half));
    check(half, "minilm.tensor", "tensor embeddings.LayerNorm.bias holds F16, expected F32");
    let mut values = [0.0; WIDTH];
    values[7] = f32::NAN;
    check(
        |tiny| tiny.put(name, &[WIDTH], &values),
        "minilm.tensor",
        "tensor embeddings.LayerNorm.bias holds a value that is not finite",
    );
}

#[test]
fn a_truncated_file_is_no_file() {
    let tiny = Tiny::new();
    let whole = tiny.weights();
    for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        let error = MiniLmEmbedder::from_bytes(&whole[..length], &tiny.vocabulary).map(drop).unwrap_err();
        assert!(matches!(error, LoadError::Weights { .. }), "{length} bytes: {error:?}");
        assert_eq!(error.code().as_str(), "minilm.weights");
    }
    let more = [&*whole, &[0]].concat();
    assert!(matches!(MiniLmEmbedder::from_bytes(&more, &tiny.vocabulary), Err(LoadError::Weights { .. })));
}

#[test]
fn vocabularies_have_what_every_text_needs() {
    for token in ["[UNK]", "[CLS]", "[SEP]"] {
        let lacks = |tiny: &mut Tiny| tiny.vocabulary = tiny.vocabulary.replace(token, "other");
        check(lacks, "minilm.vocabulary", &format!("the vocabulary has no {token}"));
    }
    let words = Tiny::new().vocabulary.lines().count();
    let said = format!(
        "the vocabulary has {} entries, expected at most {words}, as many as the weights have words",
        words + 1
    );
    check(|tiny| tiny.vocabulary.push_str("more\n"), "minilm.vocabulary", &said);
    check(|tiny| tiny.vocabulary.clear(), "minilm.vocabulary", "the vocabulary has no [UNK]");
}

#[test]
fn files_that_are_missing_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Tiny::new();
    let refused = |expected: &str| {
        let error = MiniLmEmbedder::load(folder.path()).map(drop).unwrap_err();
        let LoadError::File { file, .. } = &error else { panic!("{error:?}") };
        assert_eq!((file.clone(), error.code().as_str()), (folder.path().join(expected), "minilm.file"));
    };
    refused("vocab.txt");
    fs::write(folder.path().join("vocab.txt"), [0xff, 0xfe]).unwrap();
    refused("vocab.txt");
    fs::write(folder.path().join("vocab.txt"), &tiny.vocabulary).unwrap();
    refused("model.safetensors");
    fs::write(folder.path().join("model.safetensors"), tiny.weights()).unwrap();
    MiniLmEmbedder::load(folder.path()).unwrap();
}
