//! A run around the Sub-Agent that is checked: it is called like any other, and what it did is looked at.

use std::sync::{Arc, Mutex};

use agent_core::{
    AgentCard, AgentError, AgentState, Answer, Approval, Begin, Begun, CallKey, CallResult, Caller, Dispatch, Entry,
    ErrorCode, Failure, Journal, JournalError, MainAgent, Outcome, Pending, Request, Resume, RunContext, RunOptions,
    RunOutcome, RunState, SubAgent,
};
use async_trait::async_trait;
use serde_json::Value;

use super::support::{ends, reread};
use crate::{FnModel, Line, Recorder};

/// Makes an instance of the agent, as another process would.
pub(super) type Make = Arc<dyn Fn() -> Arc<dyn SubAgent> + Send + Sync>;

/// A Main Agent whose only function is the agent that is checked.
pub(super) struct Host {
    pub(super) card: AgentCard,
    make: Make,
    instance: Instance,
    desk: MainAgent,
    lives: Arc<Mutex<Vec<Life>>>,
}

/// The instance of the agent that lives now.
type Instance = Arc<Mutex<Arc<dyn SubAgent>>>;

/// One life of the agent: from its start, or from an answer, to its end.
pub(super) struct Life {
    pub(super) cx: RunContext,
    /// `None` when it was dropped or panicked.
    pub(super) ended: Option<Result<Outcome, ErrorCode>>,
}

/// A life, and the state of the run after it if that is suspended.
pub(super) struct Lived {
    pub(super) life: Life,
    pub(super) state: Option<RunState>,
}

impl Host {
    pub(super) fn new(make: Make, input: Value) -> Self {
        let agent = make();
        let (card, instance) = (agent.card().clone(), Arc::new(Mutex::new(agent)));
        // The policy of a run and its orchestrator have parts in a call that are not the agent's.
        let mut called = card.clone().with_dispatch(Dispatch::Inline);
        called.function.approval = Approval::NotNeeded;
        called.function.required_roles.clear();

        let (lives, name) = (Arc::default(), card.id().clone());
        let model = FnModel::new(move |request| match request.conversation.entries().last() {
            Some(Entry::User(_)) => Line::call(&name, input.clone()),
            _ => Line::text("done"),
        });
        let witness = Witness { instance: instance.clone(), card: called, lives: Arc::clone(&lives) };
        let desk = MainAgent::builder("conformance", model).sub_agent(witness).journal(Forgetful).build();
        let desk = desk.unwrap_or_else(|invalid| panic!("a model can call it: {invalid}"));
        Self { card, make, instance, desk, lives }
    }

    /// From here on another instance lives.
    pub(super) fn renew(&self) {
        *self.instance.lock().unwrap() = (self.make)();
    }

    /// The instance that lives now.
    pub(super) fn agent(&self) -> Arc<dyn SubAgent> {
        self.instance.lock().unwrap().clone()
    }

    /// Calls the agent, and drops nothing.
    pub(super) async fn begin(&self, caller: Caller, recorder: &Recorder) -> Lived {
        let ran = ends("an agent that begins", self.run(caller, recorder)).await;
        self.lived(ran)
    }

    /// The run in which the agent is called.
    pub(super) async fn run(&self, caller: Caller, recorder: &Recorder) -> Result<RunOutcome, Box<Failure>> {
        self.desk.run(Request::new("Go").with_options(observed_by(recorder)), caller).await
    }

    /// Goes on with a run, as another process would, with an answer if there is one.
    ///
    /// # Errors
    ///
    /// When nobody may give this answer.
    pub(super) async fn resume(
        &self,
        state: &RunState,
        answer: Option<Answer>,
        recorder: &Recorder,
    ) -> Result<Lived, AgentError> {
        let state = reread("the state of the run", state);
        let mut resume = Resume::new(state.clone(), state.caller().clone()).with_options(observed_by(recorder));
        resume.answers.extend(answer);
        match ends("an agent that is resumed", self.desk.resume(resume)).await {
            Err(failure) if matches!(failure.error, AgentError::Resume(_)) => Err(failure.error),
            ran => Ok(self.lived(ran)),
        }
    }

    /// The agent's last life, unless nobody called it.
    pub(super) fn last_life(&self) -> Option<Life> {
        self.lives.lock().unwrap().pop()
    }

    fn lived(&self, ran: Result<RunOutcome, Box<Failure>>) -> Lived {
        let life = self.last_life().unwrap_or_else(|| panic!("the run called its agent; it did not: {ran:?}"));
        assert!(life.ended.is_some(), "an agent ends with an outcome or an error; it panicked or was stopped: {ran:?}");
        let state = match ran {
            Ok(RunOutcome::Suspended(suspended)) => Some(suspended.state),
            _ => None,
        };
        Lived { life, state }
    }
}

fn observed_by(recorder: &Recorder) -> RunOptions {
    RunOptions::default().with_observer(recorder.clone())
}

/// A journal that keeps nothing: the suite looks at what the agent itself does when a state is resumed twice.
struct Forgetful;

#[async_trait]
impl Journal for Forgetful {
    async fn begin(&self, _: &CallKey) -> Result<Begun, JournalError> {
        Ok(Begun::Fresh)
    }

    async fn finish(&self, _: &CallKey, _: &CallResult) -> Result<(), JournalError> {
        Ok(())
    }
}

/// The agent that is checked, as the host calls it.
struct Witness {
    instance: Instance,
    card: AgentCard,
    lives: Arc<Mutex<Vec<Life>>>,
}

impl Witness {
    fn agent(&self) -> Arc<dyn SubAgent> {
        self.instance.lock().unwrap().clone()
    }
}

#[async_trait]
impl SubAgent for Witness {
    fn card(&self) -> &AgentCard {
        &self.card
    }

    async fn run(&self, begin: Begin, cx: &RunContext) -> Result<Outcome, AgentError> {
        let place = {
            let mut lives = self.lives.lock().unwrap();
            lives.push(Life { cx: cx.clone(), ended: None });
            lives.len() - 1
        };
        let ended = self.agent().run(begin, cx).await;
        if let Some(life) = self.lives.lock().unwrap().get_mut(place) {
            life.ended = Some(ended.as_ref().map(Clone::clone).map_err(AgentError::code));
        }
        ended
    }

    fn migrate(&self, state: AgentState) -> Result<AgentState, AgentError> {
        self.agent().migrate(state)
    }

    fn may_answer(&self, pending: &Pending, by: &Caller) -> bool {
        self.agent().may_answer(pending, by)
    }
}
