//! A call and the journal: what is known of it before it is made, and what is kept of it after.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::Value;

use super::builder::Callable;
use super::call_state::{Progress, Slot, SuspendedCall};
use super::invoke::counted;
use super::slot::{Settlement, Site, Worked, refuse};
use super::stop::{Stop, Unnoted};
use crate::agent_error::AgentError;
use crate::budget::Reservation;
use crate::journal::Begun;
use crate::message::CallResult;
use crate::path::CallKey;
use crate::pending::{Answer, PendingKind};
use crate::tool::Tool;

/// What the journal knows of a call.
enum Known {
    Fresh,
    Unknown,
    Settled(Box<Settlement>),
}

impl Site<'_> {
    /// What the journal, the tool or else a person has to say about a call that happened before, or may have.
    pub(super) async fn known(
        &self,
        key: &CallKey,
        count: Option<Reservation>,
        arguments: &Arc<Value>,
        progress: &mut Progress,
        resumed: Option<&SuspendedCall>,
    ) -> Result<Option<Settlement>, AgentError> {
        let known = self.ask_journal(key).await?;
        counted(count);
        match known {
            Known::Settled(settlement) => Ok(Some(with_own_answers(*settlement, progress, resumed))),
            Known::Fresh if !progress.begun => Ok(None),
            Known::Fresh | Known::Unknown if self.spec.effect.is_repeatable() => Ok(None),
            Known::Fresh | Known::Unknown => {
                Box::pin(self.reconcile(key, arguments.clone(), progress, resumed)).await.map(Some)
            }
        }
    }

    /// Notes in the journal what became of a call.
    pub(super) async fn note(&self, key: Box<CallKey>, settlement: Settlement) -> Worked {
        let result = match settlement {
            Settlement::Settled(result) => result,
            Settlement::Open(Slot::Child(left)) => return Box::pin(self.keep_suspension(&key, left)).await,
            other => return Ok(other),
        };
        let unnoted = Unnoted::new(&self.cx, Stop::Made(result.clone()));
        let settlement = self.finish(&key, result).await;
        unnoted.end();
        Ok(settlement)
    }

    /// What the journal knows of a call, which begins unless it is known.
    async fn ask_journal(&self, key: &CallKey) -> Result<Known, AgentError> {
        Ok(match self.cx.journal().begin(key).await? {
            Begun::Fresh => Known::Fresh,
            Begun::Finished(result) => Known::Settled(Box::new(Settlement::Settled(result))),
            Begun::Conflict => Known::Settled(Box::new(conflict())),
            Begun::Unknown => match Box::pin(self.kept_suspension(key)).await? {
                Some(left) => Known::Settled(Box::new(Settlement::Open(Slot::Child(left)))),
                None => Known::Unknown,
            },
        })
    }

    /// Keeps what a Sub-Agent left when it was suspended, so that a copy of the run goes on from there too.
    async fn keep_suspension(&self, key: &CallKey, left: Box<SuspendedCall>) -> Worked {
        let body = serde_json::to_value(&left).map_err(AgentError::internal)?;
        let unnoted = Unnoted::new(&self.cx, Stop::At(Slot::Child(left.clone())));
        self.cx.journal().finish(&suspension_of(key), &CallResult::done(body)).await?;
        unnoted.end();
        Ok(Settlement::Open(Slot::Child(left)))
    }

    /// What a Sub-Agent left in another copy of the run.
    async fn kept_suspension(&self, key: &CallKey) -> Result<Option<Box<SuspendedCall>>, AgentError> {
        if let Callable::Agent(_) = self.callable
            && let Begun::Finished(CallResult::Done(body)) = self.cx.journal().begin(&suspension_of(key)).await?
        {
            return SuspendedCall::deserialize(&*body).map(|left| Some(Box::new(left))).map_err(AgentError::internal);
        }
        Ok(None)
    }

    /// What became of a call whose outcome was unknown, if the journal heard of it since.
    pub(super) async fn heard_since(
        &self,
        progress: &Progress,
        resumed: Option<&SuspendedCall>,
    ) -> Result<Option<Settlement>, AgentError> {
        let Ok(arguments) = self.arguments(progress) else { return Ok(None) };
        match self.ask_journal(&self.key(&arguments, progress)).await? {
            Known::Settled(settlement) => Ok(Some(with_own_answers(*settlement, progress, resumed))),
            Known::Fresh | Known::Unknown => Ok(None),
        }
    }

    /// What is known of a call that was stopped after it had begun, before anybody judges it anew.
    pub(super) async fn begun_before(&self, progress: &mut Progress) -> Result<Option<Settlement>, AgentError> {
        let Ok(arguments) = self.arguments(progress) else { return Ok(None) };
        let key = self.key(&arguments, progress);
        self.known(&key, None, &arguments, progress, None).await
    }

    /// A call began in another life of the run, and no result was kept: the tool may know, else a person has to say.
    async fn reconcile(
        &self,
        key: &CallKey,
        arguments: Arc<Value>,
        progress: &mut Progress,
        resumed: Option<&SuspendedCall>,
    ) -> Worked {
        if let Callable::Tool(tool) = self.callable
            && let Some(result) = self.known_outcome(&**tool, &arguments).await
        {
            return Ok(self.finish(key, result).await);
        }
        progress.asked = progress.asked.saturating_add(1);
        let kind = PendingKind::UnknownOutcome { function: self.spec.name.clone(), arguments };
        let mut waiting = self.wait(&format!("outcome-{}", progress.asked), kind, progress);
        if let Settlement::Open(Slot::Waits(call)) = &mut waiting {
            call.suspended = resumed.cloned().map(Box::new);
        }
        Ok(waiting)
    }

    /// What became of a call, if the tool can find out.
    async fn known_outcome(&self, tool: &dyn Tool, arguments: &Value) -> Option<CallResult> {
        let asked = AssertUnwindSafe(tool.reconcile(arguments, &self.cx)).catch_unwind();
        let known = self.cx.within_deadline(asked).await.ok()?.ok()??;
        Some(self.presentable(known))
    }

    /// Settles a call with a result that came from outside, which the journal gets too.
    pub(super) async fn keep(&self, progress: &Progress, result: CallResult) -> Worked {
        let result = self.presentable(result);
        if !self.spec.effect.is_journaled() {
            return Ok(Settlement::Settled(result));
        }
        let Ok(arguments) = self.arguments(progress) else { return Ok(Settlement::Settled(result)) };
        let (journal, key) = (self.cx.journal(), self.key(&arguments, progress));
        match journal.begin(&key).await? {
            Begun::Finished(kept) => Ok(Settlement::Settled(kept)),
            Begun::Conflict => Ok(conflict()),
            Begun::Fresh | Begun::Unknown => Ok(self.finish(&key, result).await),
        }
    }

    /// Keeps a result, which stands even if the journal fails.
    async fn finish(&self, key: &CallKey, result: CallResult) -> Settlement {
        match self.cx.journal().finish(key, &result).await {
            Ok(()) => Settlement::Settled(result),
            Err(error) => Settlement::Unkept(result, error.into()),
        }
    }

    pub(super) fn key(&self, arguments: &Value, progress: &Progress) -> CallKey {
        let key = CallKey::new(self.cx.run_id(), self.cx.path().clone(), &self.spec.name, arguments);
        // Odd numbers are for what is left at the end of the attempt before them.
        key.with_attempt(u32::from(progress.attempt) * 2)
    }
}

/// What a Sub-Agent left in another copy of the run, with the answers that this copy has for it.
fn with_own_answers(mut known: Settlement, progress: &Progress, resumed: Option<&SuspendedCall>) -> Settlement {
    if let Settlement::Open(Slot::Child(left)) = &mut known {
        let waits = |answer: &&Answer| left.suspension.pending.iter().any(|pending| pending.id == answer.pending);
        left.answers = resumed.iter().flat_map(|call| &call.answers).filter(waits).cloned().collect();
        left.progress.asked = left.progress.asked.max(progress.asked);
    }
    known
}

/// The key of what a Sub-Agent leaves when it is suspended.
fn suspension_of(key: &CallKey) -> CallKey {
    key.clone().with_attempt(key.attempt + 1)
}

fn conflict() -> Settlement {
    refuse("call.conflict", "another call was made at this place by a copy of this run; it is not made again")
}
