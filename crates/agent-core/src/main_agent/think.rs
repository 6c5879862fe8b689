//! The step `think`: the model is asked.

use std::sync::Arc;

use super::builder::Agent;
use super::call_state::{Progress, Slot};
use super::drive::Next;
use super::fit;
use super::route::shown;
use super::state::{Draft, LoopState, Open, Repair, Work};
use super::step::Stage;
use crate::agent_error::AgentError;
use crate::conversation::{Conversation, Replied};
use crate::event::EventKind;
use crate::message::{FinishReason, Reply};
use crate::model::{Attempts, ChatRequest, Metering, ModelError, ModelErrorClass, Restarts, Unanswered, ask};
use crate::provenance::Provenance;
use crate::run_context::RunContext;

pub(super) async fn think(agent: &Agent, state: &mut LoopState, cx: &RunContext) -> Result<Next, AgentError> {
    if state.fitted.is_none() {
        // Suspended between the two steps: what was fitted is not saved, and fitting gives the same again.
        fit::fit(agent, state, cx).await?;
    }
    let Some(fitted) = state.fitted.take().map(|fitted| fitted.conversation) else {
        return Ok(Next::Stage(Stage::Fit));
    };
    let said = fitted.entries().len();
    let conversation = with_repairs(fitted, &state.repairs);
    let repairs = conversation.entries().len() - said;
    let bad_answers = state.repairs.iter().map(|repair| repair.step.clone()).collect();
    let (overflows, unfit) = (state.overflows, state.unfit.as_ref().map(|unfit| unfit.code()));
    let request = ChatRequest { repairs, bad_answers, overflows, unfit, ..request(agent, state, conversation) };
    let attempts = state.attempts_left;
    let counted = Counted::begin(state, cx);
    let answered = ask(&*agent.model, request, cx).await.map_err(|Unanswered { error, is_begun }| match error {
        // Whoever has read the beginning cannot take it back: nothing else may follow it.
        AgentError::Model(error) if is_begun && agent.restarts == Restarts::Forbidden => {
            error.after_a_beginning().into()
        }
        error => error,
    });
    drop(counted);
    if answered.is_ok() {
        state.overflows = 0;
    }
    match answered {
        Ok(reply) if reply.is_blank() && reply.finish == FinishReason::Length => {
            // Asked the same again it would come no further.
            let message = "all of its output went into reasoning: it may write too little (`max_output`)";
            Err(ModelError::new(ModelErrorClass::Empty, message).into())
        }
        Ok(reply) if reply.is_blank() => {
            let step = state.attempts.last().and_then(|attempt| attempt.step.clone());
            repair(agent, state, reply, "The answer was empty.", step, cx).map_err(|_| {
                let message = "its answers were empty";
                ModelError::new(ModelErrorClass::Empty, message).into()
            })
        }
        Ok(reply) => {
            take_reply(agent, state, reply);
            Ok(Next::Row)
        }
        Err(error) if error.is_context_overflow() => {
            // A plan may know it without asking; fitting again has an end all the same.
            if state.attempts_left == 0 || state.overflows >= agent.bounds.attempts {
                if attempts == 0 || agent.model.info().metering == Metering::Caller {
                    return Err(error);
                }
                // A plan's rules or person need no attempt.
                state.attempts_left = 0;
                state.unfit = Some(Box::new(error));
            }
            state.overflows += 1;
            Ok(Next::Stage(Stage::Fit))
        }
        Err(AgentError::Model(error)) if repeats(agent, &error) && state.attempts_left > 0 => {
            // Nothing came that could be shown to the model, so it is asked the same again.
            Ok(Next::Stage(Stage::Fit))
        }
        // A plan's rules that have no answer are not why there is none.
        Err(AgentError::Model(error)) if state.unfit.is_some() && error.class != ModelErrorClass::NeedsHuman => {
            Err(state.unfit.take().map_or_else(|| error.into(), |unfit| *unfit))
        }
        Err(AgentError::Model(error)) if error.class == ModelErrorClass::AttemptsExhausted => {
            Err(bad_answer(&state.repairs).unwrap_or(error.into()))
        }
        Err(error) => Err(error),
    }
}

