//! One call of a model, by each client.

use std::future::Future;
use std::pin::Pin;

use agent_core::{Caller, ChatModel, ChatRequest, Chunk, Conversation, RunContext};
use anyhow::{Context, ensure};
use async_openai::config::OpenAIConfig;
use async_openai::types::chat::{ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs};
use bytes::Bytes;
use futures::StreamExt;
use model_litellm::{Gateway, GatewayConfig, ModelSettings, Transport};
use rig_core::completion::CompletionRequest;
use rig_core::providers::openai;
use rig_core::streaming::{Item, StreamEvent};
use serde_json::{Value, json};

use crate::upstream::{CHUNKS, SHORT};

const KEY: &str = "sk-bench";
const ID: &str = "019357e2-4f5c-7d3a-8b1e-6f0a2c4d8e90";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const QUESTION: &str = "Where is my order A-1042, which I sent for last Monday?";

type Call<'a> = Pin<Box<dyn Future<Output = anyhow::Result<usize>> + 'a>>;

/// Makes a call, and counts the chunks of text that came.
pub trait Side {
    fn call(&self) -> Call<'_>;
}

impl<F: AsyncFn() -> anyhow::Result<usize>> Side for F {
    fn call(&self) -> Call<'_> {
        Box::pin(self())
    }
}

/// All clients, the bare ones first.
pub fn sides(address: &str, model: &'static str) -> anyhow::Result<Vec<(&'static str, Box<dyn Side>)>> {
    let base = format!("http://{address}/v1");
    let streams = model != SHORT;
    let mut sides = vec![("bytes", bytes(&base, model, streams)?)];
    if !streams {
        sides.push(("bare", bare(&base, model, false)?));
        sides.push(("compatible", adjutant(GatewayConfig::compatible(&base), model, streams)?));
        sides.push(("bare, who asks", bare(&base, model, true)?));
    }
    sides.extend([
        ("adjutant", adjutant(GatewayConfig::litellm(&base), model, streams)?),
        ("async-openai", async_openai(&base, model, streams)),
        ("rig", rig(&base, model, streams)),
    ]);
    Ok(sides)
}

fn body(model: &str, streams: bool) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": QUESTION}]});
    if streams {
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

fn client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().http1_only().build()?)
}

/// The bare HTTP client, and what anybody writes around it: a document out, a document in, text and usage read from it.
///
/// It tells LiteLLM who asks or not, as the adapter's two profiles do: so each is compared with a request that says the same.
fn bare(base: &str, model: &'static str, tells: bool) -> anyhow::Result<Box<dyn Side>> {
    let client = client()?;
    let url = format!("{base}/chat/completions");
    Ok(Box::new(async move || {
        let mut body = body(model, false);
        let mut request = client.post(&url).bearer_auth(KEY).header("content-type", "application/json");
        if tells {
            body["num_retries"] = 0.into();
            body["disable_fallbacks"] = true.into();
            body["metadata"] = json!({
                "trace_id": TRACE, "tenant_id": "acme", "user_id": "ann", "task_id": ID, "run_id": ID,
                "main_agent_id": "host", "session_id": ID, "path": "/", "tags": ["tenant:acme", "agent:host"],
            });
            request = request
                .header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"))
                .header("x-litellm-call-id", ID)
                .header("x-litellm-timeout", "599.000")
                .header("x-litellm-end-user-id", "acme/ann");
        }
        let request = request.body(serde_json::to_vec(&body)?);
        let bytes = request.send().await?.error_for_status()?.bytes().await?;
        let document: Value = serde_json::from_slice(&bytes)?;
        let text = document["choices"][0]["message"]["content"].as_str().context("there is a text")?.to_owned();
        let tokens = document["usage"]["total_tokens"].as_u64().context("there is a usage")?;
        Ok(usize::from(!text.is_empty() && tokens > 0))
    }))
}

/// The bare HTTP client alone: a body that is always the same goes out, and nobody looks at what comes.
fn bytes(base: &str, model: &str, streams: bool) -> anyhow::Result<Box<dyn Side>> {
    let client = client()?;
    let url = format!("{base}/chat/completions");
    let body = body(model, streams).to_string();
    Ok(Box::new(async move || {
        let request = client.post(&url).bearer_auth(KEY).header("content-type", "application/json").body(body.clone());
        let mut response = request.send().await?.error_for_status()?;
        let (mut size, mut last) = (0, Bytes::new());
        while let Some(bytes) = response.chunk().await? {
            size += bytes.len();
            last = bytes;
        }
        ensure!(last.ends_with(b"}") || last.ends_with(b"[DONE]\n\n"), "the answer is whole");
        Ok(match size {
            0..2_000 => 1,
            2_000..100_000 => 12,
            _ => CHUNKS,
        })
    }))
}

fn adjutant(config: GatewayConfig, model: &'static str, streams: bool) -> anyhow::Result<Box<dyn Side>> {
    let transport = if streams { Transport::Stream } else { Transport::Whole };
    let settings = ModelSettings::default().with_transport(transport);
    let gateway = Gateway::new(config.with_api_key(KEY))?;
    let model = gateway.model(model).with_settings(settings);
    let cx = RunContext::standalone(Caller::new("acme", "ann")?);
    Ok(Box::new(async move || {
        let request = ChatRequest::new(Conversation::new().say(QUESTION));
        let mut stream = model.stream(request, &cx).await?;
        let mut texts = 0;
        while let Some(chunk) = stream.next().await {
            texts += usize::from(matches!(chunk?, Chunk::Text(_)));
        }
        Ok(texts)
    }))
}

fn async_openai(base: &str, model: &'static str, streams: bool) -> Box<dyn Side> {
    let config = OpenAIConfig::new().with_api_base(base).with_api_key(KEY);
    let client = async_openai::Client::with_config(config);
    Box::new(async move || {
        let message = ChatCompletionRequestUserMessageArgs::default().content(QUESTION).build()?;
        let request = CreateChatCompletionRequestArgs::default().model(model).messages([message.into()]).build()?;
        if !streams {
            let answer = client.chat().create(request).await?;
            let text = answer.choices.first().and_then(|choice| choice.message.content.as_ref());
            return Ok(usize::from(text.is_some()));
        }
        let mut stream = client.chat().create_stream(request).await?;
        let mut texts = 0;
        while let Some(event) = stream.next().await {
            let text = event?.choices.into_iter().next().and_then(|choice| choice.delta.content);
            texts += usize::from(text.is_some_and(|text| !text.is_empty()));
        }
        Ok(texts)
    })
}

fn rig(base: &str, model: &'static str, streams: bool) -> Box<dyn Side> {
    let model = openai::OpenAIConfig::new(KEY).with_base_url(base).connect(rig_reqwest::shared()).chat(model);
    Box::new(async move || {
        let request = CompletionRequest::new(QUESTION);
        if !streams {
            model.call(request).await.context("rig")?;
            return Ok(1);
        }
        let mut stream = model.stream(request)?;
        let mut texts = 0;
        while let Some(event) = stream.next().await {
            texts += usize::from(matches!(event?, Item::Event(StreamEvent::Text { .. })));
        }
        Ok(texts)
    })
}
