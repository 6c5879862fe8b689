//! One call of an embedding model as every call goes: budget reserved and settled, a span, the deadline.

use tracing::{Instrument, field};

use super::{Embedder, Embeddings};
use crate::agent_error::AgentError;
use crate::amount::{Spend, Tokens, estimate_tokens};
use crate::budget::Resource;
use crate::message::Usage;
use crate::model::{ModelError, ModelErrorClass, ModelInfo};
use crate::run_context::RunContext;
use crate::telemetry::{record_error, task_span};

/// Asks `embedder` for the vectors of `texts`, within the budget and the deadline of `cx`, with a span.
///
/// Tokens and cost are reserved and settled as with [`complete`](crate::complete). A ceiling on model calls does not count these:
/// it bounds how often an agent thinks.
///
/// # Errors
///
/// [`AgentError::Model`] when the model fails or gives another number of vectors, [`AgentError::Budget`] when it may not be asked,
/// [`AgentError::Deadline`] when the time is over first.
///
/// # Cancel safety
///
/// Dropping the future drops the request, and charges the estimate of what was sent.
pub async fn embed(
    embedder: &(impl Embedder + ?Sized),
    texts: &[&str],
    cx: &RunContext,
) -> Result<Embeddings, AgentError> {
    if texts.is_empty() {
        return Ok(Embeddings::default());
    }
    let info = embedder.info();
    if info.price.is_none() && cx.lease().unspent(Resource::MicroUsd).is_some() {
        let message = "its price is unknown, and the run has a ceiling on cost";
        return Err(ModelError::new(ModelErrorClass::Unpriced, message).into());
    }
    let read = Usage::new(estimate_tokens(bytes(texts)), Tokens::ZERO);
    let estimate = no_call(info.spend(&read));
    let mut reservation = cx.reserve(estimate).await?;
    reservation.observe(estimate);

    let span = task_span!(
        "embeddings",
        cx,
        otel.name = %format_args!("embeddings {}", info.name),
        otel.kind = "client",
        "gen_ai.operation.name" = "embeddings",
        "gen_ai.provider.name" = &*info.provider,
        "gen_ai.request.model" = &*info.name,
        "gen_ai.embeddings.dimension.count" = field::Empty,
        "gen_ai.usage.input_tokens" = field::Empty,
    );
    let asked = embedder.embed(texts, cx).instrument(span.clone());
    let embedded = cx.unless_stopped(asked).await.and_then(|embedded| Ok(complete(texts, embedded?)?));
    match embedded {
        Ok(embeddings) => {
            reservation.settle(charge(info, estimate, &embeddings));
            span.record("gen_ai.embeddings.dimension.count", embeddings.dimensions());
            if let Some(usage) = embeddings.usage {
                span.record("gen_ai.usage.input_tokens", usage.input.0);
            }
            Ok(embeddings)
        }
        Err(error) => {
            record_error(&span, &error.code());
            if let AgentError::Model(failed) = &error {
                reservation.settle(no_call(failed.spend(info.price, &read)));
            }
            Err(error)
        }
    }
}

fn bytes(texts: &[&str]) -> usize {
    texts.iter().map(|text| text.len()).sum()
}

fn complete(texts: &[&str], embeddings: Embeddings) -> Result<Embeddings, ModelError> {
    if embeddings.len() == texts.len() {
        return Ok(embeddings);
    }
    let message = format!("{} texts got {} vectors", texts.len(), embeddings.len());
    Err(ModelError::new(ModelErrorClass::Malformed, message))
}

/// The same without its call: a ceiling on calls is not about these.
fn no_call(spend: Spend) -> Spend {
    Spend { model_calls: 0, ..spend }
}

/// What the vectors cost: the provider's own figures where there are some.
fn charge(info: &ModelInfo, estimate: Spend, embeddings: &Embeddings) -> Spend {
    let spent = embeddings.usage.map_or(estimate, |usage| no_call(info.spend(&usage)));
    match embeddings.cost {
        Some(cost) => Spend::of_tokens(spent.tokens).with_micro_usd(cost),
        None => spent,
    }
}
