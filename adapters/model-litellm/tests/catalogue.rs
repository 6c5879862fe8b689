//! What servers say about their models.
#![allow(clippy::unwrap_used)]

mod support;

use agent_core::{Capabilities, ChatModel, MicroUsd, ModelInfo, Price, Tokens};
use model_litellm::{Gateway, GatewayConfig};
use serde_json::{Value, json};
use testkit::{Answer, FaultUpstream};

/// What `config` finds at a server that answers these paths.
async fn found(config: impl Fn(String) -> GatewayConfig, answers: Vec<(&'static str, Answer)>) -> Vec<ModelInfo> {
    let upstream = FaultUpstream::start().await;
    let config = config(upstream.base_url());
    upstream.answering(move |request| {
        assert_eq!(request.method, "GET");
        let answer = answers.iter().find(|(path, _)| *path == request.path);
        answer.map_or(Answer::json(404, &json!({"detail": "Not Found"})), |(_, answer)| answer.clone())
    });
    Gateway::new(config).unwrap().models().await.unwrap()
}

fn litellm(base_url: String) -> GatewayConfig {
    GatewayConfig::litellm(base_url)
}

fn listed(entries: Value) -> Answer {
    Answer::json(200, &json!({"object": "list", "data": entries}))
}

fn capabilities(all: [Option<bool>; 5]) -> Capabilities {
    let mut capabilities = Capabilities::default();
    let fields = [
        &mut capabilities.functions,
        &mut capabilities.parallel_calls,
        &mut capabilities.answer_schema,
        &mut capabilities.images,
        &mut capabilities.reasoning,
    ];
    fields.into_iter().zip(all).for_each(|(field, value)| *field = value);
    capabilities
}

fn model(provider: &str, name: &str, window: u64) -> ModelInfo {
    ModelInfo::new(provider, name).with_context_window(Tokens(window))
}

#[tokio::test]
async fn litellm_tells_all() {
    let known = json!({
        "max_tokens": 16384, "max_input_tokens": 128_000, "max_output_tokens": 16_384, "mode": "chat",
        "input_cost_per_token": 1.5e-7, "output_cost_per_token": 6e-7, "cache_read_input_token_cost": 7.5e-8,
        "supports_function_calling": true, "supports_parallel_function_calling": true, "supports_vision": true,
        "supports_response_schema": true, "supports_reasoning": false,
    });
    let unknown = json!({
        "max_tokens": null, "max_input_tokens": null, "input_cost_per_token": null, "output_cost_per_token": null, "mode": null,
        "supports_function_calling": false, "supports_vision": false,
    });
    let mut smaller = known.clone();
    (smaller["max_input_tokens"], smaller["supports_vision"]) = (json!(32_000.0), json!(false));
    (smaller["output_cost_per_token"], smaller["max_output_tokens"]) = (json!(1e-6), json!(null));
    let answer = listed(json!([
        {"model_name": "mini", "litellm_params": {"model": "openai/gpt-4o-mini"}, "model_info": known},
        {"model_name": "local", "litellm_params": {"model": "openai/x"}, "model_info": unknown},
        {"model_name": "both", "model_info": known}, {"model_name": "both", "model_info": smaller},
        {"model_name": "half", "model_info": unknown}, {"model_name": "half", "model_info": known},
        {"odd": 1}, 7,
    ]));
    let yes = Some(true);
    let price =
        |output: u64| Price::per_million(MicroUsd(150_000), MicroUsd(output)).with_cached_input(MicroUsd(75_000));
    let expected = [
        model("litellm", "both", 32_000).with_price(price(1_000_000)).with_capabilities(capabilities([
            yes,
            yes,
            yes,
            Some(false),
            Some(false),
        ])),
        ModelInfo::new("litellm", "half"),
        ModelInfo::new("litellm", "local"),
        model("litellm", "mini", 128_000)
            .with_max_output(Tokens(16_384))
            .with_price(price(600_000))
            .with_capabilities(capabilities([yes, yes, yes, yes, Some(false)])),
    ];
    assert_eq!(found(litellm, vec![("/v1/model/info", answer)]).await, expected);
}

#[tokio::test]
async fn a_key_for_calls_alone_sees_the_plain_list() {
    let entries = json!([{"id": "mini", "object": "model", "max_input_tokens": 128_000, "max_output_tokens": 16_384}]);
    for refusal in [Answer::status(404), Answer::error(403, "auth_error", "", "admins only"), Answer::status(401)] {
        let seen = found(litellm, vec![("/v1/model/info", refusal), ("/v1/models", listed(entries.clone()))]).await;
        assert_eq!(seen, [model("litellm", "mini", 128_000).with_max_output(Tokens(16_384))]);
    }
}

#[tokio::test]
async fn every_other_server_tells_what_it_knows() {
    let entries = json!([
        {"id": "vllm", "max_model_len": 8_192, "owned_by": "vllm"},
        {"id": "llama.cpp", "meta": {"n_ctx": 2_048, "n_ctx_train": 8_192}},
        {"id": "openrouter", "context_length": 200_000, "top_provider": {"max_completion_tokens": 64_000},
         "pricing": {"prompt": "0.000003", "completion": "0.000015", "input_cache_read": "0.0000003"}},
        {"id": "groq", "context_window": 131_072, "max_completion_tokens": 32_768},
        {"id": "mistral", "max_context_length": 32_768},
        {"id": "openai", "object": "model", "owned_by": "openai"},
    ]);
    let config = |base_url| GatewayConfig::compatible(base_url).with_price("openai", Price::FREE);
    let who = "openai_compatible";
    let price = Price::per_million(MicroUsd(3_000_000), MicroUsd(15_000_000)).with_cached_input(MicroUsd(300_000));
    let expected = [
        model(who, "groq", 131_072).with_max_output(Tokens(32_768)),
        model(who, "llama.cpp", 2_048),
        model(who, "mistral", 32_768),
        ModelInfo::new(who, "openai").with_price(Price::FREE),
        model(who, "openrouter", 200_000).with_max_output(Tokens(64_000)).with_price(price),
        model(who, "vllm", 8_192),
    ];
    assert_eq!(found(config, vec![("/v1/models", listed(entries.clone()))]).await, expected);
    assert_eq!(
        found(config, vec![("/v1/models", Answer::json(200, &entries))]).await,
        expected,
        "some send the list bare"
    );
}

#[tokio::test]
async fn half_a_price_is_none_and_the_hosts_goes_first() {
    let cost = |input: f64, output: f64| json!({"input_cost_per_token": input, "output_cost_per_token": output});
    let answer = listed(json!([
        {"model_name": "half", "model_info": cost(0.0, 1e-6)},
        {"model_name": "free", "model_info": cost(0.0, 0.0)},
        {"model_name": "own", "model_info": cost(0.0, 0.0)},
        {"model_name": "fee", "model_info": {"pricing": {"prompt": "0.000001", "completion": "0.000002", "request": "0.01"}}},
    ]));
    let own = Price::per_million(MicroUsd(5), MicroUsd(7));
    let seen = found(|base_url| litellm(base_url).with_price("own", own), vec![("/v1/model/info", answer)]).await;
    let prices: Vec<_> = seen.iter().map(|info| (&*info.name, info.price)).collect();
    assert_eq!(prices, [("fee", None), ("free", Some(Price::FREE)), ("half", None), ("own", Some(own))]);
}

#[tokio::test]
async fn a_model_is_found_by_its_name() {
    let upstream = FaultUpstream::start().await;
    upstream.answering(|_| listed(json!([{"id": "vllm", "max_model_len": 8_192}])));
    let gateway = Gateway::new(GatewayConfig::compatible(upstream.base_url())).unwrap();
    let found = gateway.find_model("vllm").await.unwrap();
    assert_eq!(found.info(), &model("openai_compatible", "vllm", 8_192));
    let missing = gateway.find_model("gpt-9").await.unwrap_err();
    assert_eq!(missing.to_string(), "the model gave no answer: the server lists no model of this name");
    assert_eq!(missing.code().as_str(), "model.not_found");
}

#[tokio::test]
async fn a_server_without_a_list_is_a_typed_failure() {
    let upstream = FaultUpstream::start().await;
    let gateway = support::gateway(&upstream.base_url());
    for (answer, expected) in [
        (Answer::json(200, &json!({"hello": "world"})), "model.malformed"),
        (Answer::status(200).then("<html>"), "model.malformed"),
        (Answer::json(200, &json!({"error": {"code": 401}})), "model.auth"),
        (Answer::status(503), "model.overloaded"),
        (Answer::raw().then_hang(), "model.first_token_timeout"),
        (Answer::status(404), "model.not_found"),
    ] {
        upstream.answering(move |_| answer.clone());
        assert_eq!(gateway.models().await.unwrap_err().code().as_str(), expected);
    }
}
