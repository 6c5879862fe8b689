//! The one state of an agent's loop.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call_state::Slot;
use super::slot::UNKNOWN_OUTCOME;
use super::stop::Stop;
use crate::agent_error::AgentError;
use crate::caller::Caller;
use crate::conversation::{Conversation, Entry, OpenTurn};
use crate::error::ErrorCode;
use crate::event::ResultStatus;
use crate::fit::Fitted;
use crate::message::{CallResult, FinishReason, Reply};
use crate::path::{CallPath, CallPosition};
use crate::pending::{Answer, Pending, PendingId};
use crate::provenance::{Attempted, Provenance};
use crate::run_context::RunContext;

/// Everything that the loop knows. What is saved of it stands in `wire.rs`.
#[derive(Debug)]
pub(super) struct LoopState {
    /// The next step: its row in the agent's table.
    pub(super) at: usize,
    pub(super) turn: u32,
    /// How many entries of the conversation were there before this run.
    pub(super) said_before: usize,
    pub(super) work: Work,
    /// What the step at `at`, or a recovery, waits for.
    pub(super) wait: Option<Box<Wait>>,
    /// How often a step or a recovery has waited, which numbers their waits.
    pub(super) waits: u32,
    /// Who agreed to what the step at `at` is about.
    pub(super) approved_by: Vec<Caller>,
    /// Whether this turn has begun: fitting again within it takes no new attempts.
    pub(super) turn_begun: bool,
    /// Answers of this turn that were not good enough.
    pub(super) repairs: Vec<Repair>,
    /// Attempts left for this turn.
    pub(super) attempts_left: u32,
    /// Every attempt at an answer, in all turns.
    pub(super) attempts: Vec<Attempted>,
    /// How often the model found this turn's conversation too long.
    pub(super) overflows: u32,
    /// The Sub-Agents that a router showed the model, once it was asked.
    pub(super) shown: Option<Arc<[Arc<str>]>>,
    /// The result, once there is one.
    pub(super) concluded: Option<Concluded>,
    /// The fitted conversation, from `fit` to `think`. Not saved: fitting again gives the same.
    pub(super) fitted: Option<Fitted>,
    /// Why the conversation is too long, while a plan's rules or person may answer all the same.
    pub(super) unfit: Option<Box<AgentError>>,
}

/// How far the current turn is.
#[derive(Debug)]
pub(super) enum Work {
    /// The model is to be asked.
    Closed(Conversation),
    /// The model made calls.
    Open(Box<Open>),
    /// The model gave an answer, which is to be checked.
    Draft(Box<Draft>),
}

/// A turn whose calls are being worked on.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) turn: OpenTurn,
    /// How far each call is: one a call, in order.
    pub(super) slots: Vec<Slot>,
}

/// An answer that is to be checked.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) conversation: Conversation,
    pub(super) reply: Arc<Reply>,
    /// What a policy or a person put in its place.
    pub(super) replaced: Option<Value>,
    pub(super) provenance: Provenance,
}

/// What a step or a recovery waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Wait {
    pub(super) pending: Pending,
    /// Whether the answer is the agent's answer, because it could not give one itself.
    #[serde(default)]
    pub(super) for_recovery: bool,
    /// The answer, until it is worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<Answer>,
}

/// An answer that was not good enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Repair {
    pub(super) reply: Arc<Reply>,
    pub(super) problem: Arc<str>,
    /// The step of a plan that gave it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<Arc<str>>,
}

/// The agent's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Concluded {
    pub(super) output: Value,
    pub(super) refused: bool,
    pub(super) provenance: Provenance,
    pub(super) finish: FinishReason,
}

impl Concluded {
    pub(super) fn status(&self) -> ResultStatus {
        if self.refused { ResultStatus::Refused } else { ResultStatus::Completed }
    }
}

impl LoopState {
    pub(super) fn new(conversation: Conversation, said_before: usize, at: usize, attempts: u32) -> Self {
        Self {
            at,
            turn: 0,
            said_before,
            work: Work::Closed(conversation),
            wait: None,
            waits: 0,
            approved_by: Vec::new(),
            turn_begun: false,
            repairs: Vec::new(),
            attempts_left: attempts,
            attempts: Vec::new(),
            overflows: 0,
            shown: None,
            concluded: None,
            fitted: None,
            unfit: None,
        }
    }

    /// Ends the turn: the model is asked anew, with all its attempts.
    pub(super) fn next_turn(&mut self, conversation: Conversation) {
        self.work = Work::Closed(conversation);
        self.turn = self.turn.saturating_add(1);
        self.turn_begun = false;
    }

    /// Everything that is waited for, children's included.
    pub(super) fn pending(&self) -> Vec<Pending> {
        let own = self.wait.iter().filter(|wait| wait.answer.is_none()).map(|wait| &wait.pending);
        own.chain(self.slots().iter().flat_map(Slot::pending)).cloned().collect()
    }

