//! A turn whose calls do not all have results yet.

use std::sync::Arc;

use super::{Conversation, Entry, Turn};
use crate::error::ErrorCode;
use crate::message::{CallResult, Reply};

/// A conversation that ends in a reply whose calls are being worked on.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct OpenTurn {
    conversation: Conversation,
    reply: Arc<Reply>,
    results: Vec<Option<CallResult>>,
}

/// Why a result was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The turn has no such call.
    #[error("the turn has {calls} calls, there is none at slot {slot}")]
    NoSuchCall {
        /// The slot asked for, from zero.
        slot: usize,
        /// How many calls there are.
        calls: usize,
    },
    /// The call has its result already; the first one stays.
    #[error("the call at slot {slot} has its result already")]
    AlreadySettled {
        /// The slot asked for, from zero.
        slot: usize,
    },
}

impl SettleError {
    /// `turn.no_such_call` or `turn.already_settled`.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoSuchCall { .. } => ErrorCode::new("turn.no_such_call"),
            Self::AlreadySettled { .. } => ErrorCode::new("turn.already_settled"),
        }
    }

    /// Whether the same may succeed later: never.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        false
    }
}

impl OpenTurn {
    pub(super) fn new(conversation: Conversation, reply: Arc<Reply>, calls: usize) -> Self {
        Self { conversation, reply, results: vec![None; calls] }
    }

    /// The conversation before the reply.
    #[must_use]
    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// The reply that made the calls.
    #[must_use]
    pub fn reply(&self) -> &Arc<Reply> {
        &self.reply
    }

    /// The results so far, by slot.
    #[must_use]
    pub fn results(&self) -> &[Option<CallResult>] {
        &self.results
    }

    /// Gives the call at `slot` its one result.
    ///
    /// # Errors
    ///
    /// [`SettleError`] when there is no such call or it has a result; nothing changes then.
    pub fn settle(&mut self, slot: usize, result: CallResult) -> Result<(), SettleError> {
        let calls = self.results.len();
        match self.results.get_mut(slot) {
            None => Err(SettleError::NoSuchCall { slot, calls }),
            Some(Some(_)) => Err(SettleError::AlreadySettled { slot }),
            Some(empty) => {
                *empty = Some(result);
                Ok(())
            }
        }
    }

    /// The conversation with the reply and all results.
    ///
    /// # Errors
    ///
    /// The turn itself, unchanged, while a call has no result.
    pub fn close(self) -> Result<Conversation, Self> {
        if self.results.iter().any(Option::is_none) {
            return Err(self);
        }
        let results = self.results.into_iter().flatten().collect();
        Ok(self.conversation.with(Entry::Agent(Turn { reply: self.reply, results })))
    }

    /// The conversation with the reply, where every call that has no result yet gets `result`.
    #[must_use]
    pub fn close_with(self, result: &CallResult) -> Conversation {
        let results = self.results.into_iter().map(|settled| settled.unwrap_or_else(|| result.clone())).collect();
        self.conversation.with(Entry::Agent(Turn { reply: self.reply, results }))
    }
}
