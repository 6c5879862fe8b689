//! What a host says when it starts or resumes a run.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::budget::Limits;
use crate::caller::Caller;
use crate::conversation::Conversation;
use crate::id::TaskId;
use crate::identity::TraceId;
use crate::message::UserMessage;
use crate::observer::Observer;
use crate::pending::{Answer, AnswerValue, PendingId};
use crate::run_state::RunState;

/// A request to an agent: a message, and what was said before it.
///
/// A text is a request by itself: every `impl Into<Request>` takes `&str` and `String`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// What the user says now.
    pub message: UserMessage,
    /// What was said before: the conversation that an earlier run gave back.
    pub conversation: Conversation,
    /// How to run.
    pub options: RunOptions,
}

impl Request {
    /// A request of this message, with nothing said before.
    pub fn new(message: impl Into<UserMessage>) -> Self {
        Self { message: message.into(), conversation: Conversation::new(), options: RunOptions::default() }
    }

    /// The same after this was said.
    #[must_use]
    pub fn with_conversation(mut self, conversation: Conversation) -> Self {
        self.conversation = conversation;
        self
    }

    /// The same, run with these options.
    #[must_use]
    pub fn with_options(mut self, options: RunOptions) -> Self {
        self.options = options;
        self
    }
}

impl<T: Into<UserMessage>> From<T> for Request {
    fn from(message: T) -> Self {
        Self::new(message)
    }
}

/// A suspended run, with answers to what it waits for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Resume {
    /// The suspended run.
    pub state: RunState,
    /// Who resumes it, of the run's own tenant.
    pub by: Caller,
    /// Answers to any part of what it waits for. What is not answered is waited for again.
    pub answers: Vec<Answer>,
    /// How to run. Limits replace the run's own; its spend stays, and what it used of its time. The task and the trace are the
    /// run's own: those of the options are not looked at.
    pub options: RunOptions,
}

impl Resume {
    /// Resumes `state` without an answer yet.
    #[must_use]
    pub fn new(state: RunState, by: Caller) -> Self {
        Self { state, by, answers: Vec::new(), options: RunOptions::default() }
    }

    /// The same with an answer of whoever resumes.
    #[must_use]
    pub fn with_answer(self, pending: &PendingId, value: AnswerValue) -> Self {
        let by = self.by.clone();
        self.with_answer_by(by, pending, value)
    }

    /// The same with an answer of somebody else, for whom the host vouches.
    #[must_use]
    pub fn with_answer_by(mut self, by: Caller, pending: &PendingId, value: AnswerValue) -> Self {
        self.answers.push(Answer::new(pending.clone(), by, value));
        self
    }

    /// The same, run with these options.
    #[must_use]
    pub fn with_options(mut self, options: RunOptions) -> Self {
        self.options = options;
        self
    }
}

/// How to run: everything has a default.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct RunOptions {
    /// Ceilings of the whole run, instead of the agent's own.
    pub limits: Option<Limits>,
    /// When the time is over, however much active time the limits allow: for this life of the run. What the limits allow stays.
    pub deadline: Option<Instant>,
    /// The task, where the host counts tasks.
    pub task_id: Option<TaskId>,
    /// The trace, where there is one.
    pub trace_id: Option<TraceId>,
    /// Who else sees the events of this run.
    pub observers: Vec<Arc<dyn Observer>>,
    /// Stops the run when it is cancelled.
    pub cancellation: Option<CancellationToken>,
    /// Suspends the run at its next step when it is cancelled.
    pub drain: Option<CancellationToken>,
}

impl RunOptions {
    /// The same with these ceilings.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// The same with a deadline.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The same for this task.
    #[must_use]
    pub fn with_task_id(mut self, task: TaskId) -> Self {
        self.task_id = Some(task);
        self
    }

    /// The same in this trace.
    #[must_use]
    pub fn with_trace_id(mut self, trace: TraceId) -> Self {
        self.trace_id = Some(trace);
        self
    }

    /// The same with one more observer.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// The same, stopped by this token.
    #[must_use]
    pub fn with_cancellation(mut self, token: CancellationToken) -> Self {
        self.cancellation = Some(token);
        self
    }

    /// The same, drained by this token.
    #[must_use]
    pub fn with_drain(mut self, token: CancellationToken) -> Self {
        self.drain = Some(token);
        self
    }
}

impl RunOptions {
    /// Makes the tokens this run's own: the host's stop it, and it stops nothing of the host's.
    pub(crate) fn detach(&mut self) {
        for token in [&mut self.cancellation, &mut self.drain] {
            *token = token.as_ref().map(CancellationToken::child_token);
        }
    }
}

impl fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunOptions")
            .field("limits", &self.limits)
            .field("deadline", &self.deadline)
            .field("task_id", &self.task_id)
            .field("trace_id", &self.trace_id)
            .field("observers", &self.observers.len())
            .finish_non_exhaustive()
    }
}
