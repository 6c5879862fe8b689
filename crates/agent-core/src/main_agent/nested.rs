//! A Main Agent as a Sub-Agent of another one.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::MainAgent;
use super::builder::{Agent, Callable};
use super::drive::{Ended, live};
use super::state::LoopState;
use super::wire;
use crate::agent_error::AgentError;
use crate::caller::Caller;
use crate::conversation::Conversation;
use crate::event::EventKind;
use crate::message::CallResult;
use crate::pending::Pending;
use crate::run_context::RunContext;
use crate::sub_agent::{AgentCard, AgentState, Begin, Outcome, SubAgent, Suspension};

#[async_trait]
impl SubAgent for MainAgent {
    fn card(&self) -> &AgentCard {
        &self.agent.card
    }

    async fn run(&self, begin: Begin, cx: &RunContext) -> Result<Outcome, AgentError> {
        let agent = &*self.agent;
        let (state, revived) = match begin {
            Begin::Start { input } => {
                let conversation = Conversation::new().say(request_text(&input));
                (LoopState::new(conversation, 0, 0, agent.bounds.attempts), None)
            }
            Begin::Resume { state, answers } => (read_state(agent, state)?, Some(answers)),
        };
        let cx = cx.for_main_agent(&agent.profile, agent.policy.as_ref());
        let mut working = Working { agent, cx: &cx, state, ended: false };
        let ended = live(agent, &mut working.state, revived, &cx).await;
        working.ended = ended.as_ref().err().is_none_or(|error| !error.stops_the_run());
        let spent = cx.lease().spent();
        match ended {
            Ok(Ended::Concluded(concluded)) => {
                let (provenance, status) = (concluded.provenance.clone(), concluded.status());
                cx.emit_kind(|| EventKind::finished(provenance, status, spent));
                Ok(Outcome::Completed(concluded.output))
            }
            Ok(Ended::Suspended) => {
                let suspension = suspension(agent, &working.state)?;
                cx.emit_kind(|| EventKind::suspended(suspension.pending.len(), spent));
                Ok(Outcome::Suspended(suspension))
            }
            Err(error) => {
                cx.emit_kind(|| EventKind::failed(&error, spent));
                Err(error)
            }
        }
    }

    fn migrate(&self, state: AgentState) -> Result<AgentState, AgentError> {
        match &self.agent.migrate {
            Some(migrate) => migrate(state),
            None => Err(AgentError::version_mismatch(&state, &self.agent.card)),
        }
    }

    fn may_answer(&self, pending: &Pending, by: &Caller) -> bool {
        let by_policy = self.agent.policy.as_ref().is_none_or(|policy| policy.may_answer(pending, by));
        by_policy && below_may_answer(&self.agent, pending, by)
    }
}

/// An agent at work below another one. When it is stopped with its run, what it had done is kept.
struct Working<'a> {
    agent: &'a Agent,
    cx: &'a RunContext,
    state: LoopState,
    ended: bool,
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.state.stop(self.cx, self.agent.bounds.attempts);
        if let Ok(left) = suspension(self.agent, &self.state) {
            self.cx.run().stopped().put_agent(self.cx.path().clone(), left);
        }
    }
}

/// The agent as a value, for whoever resumes it.
pub(super) fn suspension(agent: &Agent, state: &LoopState) -> Result<Suspension, AgentError> {
    let body = wire::encode(state, &agent.table).map_err(AgentError::internal)?;
    Ok(Suspension {
        state: AgentState::new(&agent.card, wire::SCHEMA, body),
        pending: state.pending(),
        runnable: state.is_runnable(),
    })
}

/// What the input says, for the model: the text of an input that is only a text, else JSON.
fn request_text(input: &Value) -> Arc<str> {
    let only_field = input.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.values().next());
    match only_field {
        Some(Value::String(text)) => text.as_str().into(),
        _ => input.to_string().into(),
    }
}

/// Whether the agents below `agent` let `by` answer something that came up in one of them.
pub(super) fn below_may_answer(agent: &Agent, pending: &Pending, by: &Caller) -> bool {
    // The names stand in order of depth. An agent that stands there twice asks for both places.
    let mine = pending.agents.iter().zip(pending.agents.iter().skip(1)).filter(|(name, _)| *name == agent.card.id());
    let mut children = mine.filter_map(|(_, below)| agent.functions.get(below));
    children.all(|child| match child {
        Callable::Agent(child) => child.may_answer(pending, by),
        Callable::Tool(_) => true,
    })
}

/// The loop's state in a saved one, brought over from another version where the agent can.
pub(super) fn read_state(agent: &Agent, state: AgentState) -> Result<LoopState, AgentError> {
    let state = bring_over(agent, state)?;
    wire::decode(&state.body, &agent.table).map_err(|problem| AgentError::unreadable_state(&state, problem))
}

fn bring_over(agent: &Agent, state: AgentState) -> Result<AgentState, AgentError> {
    let Err(mismatch) = state.ensure_fits(&agent.card, wire::SCHEMA) else { return Ok(state) };
    let Some(migrate) = agent.migrate.as_ref().filter(|_| state.agent == *agent.card.id()) else {
        return Err(mismatch);
    };
    let migrated = migrate(state)?;
    migrated.ensure_fits(&agent.card, wire::SCHEMA)?;
    Ok(migrated)
}

/// The conversation in a saved state, if that can be read.
pub(super) fn peek(agent: &Agent, state: &AgentState) -> Option<Conversation> {
    let state = read_state(agent, state.clone()).ok()?;
    Some(state.into_conversation(&CallResult::not_made()))
}
