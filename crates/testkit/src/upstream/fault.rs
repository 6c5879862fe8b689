//! Faults by name: what servers and the networks before them really do.

use std::time::Duration;

use serde_json::{Value, json};

use super::answer::Answer;
use super::completion::{Completion, chunk};
use super::request::UpstreamRequest;
use crate::HashEmbedder;

/// A way in which a server answers that a client has to understand. A [`FaultUpstream`](super::FaultUpstream) has it under its name
/// as a model.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Fault {
    /// Its name, which is a model's name too.
    pub name: &'static str,
    answer: fn(&UpstreamRequest) -> Answer,
}

impl Fault {
    /// What it does with `request`.
    #[must_use]
    pub fn answer(&self, request: &UpstreamRequest) -> Answer {
        (self.answer)(request)
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Fault").field(&self.name).finish()
    }
}

/// The answer to a request that nothing else was said about.
pub(super) fn by_model(request: &UpstreamRequest) -> Answer {
    let path = request.path.split('?').next().unwrap_or_default();
    match path.trim_end_matches('/').rsplit('/').next().unwrap_or_default() {
        "completions" => match FAULTS.iter().find(|fault| fault.name == request.model()) {
            Some(fault) => fault.answer(request),
            None => Completion::text(&format!("You said: {}", request.last_text())).answer(request),
        },
        "embeddings" => embeddings(request),
        "models" => Answer::json(200, &json!({"object": "list", "data": [{"id": "echo", "object": "model"}]})),
        _ => Answer::json(404, &json!({"detail": "Not Found"})),
    }
}

fn embeddings(request: &UpstreamRequest) -> Answer {
    let body = request.json();
    let embedder = HashEmbedder::new(64);
    let texts = body["input"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let data: Vec<Value> = texts
        .enumerate()
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": embedder.vector(text)}))
        .collect();
    let tokens = data.len() * 4;
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Answer::json(200, &json!({"object": "list", "model": body["model"], "data": data, "usage": usage}))
}

/// All faults.
#[must_use]
pub fn faults() -> &'static [Fault] {
    FAULTS
}

const fn fault(name: &'static str, answer: fn(&UpstreamRequest) -> Answer) -> Fault {
    Fault { name, answer }
}

