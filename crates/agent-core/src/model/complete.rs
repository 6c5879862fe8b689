//! One call of a model as every call goes: budget reserved and settled, events, a span, the deadline.

use std::sync::Arc;

use futures_util::StreamExt;
use tracing::{Instrument, Span, field};

use super::{ChatModel, ChatRequest, Chunk, Collector, Finish, ModelError, ModelErrorClass, ModelInfo};
use crate::agent_error::AgentError;
use crate::amount::{Spend, Tokens, estimate_tokens};
use crate::budget::{Reservation, Resource};
use crate::event::{DeltaPart, EventKind, ModelFailed, ModelFinished};
use crate::message::{FinishReason, Reply, Usage};
use crate::run_context::RunContext;
use crate::telemetry::{record_error, task_span};

/// What is reserved for an answer of unknown maximum length.
const DEFAULT_OUTPUT: Tokens = Tokens(4_096);

/// Asks `model` for a whole answer, which names the model, within the budget and the deadline of `cx`, with events and a span.
///
/// Reserves the estimated input and the maximum output, which it clamps to what the budget leaves; settles at the provider's own
/// figures, or at an estimate where there are none. A failure charges what was received until then.
///
/// # Errors
///
/// [`AgentError::Model`] when the model fails, [`AgentError::Budget`] when it may not be asked, [`AgentError::Deadline`] when the
/// time is over first.
///
/// # Cancel safety
///
/// Dropping the future drops the stream, and charges what was received until then.
pub async fn complete(
    model: &(impl ChatModel + ?Sized),
    mut request: ChatRequest,
    cx: &RunContext,
) -> Result<Arc<Reply>, AgentError> {
    let info = model.info();
    let input = request.estimate_input();
    let mut reservation = cx.reserve_clamped(|| clamp(info, &mut request, input, cx)).await?;

    let span = task_span!(
        "chat",
        cx,
        otel.name = %format_args!("chat {}", info.name),
        otel.kind = "client",
        "gen_ai.operation.name" = "chat",
        "gen_ai.provider.name" = &*info.provider,
        "gen_ai.request.model" = &*info.name,
        "gen_ai.response.model" = field::Empty,
        "gen_ai.response.finish_reasons" = field::Empty,
        "gen_ai.usage.input_tokens" = field::Empty,
        "gen_ai.usage.output_tokens" = field::Empty,
    );
    cx.emit_kind(|| EventKind::ModelStarted { model: info.name.clone() });
    let received = receive(model, request, input, &mut reservation, cx).instrument(span.clone());
    match cx.within_deadline(received).await.and_then(|received| received) {
        Ok((mut reply, finish)) => {
            let spent = charge(info, input, &reply, &finish);
            reservation.settle(spent);
            reply.model.get_or_insert_with(|| info.name.clone());
            record_reply(&span, &reply);
            let reply = Arc::new(reply);
            cx.emit_kind(|| EventKind::ModelFinished(Box::new(ModelFinished::new(reply.clone(), spent))));
            Ok(reply)
        }
        Err(error) => {
            record_error(&span, &error.code());
            let spent = reservation.observed();
            drop(reservation);
            cx.emit_kind(|| EventKind::ModelFailed(Box::new(ModelFailed::new(info.name.clone(), error.code(), spent))));
            Err(error)
        }
    }
}

