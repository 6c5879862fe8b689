//! What is sent, as documents and headers.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use agent_core::{
    Attachment, Call, CallResult, ChatModel, ChatRequest, Conversation, ErrorCode, FunctionChoice, Lease, Limits,
    ModelOptions, Opaque, Reasoning, ReasoningEffort, Replied, Reply, ReplyPart, RunContext, Schema, Tokens,
    UserMessage, UserPart, collect,
};
use model_litellm::{
    AnswerFormat, Gateway, GatewayConfig, GatewayModel, Identification, ModelSettings, OutputField, ReasoningReturn,
    RetryOwner, Transport,
};
use serde_json::{Value, json};
use testkit::{Completion, FaultUpstream, UpstreamRequest, somebody};

use support::{KEY, ask, context, gateway, lookup};

/// The one request that `model` makes of `request`.
async fn sent(upstream: &FaultUpstream, model: &GatewayModel, request: ChatRequest) -> UpstreamRequest {
    ask(model, request).await.unwrap();
    let mut requests = upstream.take_requests();
    assert_eq!(requests.len(), 1, "one call is one request");
    requests.remove(0)
}

fn said(text: &str) -> ChatRequest {
    ChatRequest::new(Conversation::new().say(text))
}

fn settled(conversation: Conversation, reply: Reply, results: &[CallResult]) -> Conversation {
    let Replied::Calls(mut turn) = conversation.reply(reply.into()) else { panic!("there are calls") };
    results.iter().enumerate().for_each(|(slot, result)| turn.settle(slot, result.clone()).unwrap());
    turn.close().unwrap()
}

#[tokio::test]
async fn a_plain_request_to_litellm() {
    let upstream = FaultUpstream::start().await;
    let sent = sent(&upstream, &gateway(&upstream.base_url()).model("smart"), said("Hello.")).await;
    assert_eq!((sent.method.as_str(), sent.path.as_str()), ("POST", "/v1/chat/completions"));
    let mut body = sent.json();
    let metadata = body.as_object_mut().unwrap().remove("metadata").unwrap();
    assert_eq!(
        body,
        json!({
            "model": "smart", "messages": [{"role": "user", "content": "Hello."}],
            "stream": true, "stream_options": {"include_usage": true}, "num_retries": 0, "disable_fallbacks": true,
        })
    );
    assert_eq!((&metadata["tenant_id"], &metadata["user_id"]), (&json!("acme"), &json!("ann")));
    assert_eq!(metadata["tags"], json!(["tenant:acme", "agent:host"]));
    assert!(metadata["task_id"].is_string() && metadata["run_id"].is_string(), "{metadata}");
    assert_eq!(sent.header("authorization"), Some(&*format!("Bearer {KEY}")));
    assert_eq!(sent.header("x-litellm-end-user-id"), Some("acme/ann"));
    assert_eq!(sent.header("accept-encoding"), Some("identity"));
    let call_id = sent.header("x-litellm-call-id").unwrap();
    assert_eq!(call_id.len(), 36, "{call_id}");
    let trace = format!("00-{}-", metadata["trace_id"].as_str().unwrap());
    let parent = sent.header("traceparent").unwrap();
    assert!(parent.starts_with(&trace) && parent.len() == 55, "{parent}");
    let timeout: f64 = sent.header("x-litellm-timeout").unwrap().parse().unwrap();
    assert!(timeout > 2.0 && timeout <= 3.0, "the request's own time: {timeout}");
}

#[tokio::test]
async fn the_time_of_the_run_bounds_that_of_the_gateway() {
    let upstream = FaultUpstream::start().await;
    let lease = Lease::root(Limits::none().with_time(Duration::from_millis(1_500)));
    let cx = RunContext::standalone_with(somebody("acme", "ann"), lease, Vec::new());
    let stream = gateway(&upstream.base_url()).model("smart").stream(said("Hello."), &cx).await.unwrap();
    collect(stream).await.unwrap();
    let timeout: f64 = upstream.requests()[0].header("x-litellm-timeout").unwrap().parse().unwrap();
    assert!(timeout > 0.5 && timeout <= 1.5, "{timeout}");
}

