//! The saved format of the loop's state, version 1: the body of a Main Agent's [`AgentState`](crate::AgentState).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call_state::Slot;
use super::state::{Concluded, Draft, LoopState, Open, Repair, Wait, Work};
use super::step::Stage;
use super::table::StepTable;
use crate::agent_error::AgentError;
use crate::caller::Caller;
use crate::conversation::{Conversation, Replied};
use crate::message::{CallResult, Reply};
use crate::model::{ModelError, ModelErrorClass};
use crate::provenance::{Attempted, Provenance};

/// The version of [`Document`].
pub(super) const SCHEMA: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Document {
    /// The name of the next step.
    step: Arc<str>,
    turn: u32,
    said_before: usize,
    conversation: Conversation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<OpenDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    draft: Option<DraftDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wait: Option<Box<Wait>>,
    #[serde(default)]
    waits: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    approved_by: Vec<Caller>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    repairs: Vec<Repair>,
    #[serde(default)]
    turn_begun: bool,
    attempts_left: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<Attempted>,
    #[serde(default)]
    overflows: u32,
    /// Whether the model itself found the conversation too long for the last time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unfit: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shown: Option<Arc<[Arc<str>]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concluded: Option<Concluded>,
}

#[derive(Serialize, Deserialize)]
struct OpenDocument {
    reply: Arc<Reply>,
    /// By slot; `null` where there is none yet.
    results: Vec<Option<CallResult>>,
    slots: Vec<Slot>,
}

#[derive(Serialize, Deserialize)]
struct DraftDocument {
    reply: Arc<Reply>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaced: Option<Value>,
    provenance: Provenance,
}

fn too_long() -> AgentError {
    ModelError::new(ModelErrorClass::ContextOverflow, "the conversation is longer than its window").into()
}

/// The state as a body to save.
pub(super) fn encode(state: &LoopState, table: &StepTable) -> Result<Value, serde_json::Error> {
    let (open, draft) = match &state.work {
        Work::Closed(_) => (None, None),
        Work::Open(open) => {
            let results = open.turn.results().to_vec();
            (Some(OpenDocument { reply: open.turn.reply().clone(), results, slots: open.slots.clone() }), None)
        }
        Work::Draft(draft) => {
            let (reply, replaced) = (draft.reply.clone(), draft.replaced.clone());
            (None, Some(DraftDocument { reply, replaced, provenance: draft.provenance.clone() }))
        }
    };
    serde_json::to_value(Document {
        step: table.name(state.at).into(),
        turn: state.turn,
        said_before: state.said_before,
        conversation: state.work.conversation().clone(),
        open,
        draft,
        wait: state.wait.clone(),
        waits: state.waits,
        approved_by: state.approved_by.clone(),
        repairs: state.repairs.clone(),
        turn_begun: state.turn_begun,
        attempts_left: state.attempts_left,
        attempts: state.attempts.clone(),
        overflows: state.overflows,
        // What a context policy says, it says again.
        unfit: state.unfit.as_ref().is_some_and(|unfit| unfit.is_context_overflow()),
        shown: state.shown.clone(),
        concluded: state.concluded.clone(),
    })
}

/// The state in a saved body, or what is wrong with it.
pub(super) fn decode(body: &Value, table: &StepTable) -> Result<LoopState, String> {
    let document = Document::deserialize(body).map_err(|error| error.to_string())?;
    let at = table.find(&document.step).ok_or_else(|| format!("the step `{}` is gone", document.step))?;
    let mut state = LoopState::new(Conversation::new(), document.said_before, at, document.attempts_left);
    state.work = match (document.open, document.draft) {
        (None, None) => Work::Closed(document.conversation),
        (Some(open), None) => Work::Open(Box::new(decode_open(document.conversation, open)?)),
        (None, Some(draft)) => Work::Draft(Box::new(Draft {
            conversation: document.conversation,
            reply: draft.reply,
            replaced: draft.replaced,
            provenance: draft.provenance,
        })),
        (Some(_), Some(_)) => return Err("a turn is open and answered at once".into()),
    };
    state.attempts = document.attempts;
    state.turn = document.turn;
    state.wait = document.wait;
    state.waits = document.waits;
    state.approved_by = document.approved_by;
    state.turn_begun = document.turn_begun;
    state.repairs = document.repairs;
    state.overflows = document.overflows;
    state.unfit = document.unfit.then(|| Box::new(too_long()));
    state.shown = document.shown;
    state.concluded = document.concluded;
    ensure_consistent(&state, table)?;
    Ok(state)
}

/// Whether the step can go on with the work.
fn ensure_consistent(state: &LoopState, table: &StepTable) -> Result<(), String> {
    let (work, stages) = match &state.work {
        Work::Closed(_) if state.concluded.is_some() => ("a taken answer", &[Stage::Conclude][..]),
        Work::Closed(_) => ("no reply", &[Stage::Admit, Stage::Fit, Stage::Think, Stage::Act][..]),
        Work::Open(_) => ("open calls", &[Stage::Think, Stage::Act][..]),
        Work::Draft(_) => ("an answer", &[Stage::Think, Stage::Conclude][..]),
    };
    match table.stage(state.at) {
        Some(stage) if stages.contains(&stage) => Ok(()),
        None if state.concluded.is_some() => Ok(()),
        _ => Err(format!("the step `{}` cannot go on with {work}", table.name(state.at))),
    }
}

fn decode_open(conversation: Conversation, open: OpenDocument) -> Result<Open, String> {
    let Replied::Calls(mut turn) = conversation.reply(open.reply) else {
        return Err("the open turn has no calls".into());
    };
    let calls = turn.results().len();
    if open.results.len() != calls || open.slots.len() != calls {
        let (results, slots) = (open.results.len(), open.slots.len());
        return Err(format!("the open turn has {calls} calls, {results} results and {slots} slots"));
    }
    for (index, (result, slot)) in open.results.into_iter().zip(&open.slots).enumerate() {
        match (result, slot) {
            (Some(result), Slot::Settled) => turn.settle(index, result).map_err(|error| error.to_string())?,
            (None, Slot::Ready(_) | Slot::Waits(_) | Slot::Child(_)) => {}
            _ => return Err(format!("call {index} is settled and is not")),
        }
    }
    Ok(Open { turn, slots: open.slots })
}
