//! The saved format of a run state, version 1.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RunState;
use crate::budget::SavedLease;
use crate::caller::Caller;
use crate::id::{RunId, TaskId};
use crate::identity::TraceId;
use crate::pending::PendingId;
use crate::sub_agent::Suspension;

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
pub(super) struct Document {
    format: u32,
    run_id: RunId,
    revision: u64,
    task_id: TaskId,
    trace_id: TraceId,
    caller: Caller,
    lease: SavedLease,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remaining_ms: Option<u64>,
    #[serde(default)]
    answered: Vec<PendingId>,
    suspension: Suspension,
}

impl From<RunState> for Document {
    fn from(state: RunState) -> Self {
        let as_millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            format: FORMAT,
            run_id: state.run_id,
            revision: state.revision,
            task_id: state.task_id,
            trace_id: state.trace_id,
            caller: state.caller,
            lease: state.lease,
            remaining_ms: state.time_left.map(as_millis),
            answered: state.answered,
            suspension: state.suspension,
        }
    }
}

impl TryFrom<Document> for RunState {
    type Error = String;

    fn try_from(document: Document) -> Result<Self, String> {
        if document.format != FORMAT {
            return Err(format!("run state format {} is unknown, expected {FORMAT}", document.format));
        }
        Ok(Self {
            run_id: document.run_id,
            revision: document.revision,
            task_id: document.task_id,
            trace_id: document.trace_id,
            caller: document.caller,
            lease: document.lease,
            time_left: document.remaining_ms.map(Duration::from_millis),
            answered: document.answered,
            suspension: document.suspension,
        })
    }
}