    /// Whether there is something to do without an answer.
    pub(super) fn is_runnable(&self) -> bool {
        if let Some(wait) = &self.wait {
            return wait.answer.is_some();
        }
        self.slots().iter().all(|slot| *slot == Slot::Settled) || self.slots().iter().any(Slot::has_work)
    }

    fn slots(&self) -> &[Slot] {
        match &self.work {
            Work::Open(open) => &open.slots,
            Work::Closed(_) | Work::Draft(_) => &[],
        }
    }

    /// Hands `answers` to what waits for them, where they stay until they are worked on. Names the first that nothing waits for.
    pub(super) fn take_answers(&mut self, answers: Vec<Answer>, here: &CallPath) -> Result<(), PendingId> {
        answers.into_iter().try_for_each(|answer| self.take_answer(answer, here))
    }

    fn take_answer(&mut self, answer: Answer, here: &CallPath) -> Result<(), PendingId> {
        if let Some(wait) = self.wait.as_mut().filter(|wait| wait.pending.id == answer.pending) {
            wait.answer = Some(answer);
            return Ok(());
        }
        let position = answer.pending.path.positions().get(here.depth()).copied();
        let position = position.filter(|at| at.turn == self.turn && answer.pending.path.starts_with(here));
        let Work::Open(open) = &mut self.work else { return Err(answer.pending) };
        match position.and_then(|at| open.slots.get_mut(at.slot as usize)) {
            Some(Slot::Waits(call)) if call.pending.id == answer.pending => call.answer = Some(answer),
            Some(Slot::Child(call)) => call.answers.push(answer),
            _ => return Err(answer.pending),
        }
        Ok(())
    }

    /// Makes the state one to go on from after the agent was stopped or failed: with what its calls left, and with as many attempts as
    /// a new turn has.
    pub(super) fn stop(&mut self, cx: &RunContext, attempts: u32) {
        self.attempts_left = attempts;
        self.overflows = 0;
        // Whoever goes on from here asks the model again.
        self.unfit = None;
        self.repairs.clear();
        self.take_stopped(cx);
    }

    /// Takes up where the calls of the open turn go on that were stopped in flight.
    fn take_stopped(&mut self, cx: &RunContext) {
        let turn = self.turn;
        let Work::Open(open) = &mut self.work else { return };
        for (slot, index) in open.slots.iter_mut().zip(0..).filter(|(slot, _)| **slot != Slot::Settled) {
            let path = cx.path().child(CallPosition { turn, slot: index });
            match cx.run().stopped().take(&path) {
                Some(Stop::At(stopped)) => *slot = stopped,
                Some(Stop::Made(result)) => {
                    let settled = open.turn.settle(index as usize, result);
                    *slot = settled.map_or_else(|_| slot.clone(), |()| Slot::Settled);
                }
                // Its caller takes it up.
                Some(Stop::Agent(_)) | None => {}
            }
        }
    }

    /// Settles the calls that were given up and may have happened: whoever reads the conversation must not make them again.
    pub(super) fn settle_unknown(&mut self) {
        let Work::Open(open) = &mut self.work else { return };
        for (index, slot) in open.slots.iter_mut().enumerate().filter(|(_, slot)| slot.may_have_happened()) {
            let message = "the call was given up before its end: whether it had an effect is unknown";
            let unknown = CallResult::failed(ErrorCode::new(UNKNOWN_OUTCOME), message);
            if open.turn.settle(index, unknown).is_ok() {
                *slot = Slot::Settled;
            }
        }
    }

    /// Takes the request out of what was said.
    pub(super) fn take_back_request(&mut self) {
        if let Work::Closed(conversation) = &mut self.work {
            let mut entries = conversation.entries().to_vec();
            entries.pop_if(|entry| matches!(entry, Entry::User(_)));
            *conversation = Conversation::from_entries(entries);
        }
    }

    /// A valid conversation of everything that was said. Open calls get `result`; an answer that was not accepted is left out.
    pub(super) fn into_conversation(self, result: &CallResult) -> Conversation {
        self.work.into_conversation(result)
    }
}

impl Default for Work {
    fn default() -> Self {
        Self::Closed(Conversation::new())
    }
}

impl Work {
    /// What was said in finished turns.
    pub(super) fn conversation(&self) -> &Conversation {
        match self {
            Self::Closed(conversation) => conversation,
            Self::Open(open) => open.turn.conversation(),
            Self::Draft(draft) => &draft.conversation,
        }
    }

    /// A valid conversation of everything that was said. Open calls get `result`; an answer that was not accepted is left out.
    pub(super) fn into_conversation(self, result: &CallResult) -> Conversation {
        match self {
            Self::Closed(conversation) => conversation,
            Self::Open(open) => open.turn.close_with(result),
            Self::Draft(draft) => draft.conversation,
        }
    }
}
