//! The adapter through a real LiteLLM, in front of the testkit's upstream and of a real model: `cargo xtask integration litellm`.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use agent_core::{
    Capabilities, ChatModel, ChatRequest, Conversation, Lease, Limits, MainAgent, MicroUsd, ModelOptions, RunContext,
    RunOutcome, Tokens, collect, complete,
};
use futures_util::StreamExt;
use model_litellm::{Gateway, GatewayConfig, GatewayModel, RetryOwner, Timeouts, Transport};
use testkit::{caller, conformance, faults, somebody};

use support::proxy::{config, gateway, setting, upstream};
use support::{TRANSPORTS, ask, brief, by, hello, lookup};

/// What comes of each fault through the proxy: in a stream, and whole where that differs.
///
/// What LiteLLM makes of some of them cannot be undone here: it ends streams with `stop` that its upstream left open, loses refusals
/// in streams, estimates usage that is missing, and fails over `id:` and `retry:` lines.
const EXPECTED: &[(&str, &str, &str)] = &[
    ("fault/rate-limited", "model.rate_limited after 7 s", "="),
    ("fault/rate-limited-until", "model.rate_limited after 2592000 s", "="),
    ("fault/quota", "model.quota_exhausted", "="),
    ("fault/payment-required", "model.quota_exhausted", "="),
    ("fault/wrong-key", "model.auth", "="),
    ("fault/forbidden", "model.permission", "="),
    ("fault/no-model", "model.not_found", "="),
    ("fault/no-page", "model.not_found", "="),
    ("fault/bad-request", "model.bad_request", "="),
    ("fault/unprocessable", "model.bad_request", "="),
    ("fault/context-length", "model.context_overflow", "="),
    ("fault/context-length-in-words", "model.context_overflow", "="),
    ("fault/context-length-llama", "model.context_overflow", "="),
    ("fault/content-policy", "model.content_policy", "="),
    ("fault/content-filter-azure", "model.content_policy", "="),
    ("fault/request-timeout", "model.first_token_timeout", "="),
    ("fault/server-error", "model.unavailable", "="),
    ("fault/server-error-in-words", "model.unavailable", "="),
    ("fault/bad-gateway", "model.unavailable", "="),
    ("fault/unavailable", "model.overloaded", "="),
    ("fault/overloaded", "model.overloaded", "="),
    ("fault/gateway-timeout", "model.first_token_timeout", "="),
    ("fault/reset", "model.unavailable", "="),
    ("fault/closed", "model.unavailable", "="),
    ("fault/no-http", "model.unavailable", "="),
    ("fault/silent", "model.first_token_timeout", "="),
    ("fault/empty-body", "model.empty", "model.unavailable"),
    ("fault/web-page", "model.empty", "model.unavailable"),
    ("fault/bad-json", "model.unavailable", "="),
    ("fault/other-document", "model.empty", "model.unavailable"),
    ("fault/error-with-200", "model.unavailable", "model.overloaded"),
    ("fault/error-as-text", "model.unavailable", "model.bad_request"),
    ("fault/no-choices", "model.empty", "="),
    ("fault/filtered", "model.content_policy", "="),
    ("fault/blank", "model.empty", "="),
    ("fault/closed-in-body", "model.unavailable", "="),
    ("fault/reset-in-body", "model.unavailable", "="),
    ("fault/ends-without-finish", "\"All is\" 11+2", "model.unavailable"),
    ("fault/half-a-character", "model.unavailable", "="),
    ("fault/stalls", "model.stalled", "model.first_token_timeout"),
    ("fault/error-in-stream", "model.unavailable", "="),
    ("fault/rate-limited-in-stream", "model.rate_limited", "="),
    ("fault/call-cut", "model.unavailable", "="),
    ("fault/redirect", "model.unavailable", "="),
    ("fault/slow", "\"All is well.\" 12+5", "="),
    ("fault/one-packet", "\"All is well.\" 12+5", "="),
    ("fault/carriage-returns", "\"All is well.\" 12+5", "="),
    ("fault/comments", "model.unavailable", "\"All is well.\" 12+5"),
    ("fault/no-done", "\"All is well.\" 12+5", "="),
    ("fault/no-done-and-open", "\"All is well.\"", "\"All is well.\" 12+5"),
    ("fault/role-again", "\"All is well.\" 12+5", "="),
    ("fault/odd-finish", "\"All is well.\" 12+5", "="),
    ("fault/usage-in-choice", "\"All is well.\" 11+4", "\"All is well.\" 12+5"),
    ("fault/usage-of-nulls", "\"All is well.\"", "="),
    ("fault/no-usage", "\"All is well.\" 11+4", "\"All is well.\""),
    ("fault/reasoning", "reasoning \"They ask how it is.\" \"All is well.\" 12+5", "="),
    ("fault/refusal", "model.empty", "refusal \"I cannot help with that.\" 12+5"),
    (
        "fault/calls",
        "lookup({\"order\": \"A-1042\"})#call_1 lookup({\"order\": \"B-7\"})#call_2 [tool_calls] 12+5",
        "=",
    ),
    (
        "fault/calls-without-ids",
        "lookup({\"order\": \"A-1042\"})# lookup({\"order\": \"B-7\"})# [tool_calls] 12+5",
        "=",
    ),
    ("fault/call-malformed", "lookup({\"order\": \"A-10)#call_1 [tool_calls] 12+5", "="),
    (
        "fault/calls-with-gaps",
        "lookup({\"order\":\"A-1042\"})#call_1 lookup({\"order\":\"B-7\"})#call_5 [tool_calls] 11+57",
        "lookup({})#call_1 lookup({})#call_5 [tool_calls] 12+5",
    ),
    // Faults of the proxy itself, or of what it is configured with.
    ("closed/port", "model.unavailable", "="),
    ("no-such-model", "model.not_found", "="),
    ("mock-rate-limited", "model.rate_limited", "model.rate_limited after 5 s"),
    ("cooling", "model.unavailable", "="),
    ("cooling", "model.rate_limited after 60 s", "="),
];

