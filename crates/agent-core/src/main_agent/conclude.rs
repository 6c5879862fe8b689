//! The step `conclude`: the final answer is checked, by its schema and by the policy.

use std::sync::Arc;

use serde_json::Value;

use super::admit::{MAX_REPLACEMENTS, agree, decided, invalid_replacement, undecided};
use super::builder::Agent;
use super::drive::{Next, text_of, wait_for};
use super::state::{Concluded, LoopState, Work};
use super::step::Stage;
use super::think::repair;
use crate::agent_error::AgentError;
use crate::event::Verdict;
use crate::message::Reply;
use crate::pending::{Answer, AnswerValue, PendingKind};
use crate::policy::{Action, Decision};
use crate::provenance::Level;
use crate::run_context::RunContext;
use crate::schema::Schema;

/// The name of the final answer in approvals and events.
const ANSWER: &str = "answer";

pub(super) async fn conclude(agent: &Agent, state: &mut LoopState, cx: &RunContext) -> Result<Next, AgentError> {
    for _ in 0..MAX_REPLACEMENTS {
        let Work::Draft(draft) = &mut state.work else { return Ok(Next::Row) };
        let output = match (&draft.replaced, read_answer(agent, &draft.reply)) {
            (Some(replaced), _) => replaced.clone(),
            (None, Ok(output)) => output,
            (None, Err(problem)) => {
                let (reply, conversation) = (draft.reply.clone(), std::mem::take(&mut draft.conversation));
                let step = draft.provenance.step.clone();
                state.work = Work::Closed(conversation);
                // Where it goes on if no attempt is left now.
                state.at = agent.table.start_of(Stage::Fit);
                let problem = format!("The answer does not fit its schema: {problem}.");
                return repair(agent, state, reply, &problem, step, cx);
            }
        };
        let action = Action::Answer { answer: &output, approved_by: &state.approved_by };
        match cx.policies().decide(action, cx).await {
            Decision::Allow => {
                accept(state, output);
                return Ok(Next::Row);
            }
            Decision::Replace(other) if other == output => {
                accept(state, output);
                return Ok(Next::Row);
            }
            Decision::Replace(other) => {
                decided(cx, ANSWER, Verdict::Replace, "");
                ensure_fits(agent, &other)?;
                draft.replaced = Some(other);
                state.approved_by.clear();
            }
            Decision::Deny(reason) => {
                decided(cx, ANSWER, Verdict::Deny, &reason);
                return Err(AgentError::Denied { reason });
            }
            Decision::Ask(reason) => {
                decided(cx, ANSWER, Verdict::Ask, &reason);
                let kind = PendingKind::Approval {
                    what: ANSWER.into(),
                    proposed: Arc::new(output),
                    reason: reason.into(),
                    schema: agent.answer.as_ref().map(|schema| schema.as_value().clone()),
                    approved_by: state.approved_by.clone(),
                };
                wait_for(state, ANSWER, kind, cx);
                return Ok(Next::Suspend);
            }
        }
    }
    Err(undecided(ANSWER))
}

/// Takes a person's word on the answer.
pub(super) fn answered(agent: &Agent, state: &mut LoopState, answer: Answer) -> Result<(), AgentError> {
    match answer.value {
        AnswerValue::Deny(reason) => return Err(AgentError::Denied { reason }),
        AnswerValue::ApproveWith(output) => {
            ensure_fits(agent, &output)?;
            if let Work::Draft(draft) = &mut state.work {
                draft.replaced = Some(output);
                draft.provenance.levels.push(Level::Human);
            }
            state.approved_by = vec![answer.by];
        }
        _ => agree(&mut state.approved_by, answer.by),
    }
    Ok(())
}

/// The answer in a reply, or what is wrong with it.
fn read_answer(agent: &Agent, reply: &Reply) -> Result<Value, String> {
    let text = reply.joined_text();
    if let Some(refusal) = reply.refusal() {
        return Ok(Value::from(if text.is_empty() { refusal } else { &text }));
    }
    let Some(schema) = &agent.answer else { return Ok(Value::from(text)) };
    let value = match serde_json::from_str(without_fence(&text)) {
        Ok(value) => value,
        Err(error) => {
            // An answer type that is a text takes the text as it is.
            let text = Value::from(text);
            return if schema.check(&text).is_ok() { Ok(text) } else { Err(format!("it is no JSON ({error})")) };
        }
    };
    schema.check(&value).map_err(|violation| violation.to_string())?;
    Ok(value)
}

/// Many models put JSON into a Markdown fence, whatever they are told.
fn without_fence(text: &str) -> &str {
    let text = text.trim();
    let Some(inner) = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) else { return text };
    inner.strip_prefix("json").unwrap_or(inner)
}

/// Whether a policy's, a step's or a person's answer is of the agent's answer type.
pub(super) fn ensure_fits(agent: &Agent, output: &Value) -> Result<(), AgentError> {
    let Some(violation) = agent.answer.as_ref().and_then(|schema: &Schema| schema.check(output).err()) else {
        return Ok(());
    };
    Err(invalid_replacement(format!("the answer that was put in place of the model's does not fit: {violation}")))
}

/// The answer becomes the agent's result and enters the conversation.
fn accept(state: &mut LoopState, output: Value) {
    let Work::Draft(draft) = std::mem::take(&mut state.work) else { return };
    let reply = match draft.replaced {
        Some(_) => Reply::text(text_of(&output)),
        None => Arc::unwrap_or_clone(draft.reply),
    };
    state.concluded = Some(Concluded {
        output,
        refused: reply.refusal().is_some(),
        provenance: draft.provenance,
        finish: reply.finish.clone(),
    });
    state.work = Work::Closed(draft.conversation.conclude(reply));
    state.repairs.clear();
}
