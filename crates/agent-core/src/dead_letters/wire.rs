//! The lines of a file of dead letters, format 1: what was done, one operation a line, each with what was decided.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::DeadLetterError;
use super::letter::{ClaimEnd, DeadLetter, LetterStatus, LetterSummary};
use super::shelf::Standing;
use crate::caller::Caller;
use crate::error::ErrorCode;
use crate::id::{ClaimToken, RunId, TaskId, TenantId};

const FORMAT: u32 = 1;

/// How every line begins.
pub(super) const START: &[u8] = b"{\"format\":";

#[derive(Serialize, Deserialize)]
struct Line<O> {
    format: u32,
    op: O,
}

/// An operation. `L` is a letter, or what is read of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Op<L> {
    /// The first line, and no other: a file that was written anew has another id.
    Begin { file: Uuid },
    /// A letter came, in place of one of the same run.
    Put(L),
    /// A letter was claimed.
    Claim { tenant: TenantId, run_id: RunId, token: ClaimToken, until: u64 },
    /// A letter's claim ended.
    Settle { tenant: TenantId, run_id: RunId, end: ClaimEnd, at: u64 },
    /// Letters were removed.
    Purge { tenant: TenantId, run_ids: Vec<RunId> },
}

/// What is read of a letter to know of it: not its state, which can be large.
#[derive(Deserialize)]
pub(super) struct Head {
    run_id: RunId,
    task_id: TaskId,
    caller: Caller,
    agent: Arc<str>,
    failed_at: u64,
    code: ErrorCode,
    failures: u32,
}

impl Head {
    pub(super) fn into_summary(self) -> (TenantId, LetterSummary) {
        let summary = LetterSummary {
            run_id: self.run_id,
            task_id: self.task_id,
            user: self.caller.user,
            agent: self.agent,
            code: self.code,
            failed_at: self.failed_at,
            failures: self.failures,
            status: LetterStatus::Open,
        };
        (self.caller.tenant, summary)
    }
}

impl Op<&DeadLetter> {
    /// What makes of an open letter one that stands like this.
    pub(super) fn to_stand(tenant: &TenantId, run_id: RunId, standing: Standing) -> Option<Self> {
        let tenant = tenant.clone();
        match standing {
            Standing::Open => None,
            Standing::Claimed { token, until } => Some(Self::Claim { tenant, run_id, token, until }),
            Standing::Replayed { at } => Some(Self::Settle { tenant, run_id, end: ClaimEnd::Replayed, at }),
        }
    }

    /// The operation as a line, with its end. JSON has no line ends of its own.
    pub(super) fn line(&self) -> Result<Vec<u8>, DeadLetterError> {
        let mut line = serde_json::to_vec(&Line { format: FORMAT, op: self }).map_err(DeadLetterError::new)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// The operation of a line, which is the one of this `number`.
pub(super) fn read<L: DeserializeOwned>(line: &[u8], number: u64) -> Result<Op<L>, DeadLetterError> {
    match serde_json::from_slice::<Line<Op<L>>>(line) {
        Ok(Line { format: FORMAT, op }) => Ok(op),
        _ => Err(refused(line, number)),
    }
}

/// Why a line cannot be read.
fn refused(line: &[u8], number: u64) -> DeadLetterError {
    match serde_json::from_slice::<Line<serde::de::IgnoredAny>>(line) {
        Ok(Line { format, .. }) if format != FORMAT => {
            DeadLetterError::UnknownFormat { line: number, found: format, expected: FORMAT }
        }
        _ => DeadLetterError::Unreadable { line: number },
    }
}
