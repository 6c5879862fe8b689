//! Embeddings in batches, as servers send them.
#![allow(clippy::unwrap_used)]

mod support;

use std::num::NonZeroUsize;

use agent_core::{Embedder, Embeddings, MicroUsd, ModelError, Tokens};
use model_litellm::{Gateway, GatewayConfig, GatewayEmbedder};
use serde_json::{Value, json};
use testkit::{Answer, FaultUpstream, UpstreamRequest};

use support::{context, gateway};

async fn embed(embedder: &GatewayEmbedder, texts: &[&str]) -> Result<Embeddings, ModelError> {
    embedder.embed(texts, &context()).await
}

/// An answer with a vector for each text: its length, and what `change` does to the items.
fn lengths(request: &UpstreamRequest, change: impl Fn(&mut Vec<Value>)) -> Answer {
    let body = request.json();
    let texts = body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().len());
    let mut data: Vec<Value> =
        texts.enumerate().map(|(index, length)| json!({"index": index, "embedding": [length, 1]})).collect();
    let tokens = data.len() * 3;
    change(&mut data);
    Answer::json(200, &json!({"data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}))
}

#[tokio::test]
async fn batches_are_put_together_in_order() {
    let upstream = FaultUpstream::start().await;
    upstream.answering(|request| {
        let answer = lengths(request, |items| items.reverse()).with_header("x-litellm-response-cost", "0.000001");
        // The first batches take longest.
        let slow = if request.json()["input"][0].as_str().unwrap().len() < 8 { 30 } else { 0 };
        Answer::clone(&answer).in_packets_of(64, std::time::Duration::from_millis(slow))
    });
    let texts: Vec<String> = (1..=23).map(|length| "x".repeat(length)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let embedder = gateway(&upstream.base_url()).embedder("e").with_batch(NonZeroUsize::new(5).unwrap());
    let embeddings = embed(&embedder, &texts).await.unwrap();
    let seen: Vec<f32> = embeddings.iter().map(|vector| vector[0]).collect();
    assert_eq!(seen, (1..=23_u8).map(f32::from).collect::<Vec<_>>());
    assert_eq!(embeddings.usage.unwrap().input, Tokens(23 * 3));
    assert_eq!(embeddings.cost, Some(MicroUsd(5)), "one for each of five requests");
    let requests = upstream.requests();
    assert_eq!(requests.len(), 5);
    let mut body =
        requests.iter().map(UpstreamRequest::json).find(|body| body["input"].as_array().unwrap().len() == 3).unwrap();
    body.as_object_mut().unwrap().remove("metadata").unwrap();
    let input = json!(["x".repeat(21), "x".repeat(22), "x".repeat(23)]);
    let expected =
        json!({"model": "e", "input": input, "encoding_format": "float", "num_retries": 0, "disable_fallbacks": true});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn vectors_come_in_every_form() {
    let upstream = FaultUpstream::start().await;
    let embedder = gateway(&upstream.base_url()).embedder("e");
    for form in [
        json!([{"index": 0, "embedding": [1.0, 2.5]}]),
        json!([{"embedding": [1, 2.5]}]),
        json!([{"index": 0, "embedding": "AACAPwAAIEA="}]),
        json!([{"index": "0", "embedding": "AACAPwAAIEA"}]),
        json!([{"index": 0.0, "embedding": [1.0, 2.5]}]),
    ] {
        upstream.answering(move |_| Answer::json(200, &json!({ "data": form })));
        let embeddings = embed(&embedder, &["a"]).await.unwrap();
        assert_eq!((embeddings.get(0), embeddings.usage, embeddings.cost), (Some(&[1.0, 2.5][..]), None, None));
    }
}

#[tokio::test]
async fn what_is_no_answer_is_told() {
    let upstream = FaultUpstream::start().await;
    let embedder = gateway(&upstream.base_url()).embedder("e");
    for (answer, expected) in [
        (json!({"data": [{"index": 0, "embedding": [1.0]}]}), "model.malformed"),
        (json!({"data": [{"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}]}), "model.malformed"),
        (json!({"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]}), "model.malformed"),
        (json!({"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}]}), "model.malformed"),
        (json!({"data": [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]}), "model.malformed"),
        (json!({"data": [{"index": 0, "embedding": "AAA="}, {"index": 1, "embedding": "AAA="}]}), "model.malformed"),
        (json!({"data": [{"embedding": [1.0]}, {"index": 1, "embedding": [1.0]}]}), "model.malformed"),
        (json!({"hello": "world"}), "model.malformed"),
        (json!({"data": [], "error": {"code": 503}}), "model.overloaded"),
        (json!({"error": {"message": "slow down", "code": 429}}), "model.rate_limited"),
    ] {
        let shown = answer.to_string();
        upstream.answering(move |_| Answer::json(200, &answer));
        assert_eq!(embed(&embedder, &["a", "b"]).await.unwrap_err().code().as_str(), expected, "{shown}");
    }
}

#[tokio::test]
async fn a_page_for_people_is_no_api() {
    let upstream = FaultUpstream::start().await;
    upstream.answering(|_| Answer::status(200).with_header("content-type", "text/html").then("<html>Hello</html>"));
    let failed = embed(&gateway(&upstream.base_url()).embedder("e"), &["a"]).await.unwrap_err();
    assert_eq!(failed.code().as_str(), "model.not_found");
}

#[tokio::test]
async fn a_failure_tells_what_was_used_before_it() {
    let upstream = FaultUpstream::start().await;
    upstream.answering(|request| match request.json()["input"][0].as_str().unwrap() {
        "c" => Answer::status(503).with_header("retry-after", "3"),
        _ => lengths(request, |_| {}).with_header("x-litellm-response-cost", "0.000001"),
    });
    let embedder = gateway(&upstream.base_url()).embedder("e").with_batch(NonZeroUsize::MIN);
    let failed = embed(&embedder, &["a", "b", "c"]).await.unwrap_err();
    assert_eq!((failed.code().as_str(), failed.usage.unwrap().input), ("model.overloaded", Tokens(6)));
    assert_eq!(failed.cost, Some(MicroUsd(2)));
    assert_eq!(failed.retry_after, Some(std::time::Duration::from_secs(3)));
}

#[tokio::test]
async fn a_sum_of_which_a_part_is_unknown_is_unknown() {
    let upstream = FaultUpstream::start().await;
    upstream.answering(|request| match request.json()["input"][0].as_str().unwrap() {
        "b" => Answer::json(200, &json!({"data": [{"embedding": [1, 1]}]})),
        _ => lengths(request, |_| {}).with_header("x-litellm-response-cost", "0.000001"),
    });
    let embedder = gateway(&upstream.base_url()).embedder("e").with_batch(NonZeroUsize::MIN);
    let embeddings = embed(&embedder, &["a", "b", "c"]).await.unwrap();
    assert_eq!((embeddings.len(), embeddings.usage, embeddings.cost), (3, None, None));
}

#[tokio::test]
async fn other_servers_are_sent_the_least() {
    let upstream = FaultUpstream::start().await;
    let embedder = Gateway::new(GatewayConfig::compatible(upstream.base_url())).unwrap().embedder("e");
    embed(&embedder, &["a"]).await.unwrap();
    assert_eq!(upstream.requests()[0].json(), json!({"model": "e", "input": ["a"], "encoding_format": "float"}));
}