#[tokio::test]
async fn users_of_other_scripts_fit_into_headers() {
    let upstream = FaultUpstream::start().await;
    let cx = RunContext::standalone(somebody("Größe 5%", "安娜"));
    let stream = gateway(&upstream.base_url()).model("smart").stream(said("Hello."), &cx).await.unwrap();
    collect(stream).await.unwrap();
    let sent = &upstream.requests()[0];
    assert_eq!(sent.header("x-litellm-end-user-id"), Some("Gr%C3%B6%C3%9Fe%205%25/%E5%AE%89%E5%A8%9C"));
    assert_eq!(sent.json()["metadata"]["tenant_id"], "Größe 5%");
}

#[tokio::test]
async fn users_of_two_tenants_are_told_apart() {
    let upstream = FaultUpstream::start().await;
    for (tenant, user) in [("a/b", "c"), ("a", "b/c")] {
        let cx = RunContext::standalone(somebody(tenant, user));
        collect(gateway(&upstream.base_url()).model("m").stream(said("Hello."), &cx).await.unwrap()).await.unwrap();
    }
    let [one, other] = upstream.requests().try_into().unwrap();
    let user = |request: &UpstreamRequest| request.header("x-litellm-end-user-id").unwrap().to_owned();
    assert_eq!((user(&one), user(&other)), ("a%2Fb/c".to_owned(), "a/b%2Fc".to_owned()));
}

#[tokio::test]
async fn nobody_else_is_told_who_asks() {
    let upstream = FaultUpstream::start().await;
    let plain = json!({
        "model": "m", "messages": [{"role": "user", "content": "Hello."}],
        "stream": true, "stream_options": {"include_usage": true},
    });
    for config in [GatewayConfig::openai(upstream.base_url()), GatewayConfig::compatible(upstream.base_url())] {
        let sent = sent(&upstream, &Gateway::new(config).unwrap().model("m"), said("Hello.")).await;
        assert_eq!(sent.json(), plain);
        assert!(sent.header("traceparent").is_some());
        assert!(sent.headers.iter().all(|(name, _)| !name.contains("litellm") && name != "authorization"), "{sent:?}");
    }
    let config = GatewayConfig::litellm(upstream.base_url()).with_identification(Identification::Nobody);
    let sent = sent(&upstream, &Gateway::new(config).unwrap().model("m"), said("Hello.")).await;
    assert_eq!((sent.json().get("metadata"), sent.header("x-litellm-end-user-id")), (None, None));
}

#[tokio::test]
async fn a_gateway_may_own_the_retries() {
    let upstream = FaultUpstream::start().await;
    let config = GatewayConfig::litellm(upstream.base_url()).with_retries(RetryOwner::Gateway);
    let sent = sent(&upstream, &Gateway::new(config).unwrap().model("m"), said("Hello.")).await.json();
    assert_eq!((sent.get("num_retries"), sent.get("disable_fallbacks")), (None, None));
}

#[tokio::test]
async fn every_option_has_its_field() {
    let upstream = FaultUpstream::start().await;
    let mut options = ModelOptions::default();
    options.temperature = Some(0.7);
    options.top_p = Some(0.95);
    options.seed = Some(-7);
    options.stop = vec!["END".to_owned()];
    options.reasoning = Some(ReasoningEffort::Low);
    options.parallel_calls = Some(false);
    options.extra = json!({"top_k": 40, "stream_options": null, "num_retries": 2}).as_object().unwrap().clone();
    let request = said("Hello.")
        .with_instructions("Be brief.")
        .with_functions([lookup()])
        .with_choice(FunctionChoice::Named("lookup".into()))
        .with_max_output(Tokens(100))
        .with_options(options);
    let mut body = sent(&upstream, &gateway(&upstream.base_url()).model("m"), request).await.json();
    body.as_object_mut().unwrap().remove("metadata");
    let parameters = json!({"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]});
    let function = json!({"name": "lookup", "description": "Looks an order up", "parameters": parameters});
    assert_eq!(
        body,
        json!({
            "model": "m",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}],
            "stream": true, "tools": [{"type": "function", "function": function}],
            "tool_choice": {"type": "function", "function": {"name": "lookup"}}, "max_tokens": 100,
            "temperature": 0.7, "top_p": 0.95, "seed": -7, "stop": ["END"], "reasoning_effort": "low",
            "parallel_tool_calls": false, "disable_fallbacks": true, "top_k": 40, "num_retries": 2,
        })
    );
}

