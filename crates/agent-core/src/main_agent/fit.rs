//! The step `fit`: the conversation is fitted into the model's window.

use super::builder::Agent;
use super::drive::Next;
use super::route::shown;
use super::state::LoopState;
use crate::agent_error::AgentError;
use crate::amount::{Tokens, estimate_tokens};
use crate::event::EventKind;
use crate::fit::{FitRequest, Fitted};
use crate::model::Metering;
use crate::run_context::RunContext;
use crate::schema::Schema;

/// What is kept free for the answer of a model whose maximum output is unknown.
const DEFAULT_OUTPUT: Tokens = Tokens(1_024);

pub(super) async fn fit(agent: &Agent, state: &mut LoopState, cx: &RunContext) -> Result<Next, AgentError> {
    if !state.turn_begun {
        if state.turn >= agent.bounds.turns {
            return Err(AgentError::TurnLimit { turns: state.turn });
        }
        state.turn_begun = true;
        state.unfit = None;
        state.attempts_left = agent.bounds.attempts;
        let turn = state.turn;
        cx.emit_kind(|| EventKind::TurnStarted { turn });
    }
    let conversation = state.work.conversation();
    let request = FitRequest::new(conversation, room(agent, state)).with_overflows(state.overflows);
    let fitted = match (*agent.context).fit(request, cx).await {
        Ok(fitted) => fitted,
        // A plan of models may have rules or a person, who need no attempt.
        Err(error) if agent.model.info().metering == Metering::Own => {
            state.attempts_left = 0;
            state.unfit.get_or_insert(Box::new(error.into()));
            let size = estimate_tokens(conversation.size());
            Fitted::new(conversation.clone(), size, size)
        }
        Err(error) => return Err(error.into()),
    };
    let (before, after) = (fitted.before, fitted.after);
    if after < before {
        cx.emit_kind(|| EventKind::Fitted { before, after });
    }
    state.fitted = Some(fitted);
    Ok(Next::Row)
}

/// How many tokens the conversation may take: the window less everything else that goes into it.
fn room(agent: &Agent, state: &LoopState) -> Option<Tokens> {
    let info = agent.model.info();
    let window = info.context_window?;
    let output = agent.max_output.or(info.max_output).unwrap_or(DEFAULT_OUTPUT);
    let functions: usize = shown(agent, state).iter().map(|spec| spec.size()).sum();
    let answer = agent.answer.as_ref().map_or(0, Schema::size);
    let fixed = estimate_tokens(agent.instructions.len() + functions + answer);
    Some(window.minus(output).minus(fixed))
}
