//! One attempt at an answer, as every attempt goes: budget reserved and settled, events, a span, a note of what came of it.

use std::sync::Arc;

use tracing::{Span, field};

use super::{Chunk, Collector, Finish, ModelError, ModelErrorClass, ModelInfo, Price};
use crate::agent_error::AgentError;
use crate::amount::{Spend, Tokens, estimate_tokens};
use crate::budget::{Reservation, Resource};
use crate::error::ErrorCode;
use crate::event::{DeltaPart, EventKind, ModelFailed, ModelFinished};
use crate::message::{FinishReason, Reply, Usage};
use crate::model::ChatRequest;
use crate::provenance::{AttemptEnd, Attempted, Level};
use crate::run_context::RunContext;
use crate::telemetry::{record_error, task_span};

/// What is reserved for an answer of unknown maximum length.
const DEFAULT_OUTPUT: Tokens = Tokens(4_096);

/// One attempt of one model at an answer. [`complete`](super::complete) makes one; a model made of other models, whose
/// [`ModelInfo::metering`] is its own, makes one for each time that it asks one of them.
///
/// It draws on [`RunContext::attempts`] and on the budget before anything is sent, and is settled exactly once: by
/// [`finish`](Self::finish), by [`fail`](Self::fail), or, when it is dropped, at what was received until then.
#[derive(Debug)]
#[must_use = "a dropped attempt counts as stopped"]
pub struct Attempt {
    model: Arc<str>,
    step: Option<Arc<str>>,
    level: Level,
    price: Option<Price>,
    input: Tokens,
    /// `None` for what costs nothing. Taken when the attempt ends.
    reservation: Option<Reservation>,
    collector: Collector,
    cx: RunContext,
    span: Span,
    begun: bool,
    ended: bool,
}

impl Attempt {
    /// Reserves budget for this request: the estimated input and the maximum output, which is clamped in `request` to what the
    /// budget leaves. Waits for what others will settle.
    ///
    /// # Errors
    ///
    /// [`AgentError::Model`] with [`Unpriced`](ModelErrorClass::Unpriced), [`AgentError::Budget`] when there is no room,
    /// [`AgentError::Deadline`] when the time is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future reserves nothing.
    pub async fn reserve(
        info: &ModelInfo,
        request: &mut ChatRequest,
        cx: &RunContext,
    ) -> Result<Reservation, AgentError> {
        let input = request.estimate_input();
        cx.reserve_clamped(|| clamp(info, request, input, cx)).await
    }

    /// Takes an attempt and begins it, with what was [reserved](Self::reserve) for this request. `step` is the step of a plan, where
    /// there is one.
    ///
    /// # Errors
    ///
    /// [`AgentError::Model`] with [`AttemptsExhausted`](ModelErrorClass::AttemptsExhausted), [`AgentError::Deadline`] and
    /// [`AgentError::Cancelled`] when the run must stop. Nothing was taken or told then, and nothing may be sent.
    pub fn begin(
        info: &ModelInfo,
        step: Option<&Arc<str>>,
        request: &ChatRequest,
        reservation: Reservation,
        cx: &RunContext,
    ) -> Result<Self, AgentError> {
        // Only now, since waiting for the budget may have taken the time.
        cx.ensure_may_go_on()?;
        if !cx.attempts().take() {
            let message = "the attempts for this turn are used up";
            return Err(ModelError::new(ModelErrorClass::AttemptsExhausted, message).into());
        }
        let input = request.estimate_input();
        let mut attempt = Self::start(info, step, input, Some(reservation), cx);
        attempt.observe(attempt.spend(&Usage::new(input, Tokens::ZERO)));
        Ok(attempt)
    }

    /// An attempt that needs no budget and takes none of the attempts, of rules that run in process: they answer when nothing else can.
    /// Whoever asks them again and again sees to it that this has an end.
    pub fn free(info: &ModelInfo, step: Option<&Arc<str>>, cx: &RunContext) -> Self {
        Self::start(info, step, Tokens::ZERO, None, cx)
    }

