//! What servers say when they refuse, in their own words: each is what it is, and shows no key.
#![allow(clippy::unwrap_used)]

mod support;

use std::error::Error;

use agent_core::ModelError;
use model_litellm::{ClientCertificate, Gateway, GatewayConfig, Roots, TlsConfig, UpstreamError};
use serde_json::{Value, json};
use testkit::{Answer, FaultUpstream};

use support::{ask, hello, timeouts};

/// The failure that a model has whose server answers so.
async fn failure(upstream: &FaultUpstream, config: GatewayConfig, answer: Answer) -> ModelError {
    upstream.script([answer]);
    ask(&Gateway::new(config.with_timeouts(timeouts())).unwrap().model("m"), hello()).await.unwrap_err()
}

/// What a server said, for its host.
fn said(error: &ModelError) -> &UpstreamError {
    error.source().unwrap().downcast_ref().unwrap()
}

#[tokio::test]
async fn each_refusal_is_what_it_is() {
    let upstream = FaultUpstream::start().await;
    let check = async |status: u16, body: Value, expected: &str| {
        let config = GatewayConfig::compatible(upstream.base_url());
        let error = failure(&upstream, config, Answer::json(status, &body)).await;
        assert_eq!(error.code().as_str(), expected, "{status} {body}");
    };
    let error = |message: &str| json!({"error": {"message": message}});

    // The conversation is too long, in many words.
    for message in [
        "input length and `max_tokens` exceed context limit: 180000 + 30000 > 200000",
        "The number of tokens to keep from the initial prompt is greater than the context length.",
        "Trying to keep the first 4500 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        "Prompt exceeds max length",
        "Invalid request: Your request exceeded model token limit: 8192",
        "too many tokens: total number of tokens in the prompt cannot exceed 4081",
        "Range of input length should be [1, 30720]",
        "This model's context length is only 16384 tokens",
        "The input (20000 tokens) is longer than the model's context length (4096 tokens)",
        "prompt too long; exceeded max context length by 12 tokens",
        "prompt token count of 140000 exceeds the limit of 128000",
        "`inputs` must have less than 4095 tokens. Given: 9000",
    ] {
        check(400, error(message), "model.context_overflow").await;
    }
    let groq = "Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested 12000, please reduce your message size and try again.";
    for status in [413, 429] {
        let body = json!({"error": {"message": groq, "type": "tokens", "code": "rate_limit_exceeded"}});
        check(status, body, "model.context_overflow").await;
    }
    let github = json!({"error": {"code": "tokens_limit_reached", "message": "Request body too large for gpt-4o model. Max size: 8000 tokens."}});
    check(413, github, "model.context_overflow").await;

    // What OpenRouter's providers said, as text or as JSON in a text.
    let through = |raw: &str| json!({"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw, "provider_name": "X"}}});
    check(
        400,
        through(r#"{"error":{"message":"This model's maximum context length is 8 tokens"}}"#),
        "model.context_overflow",
    )
    .await;
    check(400, through("prompt is too long: 9 tokens > 8 maximum"), "model.context_overflow").await;
    check(400, through(r#"{"error":{"code":"content_filter"}}"#), "model.content_policy").await;
    check(400, through(r#"{"error":{"message":"no such parameter"}}"#), "model.bad_request").await;

    // What the conversation says is none of the server's words.
    let echoed = "This was flagged by the content policy: maximum context length";
    let fastapi = json!({"detail": [{"type": "missing", "loc": ["body", "messages", 0, "role"], "msg": "Field required", "input": {"content": echoed}}]});
    check(422, fastapi, "model.bad_request").await;
    check(
        400,
        error(&format!("[{{'type': 'missing', 'msg': 'Field required', 'input': {{'content': '{echoed}'}}}}]")),
        "model.bad_request",
    )
    .await;
    check(
        400,
        error(&format!(
            "1 validation error: Field required [type=missing, input_value={{'content': '{echoed}'}}, input_type=dict]"
        )),
        "model.bad_request",
    )
    .await;
    check(400, json!({"message": "odd", "input": echoed}), "model.bad_request").await;

    // Models that there are none of.
    for message in ["Model Not Exist", "gpt-9 is not a valid model ID"] {
        check(400, error(message), "model.not_found").await;
    }
    check(400, json!({"object": "error", "type": "invalid_model", "message": "Invalid model: x"}), "model.not_found")
        .await;
    check(400, json!({"error": {"code": "model_decommissioned", "message": "gone"}}), "model.not_found").await;

    // Keys.
    let google = json!({"error": {"code": 400, "message": "bad key", "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}});
    check(400, google, "model.auth").await;
    check(400, error("API key expired. Please renew the API key."), "model.auth").await;
    check(407, error("Proxy authentication required"), "model.auth").await;

    // Policies.
    check(400, error("Content Exists Risk"), "model.content_policy").await;
    check(400, error("Violated guardrail policy"), "model.content_policy").await;
    check(400, error("Output blocked by content filtering policy"), "model.content_policy").await;
    check(
        403,
        error("Your chosen model requires moderation and your input was flagged for violence"),
        "model.content_policy",
    )
    .await;
    check(
        400,
        error("Invalid prompt: your prompt was flagged as potentially violating our usage policy."),
        "model.content_policy",
    )
    .await;
    check(403, error("forbidden: maximum context length is for others"), "model.permission").await;

    // Money.
    check(
        429,
        json!({"error": {"code": "1113", "message": "Insufficient balance or no resource package. Please recharge."}}),
        "model.quota_exhausted",
    )
    .await;
    check(
        429,
        json!({"error": {"type": "exceeded_current_quota_error", "message": "Your account is suspended"}}),
        "model.quota_exhausted",
    )
    .await;
    check(
        400,
        error("You have reached your specified API usage limits. You will regain access on 2026-12-01."),
        "model.quota_exhausted",
    )
    .await;
    check(
        412,
        error("Account x is suspended, possibly due to reaching the monthly spending limit; your account is suspended"),
        "model.quota_exhausted",
    )
    .await;
    check(400, json!({"error": {"code": "Arrearage", "message": "Access denied"}}), "model.quota_exhausted").await;
    check(429, error("Your team has used all available credits"), "model.quota_exhausted").await;
    check(429, error("Quota exceeded. Please retry in 12s."), "model.rate_limited").await;

    // Others.
    check(400, json!({"error": {"code": "tool_use_failed", "message": "Failed to call a function. Please adjust your prompt."}}), "model.malformed").await;
    check(400, json!({"error": {"code": "json_validate_failed", "message": "no JSON"}}), "model.malformed").await;
    check(429, json!({"error": "Model is overloaded", "error_type": "overloaded"}), "model.overloaded").await;
    check(424, json!({"error": "Request failed during generation", "error_type": "generation"}), "model.unavailable")
        .await;
    check(501, error("This server does not support tools"), "model.bad_request").await;
    check(429, json!({"error": {"type": "engine_overloaded_error", "message": "try later"}}), "model.overloaded").await;
    check(429, json!({"object": "error", "type": "service_tier_capacity_exceeded", "code": "3505", "message": "Service tier capacity exceeded for this model."}), "model.overloaded").await;

    // Within an answer a code that is no status says nothing of one.
    check(200, json!({"error": {"code": "1302", "message": "Rate limit reached for requests"}}), "model.rate_limited")
        .await;
    check(200, json!({"error": {"code": 3505, "message": "it broke"}}), "model.unavailable").await;
    check(200, json!({"error": {"code": 0, "message": "it broke"}}), "model.unavailable").await;
    check(200, json!({"error": {"code": 200, "message": "it broke"}}), "model.unavailable").await;
    check(200, json!({"error": {"code": 422, "message": "no"}}), "model.bad_request").await;
}

#[tokio::test]
async fn what_a_provider_said_is_told_to_the_host() {
    let upstream = FaultUpstream::start().await;
    let raw = r#"{"error":{"message":"no such parameter: top_q","code":"unknown_parameter"}}"#;
    let body = json!({"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw}}});
    let error = failure(&upstream, GatewayConfig::compatible(upstream.base_url()), Answer::json(400, &body)).await;
    assert_eq!(said(&error).message, "Provider returned error: no such parameter: top_q");
    let body = json!({"detail": [{"loc": ["body", "model"], "msg": "Field required"}, {"loc": ["body", "n"], "msg": "Not a number"}]});
    let error = failure(&upstream, GatewayConfig::compatible(upstream.base_url()), Answer::json(422, &body)).await;
    assert_eq!(said(&error).message, "body.model: Field required; body.n: Not a number");
}

#[tokio::test]
async fn a_secret_that_is_a_common_word_changes_no_class() {
    let upstream = FaultUpstream::start().await;
    let config = GatewayConfig::compatible(upstream.base_url()).with_header("x-plan", "context");
    let body = json!({"error": {"message": "maximum context length is 8"}});
    let error = failure(&upstream, config, Answer::json(400, &body)).await;
    assert_eq!(
        (error.code().as_str(), said(&error).message.as_str()),
        ("model.context_overflow", "maximum [secret] length is 8")
    );
}

/// All that an error says, to whomever.
fn everything(error: &ModelError) -> String {
    let chain = std::iter::successors(Some(error as &(dyn Error + 'static)), |&error| error.source());
    chain.map(|error| format!("{error} {error:?}\n")).collect()
}

#[tokio::test]
async fn a_key_that_is_cut_shows_no_part_of_it() {
    const KEY: &str = "sk-AAAABBBBCCCCDDDD/=4711";
    let upstream = FaultUpstream::start().await;
    let config = || GatewayConfig::compatible(upstream.base_url()).with_api_key(KEY);
    let hides = |error: &ModelError| {
        let shown = everything(error);
        assert!(!shown.contains("sk-A") && !shown.contains("BBBB") && !shown.contains("DDDD"), "{shown}");
    };
    // A body that is no answer is looked at for its first bytes only: wherever these end in the key.
    for before in 990..1_030 {
        let body = format!("{} {KEY} is unknown", "x".repeat(before));
        hides(&failure(&upstream, config(), Answer::status(200).then(body)).await);
    }
    // A refusal that breaks off in it, in every place, and one that is too long to be read.
    for length in 0..=KEY.len() {
        let body = format!(r#"{{"error": {{"message": "unknown key {}"#, &KEY[..length]);
        let broken = Answer::status(401).with_wrong_length(10_000).then(body).then_close();
        hides(&failure(&upstream, config(), broken).await);
    }
    for before in (64 << 10) - 30..(64 << 10) + 1 {
        let body = format!("{}{KEY}", " ".repeat(before));
        hides(&failure(&upstream, config(), Answer::status(500).then(body)).await);
    }
    // JSON that breaks off has its own way to write a key.
    for escaped in [KEY.replace('/', "\\/"), KEY.replace('/', "\\u002f"), KEY.replace('=', "\\u003D")] {
        for end in ["", "\", \"code\": 4", "\"}}"] {
            let body = format!(r#"{{"error": {{"message": "unknown key {escaped}{end}"#);
            hides(&failure(&upstream, config(), Answer::status(401).then(body)).await);
        }
    }
}

#[tokio::test]
async fn parts_of_keys_are_hidden_where_servers_mask_or_cut_them() {
    const KEY: &str = "sk-proj-Ab3dEf6hIj9kLm2nOpQrRs8t";
    let upstream = FaultUpstream::start().await;
    let check = async |config: GatewayConfig, words: &str, expected: &str| {
        let body = json!({"errors": [{"message": words}]});
        for answer in [Answer::status(401).then(words), Answer::json(401, &json!({"error": {"message": words}}))] {
            assert_eq!(said(&failure(&upstream, config.clone(), answer).await).message, expected);
        }
        let nested = failure(&upstream, config, Answer::json(401, &body)).await;
        assert!(said(&nested).message.contains("[secret]"), "{}", said(&nested).message);
    };
    let by_key = || GatewayConfig::compatible(upstream.base_url()).with_api_key(KEY);
    check(by_key(), "wrong key: sk-proj-Ab3d****Rs8t, sorry", "wrong key: [secret]****[secret], sorry").await;
    check(by_key(), "key sk-p...Rs8t", "key [secret]...[secret]").await;
    check(by_key(), "Bearer sk-proj-Ab3dEf6hIj9k (cut) is it", "Bearer [secret] (cut) is it").await;
    let by_header = |value: &str| GatewayConfig::compatible(upstream.base_url()).with_header("x-auth", value);
    check(by_header("Token token=\"hunter2hunter2\""), "no Token token=\"hunter2hunter2\"", "no [secret]").await;
    check(by_header("session=4711471147; other=Y"), "session 4711471147 is over", "session [secret] is over").await;
    check(by_header("ABSKQmVk/cm9jaw=="), "no key ABSKQmVk/cm9jaw==!", "no key [secret]!").await;
    check(by_header("ABSKQmVk/cm9jaw=="), r"{no key ABSKQmVk\/cm9jaw==!", "{no key [secret]!").await;
}

#[tokio::test]
async fn what_surrounds_a_key_hides_it_from_nobody() {
    let upstream = FaultUpstream::start().await;
    let to = || GatewayConfig::compatible(upstream.base_url());
    for config in [
        to().with_api_key(" sk-secret-4711 "),
        to().with_header("authorization", "Bearer  sk-secret-4711 "),
        to().with_header("x-key", "sk-secret-4711\t"),
        to().with_proxy(format!("http://user:sk-secret%2D4711@{}", upstream.address())),
        to().with_proxy(format!("http://sk%2Dsecret-4711@{}", upstream.address())),
    ] {
        let body = json!({"error": {"message": "the key sk-secret-4711, user, is unknown"}});
        let error = failure(&upstream, config, Answer::json(401, &body)).await;
        assert_eq!(said(&error).message, "the key [secret], user, is unknown");
    }
}

#[test]
fn mistakes_in_the_configuration_show_no_key() {
    let shown = |config: GatewayConfig| format!("{config:?} {:?}", Gateway::new(config.clone()).unwrap_err());
    let (certificate, key) = ("-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----");
    let to = || GatewayConfig::litellm("https://localhost/v1");
    for lines in [" ", "\\n"] {
        let both = [certificate, "Zm9v", "-----END CERTIFICATE-----", key, "c2VjcmV0", "-----END PRIVATE KEY-----"]
            .join(lines);
        let tls = TlsConfig::default().with_client_certificate(&*both, "x");
        let roots = TlsConfig::default().with_roots(Roots::Only(both));
        for tls in [tls, roots] {
            let shown = shown(to().with_tls(tls));
            assert!(!shown.contains("c2Vj") && !shown.contains("45, 45") && !shown.contains("67, 69"), "{shown}");
        }
    }
    let shown = shown(to().with_header("Authorization: Bearer secret", ""));
    assert!(!shown.contains("secret"), "{shown}");
    for wrong in [
        json!({"base_url": "http://x", "headers": "Authorization: Bearer secret"}),
        json!({"base_url": "http://x", "tls": {"client_certificate": "secret"}}),
    ] {
        let refused = serde_json::from_value::<GatewayConfig>(wrong).unwrap_err().to_string();
        assert!(!refused.contains("secret"), "{refused}");
    }
    let right = json!({"base_url": "http://x", "headers": {"a": "b"}, "tls": {"client_certificate": {"certificates": "a", "key": "b"}}});
    let loaded: GatewayConfig = serde_json::from_value(right).unwrap();
    assert!(loaded.tls.client_certificate.is_some() && loaded.headers.len() == 1);
}

#[test]
fn no_certificate_is_shown() {
    let combined = "-----BEGIN CERTIFICATE-----\nx\n-----BEGIN PRIVATE KEY-----\nsecret\n";
    for roots in [Roots::Only(combined.to_owned()), Roots::SystemAnd(combined.to_owned())] {
        let tls = TlsConfig::default().with_roots(roots).with_client_certificate(combined, "secret");
        let client: &ClientCertificate = tls.client_certificate.as_ref().unwrap();
        let shown = format!("{tls:?} {client:?} {:?}", GatewayConfig::litellm("http://x").with_tls(tls.clone()));
        assert!(!shown.contains("secret") && !shown.contains("BEGIN"), "{shown}");
    }
}