#[tokio::test]
async fn choices_and_outputs_have_their_words() {
    let upstream = FaultUpstream::start().await;
    let openai = Gateway::new(GatewayConfig::openai(upstream.base_url())).unwrap();
    for (choice, expected) in [
        (FunctionChoice::Auto, None),
        (FunctionChoice::None, Some(json!("none"))),
        (FunctionChoice::Required, Some(json!("required"))),
    ] {
        let request = said("Hello.").with_functions([lookup()]).with_choice(choice.clone()).with_max_output(Tokens(7));
        let body = sent(&upstream, &openai.model("m"), request).await.json();
        assert_eq!((body.get("tool_choice"), &body["max_completion_tokens"]), (expected.as_ref(), &json!(7)));
        let without = sent(&upstream, &openai.model("m"), said("Hello.").with_choice(choice)).await.json();
        assert_eq!((without.get("tool_choice"), without.get("tools")), (None, None));
    }
    let settings = ModelSettings::default().with_output_field(OutputField::MaxTokens).with_transport(Transport::Whole);
    let model = openai.model("m").with_settings(settings);
    let body = sent(&upstream, &model, said("Hello.").with_max_output(Tokens(7))).await.json();
    assert_eq!(body, json!({"model": "m", "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 7}));
}

#[derive(schemars::JsonSchema)]
#[allow(dead_code)]
struct Loose {
    city: String,
}

#[derive(schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Closed {
    city: String,
}

#[tokio::test]
async fn a_typed_answer_is_asked_for_as_the_server_understands_it() {
    let upstream = FaultUpstream::start().await;
    let format = |name: &str, body: &Value| match body["response_format"]["json_schema"]["strict"].as_bool() {
        _ if body["response_format"].is_null() => format!("{name}: words"),
        Some(true) => format!("{name}: strict"),
        _ => format!("{name}: schema"),
    };
    let loose = said("Where?").with_instructions("Be brief.").with_answer(Schema::of::<Loose>());
    let with_functions = loose.clone().with_functions([lookup()]);
    let closed = said("Where?").with_answer(Schema::of::<Closed>());
    let litellm = gateway(&upstream.base_url()).model("m");
    let compatible = Gateway::new(GatewayConfig::compatible(upstream.base_url())).unwrap().model("m");
    let mut seen = Vec::new();
    for (name, model) in [("litellm", &litellm), ("compatible", &compatible)] {
        for request in [&loose, &with_functions, &closed] {
            seen.push(format(name, &sent(&upstream, model, request.clone()).await.json()));
        }
    }
    let expected = ["litellm: schema", "litellm: schema", "litellm: strict"];
    assert_eq!(seen[..3], expected);
    assert_eq!(seen[3..], ["compatible: schema", "compatible: words", "compatible: strict"]);

    let schema = sent(&upstream, &litellm, loose.clone()).await.json()["response_format"].clone();
    let expected = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    assert_eq!(schema, json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": expected}}));

    let settings = ModelSettings::default().with_answer_format(AnswerFormat::Instructions);
    let body = sent(&upstream, &litellm.with_settings(settings), loose).await.json();
    let instructions = body["messages"][0]["content"].as_str().unwrap();
    assert!(instructions.starts_with("Be brief.\n\nWhen you answer") && instructions.ends_with(&expected.to_string()));
}

#[tokio::test]
async fn every_part_of_a_message_has_its_form() {
    let upstream = FaultUpstream::start().await;
    let mut message = UserMessage::text("See these.");
    let attach = |message: &mut UserMessage, attachment| message.parts.push(UserPart::Attachment(attachment));
    attach(&mut message, Attachment::bytes("IMAGE/PNG", *b"png"));
    attach(&mut message, Attachment::uri("image/jpeg", "https://example.com/a.jpg"));
    attach(&mut message, Attachment::uri("video/mp4", "https://example.com/a.mp4"));
    attach(&mut message, Attachment::bytes("audio/mpeg", *b"mp3"));
    attach(&mut message, Attachment::bytes("application/pdf", *b"pdf").with_name("invoice.pdf"));
    attach(&mut message, Attachment::bytes("text/csv", *b"a,b").with_name("table.csv"));
    let request = ChatRequest::new(Conversation::new().say(message));
    let body = sent(&upstream, &gateway(&upstream.base_url()).model("m"), request).await.json();
    assert_eq!(
        body["messages"][0]["content"],
        json!([
            {"type": "text", "text": "See these."},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
            {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
            {"type": "input_audio", "input_audio": {"data": "bXAz", "format": "mp3"}},
            {"type": "file", "file": {"filename": "invoice.pdf", "file_data": "data:application/pdf;base64,cGRm"}},
            {"type": "text", "text": "table.csv:\na,b"},
        ])
    );
    for impossible in [
        Attachment::bytes("audio/ogg", *b"ogg"),
        Attachment::uri("application/pdf", "https://example.com/a.pdf"),
        Attachment::bytes("text/plain", *b"\xff"),
    ] {
        let message = UserMessage::text("See this.").with_attachment(impossible);
        let model = gateway(&upstream.base_url()).model("m");
        assert_eq!(refused(&model, ChatRequest::new(Conversation::new().say(message))).await, "model.bad_request");
    }
    assert_eq!(upstream.take_requests().len(), 0, "what cannot be said is not sent");
}

#[tokio::test]
async fn a_conversation_goes_back_as_messages() {
    let upstream = FaultUpstream::start().await;
    let calls = [
        Call::new("lookup", json!({"order": "A-1"})).with_label("call_1"),
        Call::from_text("lookup", r#"{ "order" : "A-2" }"#).with_label("call_1"),
        Call::from_text("lookup", ""),
        Call::from_text("look up!", r#"{"order": "A-"#),
        Call::from_text("lookup", "[1]"),
    ];
    let results = [
        CallResult::done(json!({"state": "shipped"})),
        CallResult::failed(ErrorCode::new("call.failed"), "there is none"),
        CallResult::done(json!("on its way")),
        CallResult::done(json!(null)),
        CallResult::done(json!([1, 2])),
    ];
    let thoughts = Reasoning::new("Another's thoughts.").with_opaque(Opaque::new(*b"\x00\xff"));
    let parts = [ReplyPart::Reasoning(thoughts), ReplyPart::Text { text: "One moment.".into() }];
    let reply = Reply::of(parts.into_iter().chain(calls.map(ReplyPart::Call)));
    let conversation = settled(Conversation::new().say("Where is A-1?"), reply, &results);
    let refusal = Reply::of([ReplyPart::Refusal { text: "I cannot say.".into() }]);
    let Replied::Final(conversation) = conversation.reply(refusal.into()) else { panic!("there is no call") };
    let quiet = Reply::calls([Call::new("lookup", json!({}))]);
    let conversation = settled(conversation.say("Why?"), quiet, &[CallResult::done(json!(1))]);
    let body = sent(&upstream, &gateway(&upstream.base_url()).model("m"), ChatRequest::new(conversation)).await.json();
    insta::assert_json_snapshot!(body["messages"]);
}

#[tokio::test]
async fn reasoning_goes_back_to_its_own_model_only() {
    let upstream = FaultUpstream::start().await;
    upstream.answering(|request| {
        let answer = Completion::text("").with_reasoning("They ask for A-1.").with_call("call_1", "lookup", "{}");
        let mut document = answer.whole(&request.model());
        let message = &mut document["choices"][0]["message"];
        message["thinking_blocks"] =
            json!([{"type": "thinking", "thinking": "They ask for A-1.", "signature": "c2ln"}]);
        message["tool_calls"][0]["extra_content"] = json!({"google": {"thought_signature": "Z29v"}});
        testkit::Answer::json(200, &document)
    });
    let gateway = gateway(&upstream.base_url());
    let asked = Conversation::new().say("Where is A-1?");
    let (reply, _) = ask(&gateway.model("thinker"), ChatRequest::new(asked.clone())).await.unwrap();
    let next = ChatRequest::new(settled(asked, reply, &[CallResult::done(json!("shipped"))]));
    upstream.take_requests();

    let mut seen = Vec::new();
    let forgetful = ModelSettings::default().with_reasoning(ReasoningReturn::Never);
    for model in [gateway.model("thinker"), gateway.model("other"), gateway.model("thinker").with_settings(forgetful)] {
        seen.push(sent(&upstream, &model, next.clone()).await.json()["messages"][1].clone());
    }
    let call = json!({"id": "call00001", "type": "function", "function": {"name": "lookup", "arguments": "{}"}});
    let plain = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let mut forgotten = plain.clone();
    forgotten["tool_calls"][0]["id"] = json!("call_1");
    let mut whole = forgotten.clone();
    whole["reasoning_content"] = json!("They ask for A-1.");
    whole["thinking_blocks"] = json!([{"type": "thinking", "thinking": "They ask for A-1.", "signature": "c2ln"}]);
    whole["tool_calls"][0]["extra_content"] = json!({"google": {"thought_signature": "Z29v"}});
    assert_eq!(seen, [whole, plain, forgotten]);
}

#[tokio::test]
async fn ids_go_back_to_the_model_that_gave_them() {
    let upstream = FaultUpstream::start().await;
    let long = format!("call_1__thought__{}", "CiQB".repeat(300));
    let ids = ["functions.lookup:0", &long, "functions.lookup:0", ""].map(str::to_owned);
    let given = ids.clone();
    upstream.answering(move |_| {
        let answer = given.iter().fold(Completion::text(""), |answer, id| answer.with_call(id, "lookup", "{}"));
        testkit::Answer::json(200, &answer.whole("m"))
    });
    let gateway = gateway(&upstream.base_url());
    let asked = Conversation::new().say("Where is A-1?");
    let (reply, _) = ask(&gateway.model("gemini"), ChatRequest::new(asked.clone())).await.unwrap();
    // What a host keeps and loads is the same.
    let reply: Reply = serde_json::from_value(serde_json::to_value(&reply).unwrap()).unwrap();
    let next = ChatRequest::new(settled(asked, reply, &[(); 4].map(|()| CallResult::done(json!("shipped")))));
    upstream.take_requests();
    for (model, expected) in [
        ("gemini", [&*ids[0], &*ids[1], "call00001", "call00002"]),
        ("mistral", ["call00001", "call00002", "call00003", "call00004"]),
    ] {
        let sent = sent(&upstream, &gateway.model(model), next.clone()).await.json();
        let calls = sent["messages"][1]["tool_calls"].as_array().unwrap().iter().map(|call| &call["id"]);
        assert_eq!(calls.collect::<Vec<_>>(), expected, "{model}");
        let results = sent["messages"].as_array().unwrap()[2..].iter().map(|result| &result["tool_call_id"]);
        assert_eq!(results.collect::<Vec<_>>(), expected, "{model}");
    }
}

#[tokio::test]
async fn what_a_model_cannot_do_is_not_asked() {
    let upstream = FaultUpstream::start().await;
    let model = gateway(&upstream.base_url()).model("m").with_info(|info| {
        let mut capabilities = info.capabilities;
        (capabilities.functions, capabilities.images) = (Some(false), Some(false));
        info.with_capabilities(capabilities)
    });
    let picture = UserMessage::text("See this.").with_attachment(Attachment::bytes("image/png", *b"png"));
    for request in [said("Hello.").with_functions([lookup()]), ChatRequest::new(Conversation::new().say(picture))] {
        assert_eq!(refused(&model, request).await, "model.bad_request");
    }
    assert_eq!(upstream.requests().len(), 0);
    assert!(ask(&model, said("Hello.")).await.is_ok());
}

async fn refused(model: &GatewayModel, request: ChatRequest) -> String {
    model.stream(request, &context()).await.err().unwrap().code().to_string()
}