    fn start(
        info: &ModelInfo,
        step: Option<&Arc<str>>,
        input: Tokens,
        reservation: Option<Reservation>,
        cx: &RunContext,
    ) -> Self {
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
            "adjutant.step" = step.map(|step| &**step),
        );
        cx.emit_kind(|| EventKind::ModelStarted { model: info.name.clone(), step: step.cloned() });
        Self {
            model: info.name.clone(),
            step: step.cloned(),
            level: info.level,
            price: info.price,
            input,
            reservation,
            collector: Collector::default(),
            cx: cx.clone(),
            span,
            begun: false,
            ended: false,
        }
    }

    /// The span that the work of the attempt belongs into.
    #[must_use]
    pub const fn span(&self) -> &Span {
        &self.span
    }

    /// Takes the next piece of the answer in, and hands it to those who read along.
    ///
    /// # Errors
    ///
    /// As [`Collector::push`], and [`ModelErrorClass::Malformed`] for a [`Chunk::Restart`]: one attempt cannot begin anew. The
    /// attempt has failed then, and [`fail`](Self::fail) says so.
    pub fn push(&mut self, chunk: &Chunk) -> Result<(), ModelError> {
        if let Chunk::Restart { .. } = chunk {
            return Err(ModelError::new(ModelErrorClass::Malformed, "one attempt began anew"));
        }
        emit_delta(chunk, &self.cx);
        self.begun = self.begun || is_read(chunk);
        self.collector.push_ref(chunk)?;
        self.observe(self.so_far());
        Ok(())
    }

    /// What it is known to have spent so far: what the provider says, else an estimate of what came.
    #[must_use]
    pub fn so_far(&self) -> Spend {
        match self.collector.cost() {
            Some(cost) => Spend::model_call(self.used_so_far().total()).with_micro_usd(cost),
            None => self.spend(&self.used_so_far()),
        }
    }

    /// Whether the answer's end has come.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.collector.is_complete()
    }

    /// Ends the attempt with its answer, which names the model. Settles at the provider's own figures, or at an estimate where
    /// there are none.
    ///
    /// # Errors
    ///
    /// [`ModelErrorClass::Cut`] when the end of the answer has not come, [`ModelErrorClass::ContentPolicy`] when a filter left nothing
    /// of it. The attempt has failed then, and been settled.
    pub fn finish(mut self) -> Result<(Arc<Reply>, Finish), ModelError> {
        let (mut reply, finish) = match std::mem::take(&mut self.collector).finish() {
            Ok(complete) => complete,
            Err(error) => {
                self.failed(AttemptEnd::Failed(error.class), error.code());
                return Err(error);
            }
        };
        let spent = self.charge(&reply, &finish);
        if reply.is_filtered() {
            self.observe(spent);
            let error = ModelError::new(ModelErrorClass::ContentPolicy, "a content filter stopped the answer");
            self.failed(AttemptEnd::Failed(error.class), error.code());
            return Err(error);
        }
        reply.model.get_or_insert_with(|| self.model.clone());
        record_reply(&self.span, &reply);
        let reply = Arc::new(reply);
        self.end(AttemptEnd::Answered, spent);
        self.cx.emit_kind(|| EventKind::ModelFinished(Box::new(ModelFinished::new(reply.clone(), spent))));
        Ok((reply, finish))
    }

    /// Whether the answer so far, be it complete or not, has nothing that a user or the run could use.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.collector.is_blank()
    }

    /// Whether there is something to read: text that is not blank, reasoning, a refusal, a call or an attachment.
    #[must_use]
    pub const fn is_begun(&self) -> bool {
        self.begun
    }

    /// Ends the attempt with its failure. Charges what the provider says was used, else what was received until then.
    pub fn fail(mut self, error: &AgentError) {
        let end = match error {
            AgentError::Model(error) => {
                self.observe_failure(error);
                AttemptEnd::Failed(error.class)
            }
            _ => AttemptEnd::Stopped,
        };
        self.failed(end, error.code());
    }

    /// Ends the attempt with a failure at what was observed.
    fn failed(&mut self, end: AttemptEnd, code: ErrorCode) {
        record_error(&self.span, &code);
        let spent = self.observed();
        self.end(end, spent);
        let (cx, model) = (&self.cx, &self.model);
        cx.emit_kind(|| EventKind::ModelFailed(Box::new(ModelFailed::new(model.clone(), code, spent))));
    }

    fn observe_failure(&mut self, error: &ModelError) {
        let nothing_came = self.collector.is_untouched();
        if nothing_came || error.usage.is_some() || error.cost.is_some() {
            self.observe(error.spend(self.price, &self.used_so_far()));
        }
    }

    /// Settles the budget and notes what came of the attempt.
    fn end(&mut self, end: AttemptEnd, spent: Spend) {
        if self.ended {
            return;
        }
        self.ended = true;
        let spent = match self.reservation.take() {
            Some(reservation) => {
                reservation.settle(spent);
                spent
            }
            None => Spend::ZERO,
        };
        self.cx.attempts().note(Attempted::new(self.model.clone(), self.step.clone(), self.level, end, spent));
    }

    /// What a complete answer costs: the provider's own figures where there are some.
    fn charge(&self, reply: &Reply, finish: &Finish) -> Spend {
        let usage = reply.usage.unwrap_or_else(|| Usage::new(self.input, estimate_tokens(reply.size())));
        match finish.cost {
            Some(cost) => Spend::model_call(usage.total()).with_micro_usd(cost),
            None => self.spend(&usage),
        }
    }

    /// What an unfinished answer has used: what the provider said, which it may have said at the start, and what came since.
    fn used_so_far(&self) -> Usage {
        let came = estimate_tokens(self.collector.bytes());
        match self.collector.usage() {
            Some(usage) => Usage { output: usage.output.max(came), ..usage },
            None => Usage::new(self.input, came),
        }
    }

    fn spend(&self, usage: &Usage) -> Spend {
        Price::spend(self.price, usage)
    }

    fn observe(&mut self, so_far: Spend) {
        if let Some(reservation) = &mut self.reservation {
            reservation.observe(so_far);
        }
    }

    fn observed(&self) -> Spend {
        self.reservation.as_ref().map_or(Spend::ZERO, Reservation::observed)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            let spent = self.observed();
            self.end(AttemptEnd::Stopped, spent);
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

/// Whether somebody reads something of this.
fn is_read(chunk: &Chunk) -> bool {
    match chunk {
        Chunk::Text(text) => !text.trim().is_empty(),
        Chunk::Reasoning(text) | Chunk::Refusal(text) => !text.is_empty(),
        Chunk::CallStart { .. } | Chunk::Attachment(_) => true,
        _ => false,
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
