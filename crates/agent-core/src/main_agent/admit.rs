//! The step `admit`: the policy sees the request.

use std::sync::Arc;

use serde_json::Value;

use super::drive::{Next, wait_for};
use super::state::{LoopState, Work};
use crate::agent_error::AgentError;
use crate::caller::Caller;
use crate::conversation::{Conversation, Entry};
use crate::error::ErrorCode;
use crate::event::{EventKind, Verdict};
use crate::message::{CallFailure, UserMessage};
use crate::pending::{Answer, AnswerValue, PendingKind};
use crate::policy::{Action, Decision};
use crate::run_context::RunContext;

/// The name of the request in approvals and events.
const REQUEST: &str = "request";

/// How often a policy may replace the same thing before it has to decide.
pub(super) const MAX_REPLACEMENTS: u32 = 8;

pub(super) async fn admit(state: &mut LoopState, cx: &RunContext) -> Result<Next, AgentError> {
    for _ in 0..MAX_REPLACEMENTS {
        let Some(message) = state.work.conversation().last_user_message().cloned() else { return Ok(Next::Row) };
        let action = Action::Request { message: &message, approved_by: &state.approved_by };
        match cx.policies().decide(action, cx).await {
            Decision::Allow => return Ok(Next::Row),
            Decision::Replace(text) if text == *message.joined_text() => return Ok(Next::Row),
            Decision::Replace(text) => {
                decided(cx, REQUEST, Verdict::Replace, "");
                replace_message(state, &text)?;
                state.approved_by.clear();
            }
            Decision::Deny(reason) => {
                decided(cx, REQUEST, Verdict::Deny, &reason);
                return Err(AgentError::Denied { reason });
            }
            Decision::Ask(reason) => {
                decided(cx, REQUEST, Verdict::Ask, &reason);
                let proposed = Arc::new(Value::from(message.joined_text()));
                let approved_by = state.approved_by.clone();
                let kind = PendingKind::Approval {
                    what: REQUEST.into(),
                    proposed,
                    reason: reason.into(),
                    schema: Some(Arc::new(serde_json::json!({"type": "string"}))),
                    approved_by,
                };
                wait_for(state, REQUEST, kind, cx);
                return Ok(Next::Suspend);
            }
        }
    }
    Err(undecided(REQUEST))
}

/// A replacement that cannot take the place of what it replaces.
pub(super) fn invalid_replacement(message: impl Into<Arc<str>>) -> AgentError {
    let code = ErrorCode::new("policy.invalid_replacement");
    AgentError::Failed(CallFailure { code, message: message.into() })
}

/// A policy that goes on replacing.
pub(super) fn undecided(what: &str) -> AgentError {
    AgentError::Denied { reason: format!("the policy replaced the {what} {MAX_REPLACEMENTS} times and did not decide") }
}

/// Takes a person's word on the request.
pub(super) fn answered(state: &mut LoopState, answer: Answer) -> Result<(), AgentError> {
    match answer.value {
        AnswerValue::Deny(reason) => return Err(AgentError::Denied { reason }),
        AnswerValue::ApproveWith(text) => {
            replace_message(state, &text)?;
            state.approved_by = vec![answer.by];
        }
        _ => agree(&mut state.approved_by, answer.by),
    }
    Ok(())
}

/// Notes that `by` agreed: each person once.
pub(super) fn agree(approved_by: &mut Vec<Caller>, by: Caller) {
    if !approved_by.iter().any(|earlier| earlier.is_same_person(&by)) {
        approved_by.push(by);
    }
}

/// Puts `text` in the place of the request.
fn replace_message(state: &mut LoopState, text: &Value) -> Result<(), AgentError> {
    let Value::String(text) = text else {
        return Err(invalid_replacement("a request can be replaced by text only"));
    };
    let mut entries = state.work.conversation().entries().to_vec();
    if let Some(last) = entries.iter_mut().rfind(|entry| matches!(entry, Entry::User(_))) {
        *last = Entry::User(Arc::new(UserMessage::text(text.as_str())));
    }
    state.work = Work::Closed(Conversation::from_entries(entries));
    Ok(())
}

/// Tells that a policy did something else than to allow.
pub(super) fn decided(cx: &RunContext, on: &str, verdict: Verdict, reason: &str) {
    cx.emit_kind(|| EventKind::PolicyDecided { on: on.into(), verdict, reason: reason.into() });
}