#[tokio::test]
async fn each_fault_has_its_class_through_the_proxy() {
    let (upstream, _turn) = upstream().await;
    let missing = faults()
        .iter()
        .find(|fault| !EXPECTED.iter().any(|(name, ..)| name.strip_prefix("fault/") == Some(fault.name)));
    assert!(missing.is_none(), "{missing:?} is in the table");
    let timeouts = Timeouts::default()
        .with_first_token(Duration::from_secs(4))
        .with_between_tokens(Duration::from_secs(2))
        .with_total(Duration::from_secs(6));
    let gateway = Gateway::new(config().with_timeouts(timeouts)).unwrap();
    let mut wrong = Vec::new();
    println!("{:29} {:6} {:5} {:36} seen", "mode", "", "calls", "expected");
    for (name, stream, whole) in EXPECTED {
        for transport in TRANSPORTS {
            let expected = if transport == Transport::Stream || *whole == "=" { *stream } else { *whole };
            let seen = brief(&ask(&by(gateway.model(*name), transport), hello()).await);
            let calls = upstream.take_requests().len();
            let by = format!("{transport:?}");
            println!("{name:29} {by:6} {calls:5} {expected:36} {seen}");
            if seen != expected || calls > 1 {
                wrong.push(format!("{name} {transport:?}: {calls} calls, expected {expected}, seen {seen}"));
            }
        }
    }
    println!("{} modes, streaming and not", EXPECTED.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_proxy_gives_up_before_the_run_does() {
    let (_upstream, _turn) = upstream().await;
    for transport in TRANSPORTS {
        let began = Instant::now();
        let model = by(gateway().model("fault/silent"), transport);
        let lease = Lease::root(Limits::none().with_time(Duration::from_millis(2_500)));
        let cx = RunContext::standalone_with(caller(), lease, Vec::new());
        let failed = collect_failure(&model, &cx).await;
        println!("{transport:?}: {failed} after {:?}", began.elapsed());
        assert_eq!(
            failed.to_string(),
            "the model gave no answer: the server or its upstream took too long to begin (status 408)"
        );
        assert!(began.elapsed() < Duration::from_millis(2_500));
    }
}

#[tokio::test]
async fn one_attempt_is_one_request_unless_the_gateway_owns_retries() {
    let (upstream, _turn) = upstream().await;
    for (owner, expected) in [(RetryOwner::Caller, 1), (RetryOwner::Gateway, 3)] {
        for transport in TRANSPORTS {
            let gateway = Gateway::new(config().with_retries(owner)).unwrap();
            let failed = ask(&by(gateway.model("fault/server-error"), transport), hello()).await.unwrap_err();
            assert_eq!(failed.code().as_str(), "model.unavailable");
            assert_eq!(upstream.take_requests().len(), expected, "{owner:?} {transport:?}");
        }
    }
    // The proxy's own fallback, too, is the gateway's business only where the host says so.
    let gateway = Gateway::new(config().with_retries(RetryOwner::Gateway)).unwrap();
    let answered = ask(&gateway.model("mock-rate-limited"), hello()).await.unwrap();
    assert_eq!((answered.0.joined_text().as_str(), answered.1.model.as_deref()), ("All is well.", Some("priced")));
}

#[tokio::test]
async fn identities_go_to_the_proxy_and_no_further() {
    let (upstream, _turn) = upstream().await;
    let cx = RunContext::standalone(somebody("tenant-4711", "user-0815"));
    for transport in TRANSPORTS {
        let model = by(gateway().model("fault/echo"), transport);
        collect(model.stream(hello(), &cx).await.unwrap()).await.unwrap();
    }
    let refused = gateway().model("fault/wrong-key");
    let failed = collect_failure(&refused, &cx).await;
    let source = std::error::Error::source(&failed).unwrap().downcast_ref::<model_litellm::UpstreamError>().unwrap();
    assert_eq!(source.call_id.as_deref().map(str::len), Some(36), "LiteLLM echoes the id that it was given");
    let key = setting("ADJUTANT_LITELLM_KEY");
    for request in upstream.requests() {
        let all = format!("{request:?} {}", request.json());
        assert_eq!(request.header("authorization"), Some("Bearer upstream-key"));
        for secret in ["tenant-4711", "user-0815", &key, &cx.task_id().to_string()] {
            assert!(!all.contains(secret), "{secret} went to the provider: {all}");
        }
    }
}

async fn collect_failure(model: &GatewayModel, cx: &RunContext) -> agent_core::ModelError {
    model.stream(hello(), cx).await.err().unwrap()
}

#[tokio::test]
async fn a_wrong_key_is_one() {
    for config in [config().with_api_key("sk-wrong"), GatewayConfig::litellm(setting("ADJUTANT_LITELLM_URL"))] {
        for transport in TRANSPORTS {
            let model = by(Gateway::new(config.clone()).unwrap().model("priced"), transport);
            assert_eq!(ask(&model, hello()).await.unwrap_err().code().as_str(), "model.auth");
        }
    }
}

#[tokio::test]
async fn costs_and_models_are_told() {
    let models = gateway().models().await.unwrap();
    let info = |name: &str| models.iter().find(|info| &*info.name == name).unwrap().clone();
    let priced = info("priced");
    println!("{priced:?}");
    assert_eq!((priced.context_window, priced.max_output), (Some(Tokens(128_000)), Some(Tokens(16_384))));
    let price = priced.price.unwrap();
    assert_eq!(
        (price.input, price.output, price.cached_input),
        (MicroUsd(150_000), MicroUsd(600_000), MicroUsd(75_000))
    );
    assert_eq!((priced.capabilities.functions, priced.capabilities.images), (Some(true), Some(true)));
    let unknown = info("smollm2");
    assert_eq!((unknown.context_window, unknown.price, unknown.capabilities), (None, None, Capabilities::default()));
    for transport in TRANSPORTS {
        let lease = Lease::root(Limits::none());
        let cx = RunContext::standalone_with(caller(), lease.clone(), Vec::new());
        complete(&by(gateway().model("priced"), transport), hello(), &cx).await.unwrap();
        println!("{transport:?}: {:?}", lease.spent());
        assert!(lease.spent().micro_usd > MicroUsd::ZERO && lease.spent().unpriced_calls == 0);
        let lease = Lease::root(Limits::none());
        let cx = RunContext::standalone_with(caller(), lease.clone(), Vec::new());
        complete(&by(gateway().model("smollm2"), transport), short("Say hello."), &cx).await.unwrap();
        assert_eq!((lease.spent().micro_usd, lease.spent().unpriced_calls), (MicroUsd::ZERO, 1), "unknown is not zero");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suites_pass_through_the_proxy() {
    let (_upstream, _turn) = upstream().await;
    for transport in TRANSPORTS {
        conformance::chat_model(by(gateway().model("fault/echo"), transport)).await;
    }
    conformance::embedder(gateway().embedder("embedding")).await;
}

fn short(text: &str) -> ChatRequest {
    ChatRequest::new(Conversation::new().say(text)).with_max_output(Tokens(24)).with_options(steady())
}

/// The same answer every time.
fn steady() -> ModelOptions {
    let mut options = ModelOptions::default();
    (options.temperature, options.seed) = (Some(0.0), Some(7));
    options
}

#[tokio::test]
async fn a_real_model_streams() {
    let model = gateway().model("smollm2");
    let cx = RunContext::standalone(caller());
    let mut stream = model.stream(short("Name three colours."), &cx).await.unwrap();
    let mut chunks = 0;
    while let Some(chunk) = stream.next().await {
        chunk.unwrap();
        chunks += 1;
    }
    assert!(chunks > 5, "it came in {chunks} pieces");
    let (streamed, finish) = ask(&model, short("Name three colours.")).await.unwrap();
    let (whole, _) = ask(&by(model, Transport::Whole), short("Name three colours.")).await.unwrap();
    println!("in {chunks} pieces: {:?}, {:?}, {finish:?}", streamed.joined_text(), streamed.usage);
    assert_eq!(streamed.joined_text(), whole.joined_text());
    assert_eq!(streamed.usage.unwrap().output, whole.usage.unwrap().output);
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Place {
    /// The name of a city.
    #[schemars(length(min = 1, max = 24))]
    city: String,
    continent: Continent,
    #[schemars(range(min = 0, max = 99))]
    millions: u8,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
enum Continent {
    Africa,
    America,
    Asia,
    Europe,
    Oceania,
}

const COUNTRIES: [&str; 20] = [
    "France", "Spain", "Italy", "Norway", "Poland", "Greece", "Egypt", "Kenya", "Ghana", "Morocco", "Brazil", "Peru",
    "Chile", "Canada", "Cuba", "Japan", "India", "China", "Nepal", "Fiji",
];

#[tokio::test]
async fn a_real_model_gives_typed_answers() {
    let model = gateway().model("smollm2");
    let desk = MainAgent::builder("desk", model).answer::<Place>().max_output(Tokens(160)).model_options(steady());
    let desk = desk.build().unwrap();
    let (mut typed, mut events) = (0, 0);
    for country in COUNTRIES {
        let mut handle = desk.start(format!("What is the capital of {country}?"), caller());
        let mut deltas = handle.events().unwrap();
        while deltas.next().await.is_some() {
            events += 1;
        }
        match handle.join().await {
            Ok(RunOutcome::Completed(report)) => {
                let place: Place = serde_json::from_value(report.output.clone()).unwrap();
                println!("{country}: {place:?}");
                typed += 1;
            }
            other => println!("{country}: {other:?}"),
        }
    }
    println!("{typed} of {} typed answers, {events} events", COUNTRIES.len());
    assert_eq!(typed, COUNTRIES.len());
}

/// A model of 135 million parameters calls little. How much is printed, and bounded by nothing.
#[tokio::test]
async fn a_real_model_may_call() {
    let model = gateway().model("smollm2");
    let (mut called, mut asked) = (0, 0);
    for number in 0..10 {
        let text = format!("Where is order A-10{number}?");
        let request = short(&text).with_functions([lookup()]).with_max_output(Tokens(48));
        asked += 1;
        called += usize::from(ask(&model, request).await.is_ok_and(|(reply, _)| reply.each_call().next().is_some()));
    }
    println!("SmolLM2 called a function in {called} of {asked} requests that asked for one");
}

#[tokio::test]
async fn a_dropped_stream_is_dropped_upstream() {
    let (upstream, _turn) = upstream().await;
    let mut stream = gateway().model("fault/stalls").stream(hello(), &RunContext::standalone(caller())).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let before = upstream.open_connections();
    drop(stream);
    let began = Instant::now();
    while upstream.open_connections() >= before && began.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("LiteLLM closed its upstream {:?} after the client had closed", began.elapsed());
    assert!(upstream.open_connections() < before);
}
