//! Functions that something other than a Main Agent calls, with all that a call goes through: schema, policy, people, journal, time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bounds::Bounds;
use super::builder::Callable;
use super::call_state::{Progress, Slot};
use super::slot::{Earlier, Job, Settlement, work};
use super::stop::Stop;
use crate::agent_error::AgentError;
use crate::caller::Caller;
use crate::error::InvalidValue;
use crate::function::FunctionSpec;
use crate::message::{Call, CallResult};
use crate::path::CallPosition;
use crate::pending::{Answer, Pending};
use crate::run_context::RunContext;
use crate::schema::Schema;
use crate::sub_agent::{AgentCard, AgentState, SubAgent, Suspension};
use crate::tool::Tool;

/// The version of the saved form.
const SCHEMA: u32 = 1;

/// The name of the saved form.
const NAME: &str = "toolbox";

/// The place of the call below whatever makes it.
const PLACE: CallPosition = CallPosition { turn: 0, slot: 0 };

/// Tools and Sub-Agents that nodes of a graph call: see [`graph::calls`](crate::graph::calls).
#[derive(Clone, Default)]
pub struct Toolbox {
    functions: BTreeMap<Arc<str>, Callable>,
    bounds: Bounds,
}

/// How far a call came.
pub(crate) enum Called {
    /// Its place, as its maker told it, and its result.
    Done(u32, CallResult),
    Suspended(Suspension),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Saved {
    place: u32,
    call: Call,
    slot: Slot,
    /// Its result, where it had one when it was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made: Option<CallResult>,
}

impl Toolbox {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more tool, in place of a function of the same name.
    #[must_use]
    pub fn tool(self, tool: impl Tool + 'static) -> Self {
        self.with(Callable::Tool(Arc::new(tool)))
    }

    /// The same with one more Sub-Agent, in place of a function of the same name.
    #[must_use]
    pub fn sub_agent(self, agent: impl SubAgent + 'static) -> Self {
        self.with(Callable::Agent(Arc::new(agent)))
    }

    /// The same with other bounds on its calls: on their time, their results and how deep they nest.
    #[must_use]
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// What a model reads of its functions, by their names.
    #[must_use]
    pub fn specs(&self) -> Arc<[FunctionSpec]> {
        self.functions.values().map(|function| function.spec().clone()).collect()
    }

    /// # Errors
    ///
    /// [`InvalidValue`] that names what is wrong with a function.
    pub(crate) fn ensure_valid(&self) -> Result<(), InvalidValue> {
        self.bounds.ensure_valid()?;
        self.functions.values().try_for_each(|function| function.spec().ensure_valid())
    }

    fn with(mut self, function: Callable) -> Self {
        self.functions.insert(function.spec().name.clone(), function);
        self
    }

    /// Whether the Sub-Agents in it let `by` answer `pending`.
    pub(crate) fn may_answer(&self, pending: &Pending, by: &Caller) -> bool {
        let mut agents = pending.agents.iter().filter_map(|name| self.functions.get(name));
        agents.all(|function| match function {
            Callable::Agent(agent) => agent.may_answer(pending, by),
            Callable::Tool(_) => true,
        })
    }

    /// Makes a call, whose place among others is its maker's own.
    pub(crate) async fn start(&self, place: u32, call: Call, cx: &RunContext) -> Result<Called, AgentError> {
        self.work(Saved { place, call, slot: Slot::Ready(Progress::default()), made: None }, cx).await
    }

    /// Goes on with one that waited, or was stopped.
    pub(crate) async fn resume(
        &self,
        suspended: Suspension,
        answers: Vec<Answer>,
        cx: &RunContext,
    ) -> Result<Called, AgentError> {
        suspended.state.ensure_fits(&card(), SCHEMA)?;
        let unreadable = |problem: String| AgentError::unreadable_state(&suspended.state, problem);
        let mut saved = Saved::deserialize(&suspended.state.body).map_err(|problem| unreadable(problem.to_string()))?;
        for answer in answers {
            match &mut saved.slot {
                Slot::Waits(call) if call.pending.id == answer.pending => call.answer = Some(answer),
                Slot::Child(call) => call.answers.push(answer),
                _ => return Err(unreadable(format!("nothing waits for {}", answer.pending))),
            }
        }
        self.work(saved, cx).await
    }

    async fn work(&self, saved: Saved, cx: &RunContext) -> Result<Called, AgentError> {
        if let Some(result) = saved.made {
            return Ok(Called::Done(saved.place, result));
        }
        let (name, arguments) = (saved.call.name.clone(), saved.call.arguments.clone());
        let job = Job {
            position: PLACE,
            arguments,
            is_cut: false,
            slot: saved.slot.clone(),
            earlier: Earlier::default(),
            calls_of_turn: 1,
        };
        let mut working = Working { cx, saved, ended: false };
        let (_, worked) = work(&self.functions, |_| true, &self.bounds, &name, job, cx).await;
        match worked? {
            Settlement::Settled(result) => {
                working.ended = true;
                Ok(Called::Done(working.saved.place, result))
            }
            Settlement::Unkept(result, error) => {
                working.saved.made = Some(result);
                Err(error)
            }
            Settlement::Open(slot) => {
                working.ended = true;
                working.saved.slot = slot;
                Ok(Called::Suspended(working.saved.suspension()?))
            }
        }
    }
}

impl fmt::Debug for Toolbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Toolbox").field("functions", &self.functions.keys()).finish_non_exhaustive()
    }
}

/// Names calls in saved states.
fn card() -> AgentCard {
    AgentCard::new(FunctionSpec::new(NAME, "", Schema::object()))
}

impl Saved {
    fn suspension(&self) -> Result<Suspension, AgentError> {
        Ok(Suspension {
            state: AgentState::new(&card(), SCHEMA, serde_json::to_value(self).map_err(AgentError::internal)?),
            pending: self.slot.pending().cloned().collect(),
            runnable: self.made.is_some() || self.slot.has_work(),
        })
    }
}

/// A call at work. When it is stopped with its run, or the run fails, what is known of it is kept for whoever made it.
struct Working<'a> {
    cx: &'a RunContext,
    saved: Saved,
    ended: bool,
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        match self.cx.run().stopped().take(&self.cx.path().child(PLACE)) {
            Some(Stop::At(slot)) => self.saved.slot = slot,
            Some(Stop::Made(result)) => self.saved.made = Some(result),
            Some(Stop::Agent(_)) | None => {}
        }
        if let Ok(left) = self.saved.suspension() {
            self.cx.run().stopped().put_agent(self.cx.path().clone(), left);
        }
    }
}