/// What to reserve for this request, after clamping its output to what is left.
fn clamp(info: &ModelInfo, request: &mut ChatRequest, input: Tokens, cx: &RunContext) -> Result<Spend, AgentError> {
    let tokens_left = cx.lease().unspent(Resource::Tokens);
    let money_left = cx.lease().unspent(Resource::MicroUsd);
    let mut output = request.max_output.or(info.max_output).unwrap_or(DEFAULT_OUTPUT);
    if let Some(left) = tokens_left {
        output = output.min(Tokens(left).minus(input));
    }
    let price = match (info.price, money_left) {
        (None, Some(_)) => {
            let message = "its price is unknown, and the run has a ceiling on cost";
            return Err(ModelError::new(ModelErrorClass::Unpriced, message).into());
        }
        (price, None) => price,
        (Some(price), Some(left)) => {
            let for_output = left.saturating_sub(price.of(&Usage::new(input, Tokens::ZERO)).0);
            if let Some(tokens) = for_output.saturating_mul(1_000_000).checked_div(price.output.0) {
                output = output.min(Tokens(tokens));
            }
            Some(price)
        }
    };
    // An answer has at least one token: without room for that, the reservation is refused.
    output = output.max(Tokens(1));
    if tokens_left.is_some() || money_left.is_some() {
        request.max_output = Some(output);
    }
    let cost = price.map(|price| price.of(&Usage::new(input, output))).unwrap_or_default();
    Ok(Spend::model_call(input.plus(output)).with_micro_usd(cost))
}

/// Receives the whole answer. What has come so far stands in `reservation`, in case this is dropped.
async fn receive(
    model: &(impl ChatModel + ?Sized),
    request: ChatRequest,
    input: Tokens,
    reservation: &mut Reservation,
    cx: &RunContext,
) -> Result<(Reply, Finish), AgentError> {
    let info = model.info();
    reservation.observe(info.spend(&Usage::new(input, Tokens::ZERO)));
    let mut stream = match model.stream(request, cx).await {
        Ok(stream) => stream,
        Err(error) => {
            reservation.observe(error.spend(info, &Usage::new(input, Tokens::ZERO)));
            return Err(error.into());
        }
    };
    let mut collector = Collector::default();
    while let Some(chunk) = stream.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                if error.usage.is_some() || error.cost.is_some() {
                    reservation.observe(error.spend(info, &used_so_far(&collector, input)));
                }
                return Err(error.into());
            }
        };
        emit_delta(&chunk, cx);
        collector.push(chunk)?;
        if collector.is_complete() {
            break;
        }
        reservation.observe(info.spend(&used_so_far(&collector, input)));
    }
    let (reply, finish) = collector.finish()?;
    if reply.is_filtered() {
        return Err(ModelError::new(ModelErrorClass::ContentPolicy, "a content filter stopped the answer").into());
    }
    Ok((reply, finish))
}

/// What an unfinished answer has used: what the provider said, which it may have said at the start, and what came since.
fn used_so_far(collector: &Collector, input: Tokens) -> Usage {
    let came = estimate_tokens(collector.bytes());
    match collector.usage() {
        Some(usage) => Usage { output: usage.output.max(came), ..usage },
        None => Usage::new(input, came),
    }
}

fn emit_delta(chunk: &Chunk, cx: &RunContext) {
    let (part, text) = match chunk {
        Chunk::Text(text) => (DeltaPart::Text, text),
        Chunk::Reasoning(text) => (DeltaPart::Reasoning, text),
        Chunk::Refusal(text) => (DeltaPart::Refusal, text),
        _ => return,
    };
    if !text.is_empty() {
        cx.emit_delta(part, text);
    }
}

/// What a complete answer costs: the provider's own figures where there are some.
fn charge(info: &ModelInfo, input: Tokens, reply: &Reply, finish: &Finish) -> Spend {
    let usage = reply.usage.unwrap_or_else(|| Usage::new(input, estimate_tokens(reply.size())));
    match finish.cost {
        Some(cost) => Spend::model_call(usage.total()).with_micro_usd(cost),
        None => info.spend(&usage),
    }
}

fn record_reply(span: &Span, reply: &Reply) {
    if let Some(model) = &reply.model {
        span.record("gen_ai.response.model", &**model);
    }
    span.record("gen_ai.response.finish_reasons", reply.finish.as_str());
    if let Some(usage) = reply.usage {
        span.record("gen_ai.usage.input_tokens", usage.input.0);
        span.record("gen_ai.usage.output_tokens", usage.output.0);
    }
}

impl FinishReason {
    /// The reason in one word: the provider's own where it is none of the usual.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Calls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Other(reason) => reason,
        }
    }
}
