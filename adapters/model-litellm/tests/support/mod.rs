//! What the tests share.
#![allow(dead_code)]

pub(crate) mod proxy;

use std::time::Duration;

use agent_core::{
    ChatModel, ChatRequest, Conversation, Finish, FinishReason, FunctionSpec, ModelError, Reply, ReplyPart, RunContext,
    Schema, collect,
};
use model_litellm::{Gateway, GatewayConfig, GatewayModel, ModelSettings, Timeouts, Transport};
use serde_json::json;
use testkit::caller;

/// A key that must turn up nowhere.
pub(crate) const KEY: &str = "sk-very-secret-4711";

/// Short enough for tests that wait for them, long enough for a busy machine.
pub(crate) fn timeouts() -> Timeouts {
    Timeouts::default()
        .with_connect(Duration::from_secs(2))
        .with_first_token(Duration::from_millis(700))
        .with_between_tokens(Duration::from_millis(500))
        .with_after_finish(Duration::from_millis(200))
        .with_total(Duration::from_secs(3))
}

pub(crate) fn gateway(base_url: &str) -> Gateway {
    Gateway::new(GatewayConfig::litellm(base_url).with_api_key(KEY).with_timeouts(timeouts())).unwrap()
}

pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::Stream, Transport::Whole];

pub(crate) fn by(model: GatewayModel, transport: Transport) -> GatewayModel {
    model.with_settings(ModelSettings::default().with_transport(transport))
}

pub(crate) fn context() -> RunContext {
    RunContext::standalone(caller())
}

pub(crate) fn hello() -> ChatRequest {
    ChatRequest::new(Conversation::new().say("How is all?")).with_functions([lookup()])
}

pub(crate) fn lookup() -> FunctionSpec {
    let input = json!({"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]});
    FunctionSpec::new("lookup", "Looks an order up", Schema::from_value(input).unwrap())
}

pub(crate) async fn ask(model: &GatewayModel, request: ChatRequest) -> Result<(Reply, Finish), ModelError> {
    collect(model.stream(request, &context()).await?).await
}

/// What came of a call, in one line.
pub(crate) fn brief(answered: &Result<(Reply, Finish), ModelError>) -> String {
    let (reply, finish) = match answered {
        Ok(answered) => answered,
        Err(error) => {
            let wait = error.retry_after.map(|wait| format!(" after {} s", wait.as_secs())).unwrap_or_default();
            return format!("{}{wait}", error.code());
        }
    };
    let mut parts: Vec<String> = reply
        .parts
        .iter()
        .filter(|part| !matches!(part, ReplyPart::Reasoning(hidden) if hidden.text.is_empty()))
        .map(|part| match part {
            ReplyPart::Text { text } => format!("{text:?}"),
            ReplyPart::Refusal { text } => format!("refusal {text:?}"),
            ReplyPart::Reasoning(reasoning) => format!("reasoning {:?}", &*reasoning.text),
            ReplyPart::Call(call) => format!("{}({})#{}", call.name, call.arguments.as_text(), call.label),
            other => format!("{other:?}"),
        })
        .collect();
    if finish.reason != FinishReason::Stop {
        parts.push(format!("[{}]", finish.reason.as_str()));
    }
    parts.extend(reply.usage.map(|usage| format!("{}+{}", usage.input.0, usage.output.0)));
    parts.join(" ")
}