/// Whether the same is asked again. A model that makes attempts of its own has done that.
fn repeats(agent: &Agent, error: &ModelError) -> bool {
    let garbled = matches!(error.class, ModelErrorClass::Malformed | ModelErrorClass::Empty);
    garbled && agent.model.info().metering == Metering::Caller
}

/// The attempts of the turn, while the model is asked: what is made and left of them enters the state, also when this is dropped.
struct Counted<'a> {
    state: &'a mut LoopState,
    attempts: &'a Attempts,
}

impl<'a> Counted<'a> {
    fn begin(state: &'a mut LoopState, cx: &'a RunContext) -> Self {
        let attempts = cx.attempts();
        // What others noted at this place is not the model's.
        drop(attempts.take_made());
        attempts.refill(state.attempts_left);
        Self { state, attempts }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.state.attempts_left = self.attempts.left();
        for attempt in self.attempts.take_made() {
            attempt.append_to(&mut self.state.attempts);
        }
        // What else calls models at this place has no turn.
        self.attempts.refill(u32::MAX);
    }
}

fn request(agent: &Agent, state: &LoopState, conversation: Conversation) -> ChatRequest {
    ChatRequest {
        instructions: agent.instructions.clone(),
        functions: shown(agent, state),
        answer: agent.answer.clone(),
        max_output: agent.max_output,
        restarts: agent.restarts,
        options: agent.options.clone(),
        ..ChatRequest::new(conversation)
    }
}

/// The conversation as the model sees it while an answer is being repaired. What is repaired never enters the real one.
fn with_repairs(conversation: Conversation, repairs: &[Repair]) -> Conversation {
    repairs.iter().fold(conversation, |conversation, repair| {
        let conversation =
            if repair.reply.is_blank() { conversation } else { conversation.conclude((*repair.reply).clone()) };
        conversation.say(format!("{} Answer again.", repair.problem))
    })
}

/// Asks the model again because of `problem` in the answer of this step, if an attempt is left, or if what answers by rules, or asks
/// a person, may need none.
///
/// # Errors
///
/// The answer that is not good enough, when nothing is left.
pub(super) fn repair(
    agent: &Agent,
    state: &mut LoopState,
    reply: Arc<Reply>,
    problem: &str,
    step: Option<Arc<str>>,
    cx: &RunContext,
) -> Result<Next, AgentError> {
    let problem: Arc<str> = problem.into();
    let repair = Repair { reply, problem: problem.clone(), step };
    let most = agent.bounds.attempts.saturating_add(MOST_FREE) as usize;
    let is_free = agent.model.info().metering == Metering::Own && state.repairs.len() < most;
    if state.attempts_left == 0 && !is_free {
        let attempts = u32::try_from(state.repairs.len()).unwrap_or(u32::MAX).saturating_add(1);
        return Err(AgentError::BadAnswer { attempts, problem: problem.to_string() });
    }
    cx.emit_kind(|| EventKind::Repaired { problem });
    state.repairs.push(repair);
    Ok(Next::Stage(Stage::Fit))
}

/// How often a model that makes its own attempts is asked when none is left: rules answer once each, and no plan has so many.
const MOST_FREE: u32 = 64;

/// What was wrong with the last one of these answers.
fn bad_answer(repairs: &[Repair]) -> Option<AgentError> {
    let problem = repairs.last()?.problem.to_string();
    Some(AgentError::BadAnswer { attempts: u32::try_from(repairs.len()).unwrap_or(u32::MAX), problem })
}

/// What the model said becomes the turn's work: calls to make, or an answer to check.
fn take_reply(agent: &Agent, state: &mut LoopState, reply: Arc<Reply>) {
    let conversation = match std::mem::take(&mut state.work) {
        Work::Closed(conversation) => conversation,
        // Between turns the work is closed; `think` runs nowhere else.
        Work::Open(_) | Work::Draft(_) => return,
    };
    if reply.each_call().next().is_none() {
        let model = reply.model.clone().unwrap_or_else(|| agent.model.info().name.clone());
        let provenance = Provenance::of_model(model, &state.attempts);
        state.work = Work::Draft(Box::new(Draft { conversation, reply, replaced: None, provenance }));
        return;
    }
    state.repairs.clear();
    if let Replied::Calls(turn) = conversation.reply(reply) {
        let slots = turn.results().iter().map(|_| Slot::Ready(Progress::default())).collect();
        state.work = Work::Open(Box::new(Open { turn, slots }));
    }
}