static FAULTS: &[Fault] = &[
    // Refusals with a status.
    fault("rate-limited", |_| {
        Answer::error(429, "requests", "rate_limit_exceeded", "Rate limit reached for requests")
            .with_header("retry-after", "7")
    }),
    fault("rate-limited-until", |_| {
        Answer::error(429, "requests", "rate_limit_exceeded", "Too many")
            .with_header("retry-after", "Fri, 01 Jan 2100 00:00:00 GMT")
    }),
    fault("quota", |_| {
        let message = "You exceeded your current quota, please check your plan and billing details.";
        Answer::error(429, "insufficient_quota", "insufficient_quota", message)
    }),
    fault("payment-required", |_| Answer::error(402, "insufficient_credits", "", "Insufficient credits")),
    fault("wrong-key", |_| {
        Answer::error(401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided: sk-up***am.")
    }),
    fault("forbidden", |_| Answer::error(403, "permission_error", "", "Your key may not use this model")),
    fault("no-model", |_| {
        Answer::error(404, "invalid_request_error", "model_not_found", "The model `gpt-9` does not exist")
    }),
    fault("no-page", |_| Answer::status(404).with_header("content-type", "text/html").then("<h1>Not Found</h1>")),
    fault("bad-request", |_| {
        Answer::error(400, "invalid_request_error", "", "'messages' must contain at least one message")
    }),
    fault("unprocessable", |_| {
        let detail = json!([{"loc": ["body", "temperature"], "msg": "Input should be a valid number"}]);
        Answer::json(422, &json!({ "detail": detail }))
    }),
    fault("context-length", |_| {
        let message =
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.";
        Answer::error(400, "invalid_request_error", "context_length_exceeded", message)
    }),
    fault("context-length-in-words", |_| {
        let message = "This model's maximum context length is 2048 tokens. However, you requested 4096 tokens.";
        Answer::json(400, &json!({"object": "error", "message": message, "type": "BadRequestError", "code": 400}))
    }),
    fault("context-length-llama", |_| {
        let message = "the request exceeds the available context size, try increasing it";
        Answer::json(400, &json!({"error": {"code": 400, "message": message, "type": "exceed_context_size_error"}}))
    }),
    fault("content-policy", |_| {
        let message = "Your request was rejected as a result of our safety system.";
        Answer::error(400, "invalid_request_error", "content_policy_violation", message)
    }),
    fault("content-filter-azure", |_| {
        let message =
            "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.";
        let inner = json!({"code": "ResponsibleAIPolicyViolation"});
        let error =
            json!({"message": message, "type": null, "param": "prompt", "code": "content_filter", "status": 400});
        let mut body = json!({ "error": error });
        body["error"]["innererror"] = inner;
        Answer::json(400, &body)
    }),
    fault("request-timeout", |_| Answer::error(408, "timeout", "", "Request timed out")),
    fault("server-error", |_| Answer::error(500, "server_error", "", "The server had an error")),
    fault("server-error-in-words", |_| {
        Answer::status(500).with_header("content-type", "text/plain").then("Internal Server Error")
    }),
    fault("bad-gateway", |_| {
        let page = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>";
        Answer::status(502).with_header("content-type", "text/html").then(page)
    }),
    fault("unavailable", |_| Answer::error(503, "server_error", "", "The engine is currently overloaded")),
    fault("overloaded", |_| {
        Answer::json(529, &json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}))
    }),
    fault("gateway-timeout", |_| Answer::status(504).with_header("content-type", "text/html").then("<h1>504</h1>")),
    // Nothing that could be read as an answer.
    fault("reset", |_| Answer::raw().then_reset()),
    fault("closed", |_| Answer::raw().then_close()),
    fault("no-http", |_| Answer::raw().then("+PONG\r\n+PONG\r\n")),
    fault("silent", |_| Answer::raw().then_hang()),
    fault("empty-body", |request| match request.wants_stream() {
        true => Answer::stream(),
        false => Answer::status(200).with_header("content-type", "application/json"),
    }),
    fault("web-page", |_| {
        Answer::status(200).with_header("content-type", "text/html").then("<!doctype html><title>Portal</title>")
    }),
    fault("bad-json", |request| match request.wants_stream() {
        true => words(request, "All is").then("data: {\"choices\": [{\"delta\"\n\n").then_done(),
        false => Answer::status(200).with_header("content-type", "application/json").then("{\"choices\": ["),
    }),
    fault("other-document", |request| match request.wants_stream() {
        true => Answer::stream().then_event(&json!({"hello": "world"})).then_done(),
        false => Answer::json(200, &json!({"hello": "world"})),
    }),
    fault("error-with-200", |request| {
        let error = json!({"error": {"message": "The engine is overloaded", "type": "overloaded_error", "code": 503}});
        match request.wants_stream() {
            true => Answer::stream().then_event(&error),
            false => Answer::json(200, &error),
        }
    }),
    fault("error-as-text", |request| {
        let error = json!({"error": "model runner has unexpectedly stopped"});
        match request.wants_stream() {
            true => Answer::stream().then_event(&error),
            false => Answer::json(200, &error),
        }
    }),
    // Answers with nothing in them.
    fault("no-choices", |request| {
        let usage = json!({"prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12});
        let document = json!({"id": "1", "model": "m", "created": 1, "choices": [], "usage": usage});
        match request.wants_stream() {
            true => Answer::stream().then_event(&document).then_done(),
            false => Answer::json(200, &document),
        }
    }),
    fault("filtered", |request| Completion::text("").with_finish("content_filter").answer(request)),
    fault("blank", |request| Completion::text("").answer(request)),
    // Answers that are cut.
    fault("closed-in-body", |request| match request.wants_stream() {
        true => words(request, "All is").then_close(),
        false => Answer::json(200, &Completion::text("All is well.").whole("m")).with_wrong_length(10_000),
    }),
    fault("reset-in-body", |request| match request.wants_stream() {
        true => words(request, "All is").then_wait(Duration::from_millis(50)).then_reset(),
        false => {
            Answer::json(200, &json!({})).with_wrong_length(10_000).then_wait(Duration::from_millis(50)).then_reset()
        }
    }),
    fault("ends-without-finish", |request| match request.wants_stream() {
        true => words(request, "All is"),
        false => Completion::text("All is well.").answer(request).map_bytes(|bytes| bytes[..bytes.len() / 2].to_vec()),
    }),
    fault("half-a-character", |request| match request.wants_stream() {
        true => {
            words(request, "All is").then(&b"data: {\"choices\":[{\"delta\":{\"content\":\"\xF0\x9F"[..]).then_close()
        }
        false => {
            Answer::json(200, &json!({})).map_bytes(|_| b"{\"choices\":[{\"message\":{\"content\":\"\xF0\x9F".to_vec())
        }
    }),
    fault("stalls", |request| match request.wants_stream() {
        true => words(request, "All is").then_hang(),
        false => Answer::json(200, &json!({})).with_wrong_length(10_000).then_hang(),
    }),
    fault("error-in-stream", |request| {
        let error = json!({"error": {"message": "The server had an error", "type": "server_error", "code": "500"}});
        match request.wants_stream() {
            true => words(request, "All is").then_event(&error),
            false => Answer::json(500, &error),
        }
    }),
    fault("rate-limited-in-stream", |request| {
        let error =
            json!({"error": {"message": "Rate limit reached", "type": "tokens", "code": "rate_limit_exceeded"}});
        match request.wants_stream() {
            true => words(request, "All is").then_event(&error).then_done(),
            false => Answer::json(429, &error),
        }
    }),
    fault("call-cut", |request| match request.wants_stream() {
        true => {
            let function = json!({"name": "lookup", "arguments": "{\"order\":"});
            let delta = json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]});
            Answer::stream().then_event(&chunk(&request.model(), delta, Value::Null)).then_close()
        }
        false => Answer::json(200, &json!({})).with_wrong_length(10_000),
    }),
    // Odd, and still answers.
    fault("redirect", |_| Answer::status(307).with_header("location", "http://elsewhere.invalid/v1/chat/completions")),
    fault("slow", |request| sound(request).in_packets_of(97, Duration::from_millis(5))),
    fault("one-packet", |request| sound(request).in_one_packet()),
    fault("carriage-returns", |request| {
        sound(request).map_bytes(|bytes| String::from_utf8_lossy(&bytes).replace('\n', "\r\n").into_bytes())
    }),
    fault("comments", |request| match request.wants_stream() {
        true => {
            let events = Completion::text("All is well.").events(&request.model());
            let comment = |answer: Answer, event: &Value| {
                answer.then(": ping\n\n").then(format!("id: 7\nevent: message\nretry: 10\ndata: {event}\n\n"))
            };
            events.iter().fold(Answer::stream().then("\u{feff}: hello\n\n"), comment).then_done()
        }
        false => sound(request),
    }),
    fault("no-done", |request| match request.wants_stream() {
        true => {
            Completion::text("All is well.").events(&request.model()).iter().fold(Answer::stream(), Answer::then_event)
        }
        false => sound(request),
    }),
    fault("no-done-and-open", |request| match request.wants_stream() {
        true => {
            let events = Completion::text("All is well.").events(&request.model());
            events.iter().fold(Answer::stream(), Answer::then_event).then_hang()
        }
        false => sound(request),
    }),
    fault("role-again", |request| match request.wants_stream() {
        true => {
            let again = chunk("another", json!({"role": "assistant", "content": ""}), Value::Null);
            let first = Answer::stream().then_event(&again).then_event(&again);
            first.then_all_of(Completion::text("All is well.").answer(request))
        }
        false => sound(request),
    }),
    fault("odd-finish", |request| Completion::text("All is well.").with_finish("eos_token").answer(request)),
    fault("usage-in-choice", |request| {
        let usage = json!({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17});
        match request.wants_stream() {
            true => {
                let mut events = Completion::text("All is well.").with_usage(None).events(&request.model());
                if let Some(last) = events.last_mut() {
                    last["choices"][0]["usage"] = usage;
                }
                events.iter().fold(Answer::stream(), Answer::then_event).then_done()
            }
            false => sound(request),
        }
    }),
    fault("usage-of-nulls", |request| {
        let usage = json!({"prompt_tokens": 12, "completion_tokens": null, "prompt_tokens_details": null});
        Completion::text("All is well.").with_usage(Some(usage)).answer(request)
    }),
    fault("no-usage", |request| Completion::text("All is well.").with_usage(None).answer(request)),
    fault("reasoning", |request| {
        Completion::text("All is well.").with_reasoning("They ask how it is.").answer(request)
    }),
    fault("refusal", |request| Completion::text("").with_refusal("I cannot help with that.").answer(request)),
    fault("calls", |request| {
        let answer = Completion::text("").with_call("call_1", "lookup", r#"{"order": "A-1042"}"#);
        answer.with_call("call_2", "lookup", r#"{"order": "B-7"}"#).answer(request)
    }),
    fault("calls-without-ids", |request| {
        let answer = Completion::text("").with_call("", "lookup", r#"{"order": "A-1042"}"#);
        answer.with_call("", "lookup", r#"{"order": "B-7"}"#).answer(request)
    }),
    fault("call-malformed", |request| {
        Completion::text("").with_call("call_1", "lookup", r#"{"order": "A-10"#).answer(request)
    }),
    fault("calls-with-gaps", |request| match request.wants_stream() {
        true => {
            let call = |index: u32, order: &str| {
                let function = json!({"name": "lookup", "arguments": json!({"order": order}).to_string()});
                let call =
                    json!({"index": index, "id": format!("call_{index}"), "type": "function", "function": function});
                chunk(&request.model(), json!({"tool_calls": [call]}), Value::Null)
            };
            let calls = Answer::stream().then_event(&call(1, "A-1042")).then_event(&call(5, "B-7"));
            calls.then_event(&chunk(&request.model(), json!({}), "tool_calls".into())).then_done()
        }
        false => {
            Completion::text("").with_call("call_1", "lookup", "{}").with_call("call_5", "lookup", "{}").answer(request)
        }
    }),
];

fn sound(request: &UpstreamRequest) -> Answer {
    Completion::text("All is well.").answer(request)
}

/// The beginning of a stream: these words and no end.
fn words(request: &UpstreamRequest, text: &str) -> Answer {
    let mut events = Completion::text(text).with_usage(None).events(&request.model());
    events.pop();
    events.iter().fold(Answer::stream(), Answer::then_event)
}
