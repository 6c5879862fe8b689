//! The suites of the ports that this crate implements, against an upstream in process.
#![allow(clippy::unwrap_used)]

mod support;

use std::num::NonZeroUsize;

use model_litellm::Gateway;
use testkit::{FaultUpstream, conformance};

use support::{TRANSPORTS, by, gateway};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_model() {
    let upstream = FaultUpstream::start().await;
    for transport in TRANSPORTS {
        conformance::chat_model(by(gateway(&upstream.base_url()).model("echo"), transport)).await;
    }
}

#[tokio::test]
async fn chat_model_of_other_dialects() {
    use model_litellm::GatewayConfig;
    let upstream = FaultUpstream::start().await;
    for config in [GatewayConfig::openai(upstream.base_url()), GatewayConfig::compatible(upstream.base_url())] {
        conformance::chat_model(Gateway::new(config).unwrap().model("echo")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedder() {
    let upstream = FaultUpstream::start().await;
    conformance::embedder(gateway(&upstream.base_url()).embedder("hash")).await;
    let few = NonZeroUsize::new(7).unwrap();
    conformance::embedder(gateway(&upstream.base_url()).embedder("hash").with_batch(few)).await;
}
