//! Building an agent: everything is checked once, here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MainAgent;
use super::bounds::Bounds;
use super::route::Routing;
use super::step::{Stage, Step};
use super::table::{Placed, StepTable};
use crate::agent_error::AgentError;
use crate::amount::Tokens;
use crate::budget::Limits;
use crate::dead_letters::DeadLetters;
use crate::error::InvalidValue;
use crate::fit::{ContextPolicy, PassThrough};
use crate::function::{Effect, FunctionSpec};
use crate::id::AgentVersion;
use crate::identity::Profile;
use crate::journal::{Journal, MemoryJournal};
use crate::model::{ChatModel, ModelOptions, Restarts};
use crate::observer::Observer;
use crate::policy::Policy;
use crate::recovery::{NoRecovery, Recovery};
use crate::route::Router;
use crate::schema::Schema;
use crate::sub_agent::{AgentCard, AgentState, Dispatch, SubAgent};
use crate::tool::Tool;

/// A built agent: immutable, shared by all its runs.
pub(super) struct Agent {
    pub(super) card: AgentCard,
    pub(super) model: Arc<dyn ChatModel>,
    pub(super) instructions: Arc<str>,
    pub(super) specs: Arc<[FunctionSpec]>,
    pub(super) functions: BTreeMap<Arc<str>, Callable>,
    pub(super) answer: Option<Schema>,
    pub(super) max_output: Option<Tokens>,
    pub(super) restarts: Restarts,
    pub(super) options: Arc<ModelOptions>,
    pub(super) bounds: Bounds,
    pub(super) table: StepTable,
    /// `None` leaves it to the policy of the run.
    pub(super) policy: Option<Arc<dyn Policy>>,
    pub(super) routing: Option<Routing>,
    pub(super) context: Arc<dyn ContextPolicy>,
    pub(super) recovery: Arc<dyn Recovery>,
    pub(super) dead_letters: Option<Arc<dyn DeadLetters>>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) observers: Vec<Arc<dyn Observer>>,
    pub(super) profile: Profile,
    pub(super) migrate: Option<Migrate>,
}

/// Brings a state of another version over.
type Migrate = Arc<dyn Fn(AgentState) -> Result<AgentState, AgentError> + Send + Sync>;

/// Something that the model can call.
#[derive(Clone)]
pub(super) enum Callable {
    Tool(Arc<dyn Tool>),
    Agent(Arc<dyn SubAgent>),
}

impl Callable {
    pub(super) fn spec(&self) -> &FunctionSpec {
        match self {
            Self::Tool(tool) => tool.spec(),
            Self::Agent(agent) => &agent.card().function,
        }
    }
}

/// What an agent is asked as a Sub-Agent, unless [`MainAgentBuilder::input`] says otherwise.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct PlainRequest {
    /// What is to be done, in full sentences, with everything that is needed to do it.
    request: String,
}

/// Collects the parts of a [`MainAgent`]. Takes values: there is no `Arc` to write.
#[must_use]
pub struct MainAgentBuilder {
    card: AgentCard,
    model: Arc<dyn ChatModel>,
    instructions: Arc<str>,
    functions: Vec<Callable>,
    answer: Option<Schema>,
    max_output: Option<Tokens>,
    restarts: Restarts,
    options: ModelOptions,
    bounds: Bounds,
    steps: Vec<Placed>,
    policy: Option<Arc<dyn Policy>>,
    router: Option<Arc<dyn Router>>,
    dispatches: bool,
    context: Arc<dyn ContextPolicy>,
    recovery: Arc<dyn Recovery>,
    dead_letters: Option<Arc<dyn DeadLetters>>,
    journal: Option<Arc<dyn Journal>>,
    observers: Vec<Arc<dyn Observer>>,
    profile: Profile,
    migrate: Option<Migrate>,
}

impl MainAgentBuilder {
    pub(super) fn new(name: Arc<str>, model: Arc<dyn ChatModel>) -> Self {
        let description = format!("Works on requests that concern `{name}`");
        let function =
            FunctionSpec::new(name, description, Schema::of::<PlainRequest>()).with_effect(Effect::Delegated);
        Self {
            card: AgentCard::new(function),
            model,
            instructions: "".into(),
            functions: Vec::new(),
            answer: None,
            max_output: None,
            restarts: Restarts::Allowed,
            options: ModelOptions::default(),
            bounds: Bounds::default(),
            steps: Vec::new(),
            policy: None,
            router: None,
            dispatches: true,
            context: Arc::new(PassThrough),
            recovery: Arc::new(NoRecovery),
            dead_letters: None,
            journal: None,
            observers: Vec::new(),
            profile: Profile::default(),
            migrate: None,
        }
    }

    /// Adds a tool.
    pub fn tool(mut self, tool: impl Tool + 'static) -> Self {
        self.functions.push(Callable::Tool(Arc::new(tool)));
        self
    }

    /// Adds a Sub-Agent.
    pub fn sub_agent(mut self, agent: impl SubAgent + 'static) -> Self {
        self.functions.push(Callable::Agent(Arc::new(agent)));
        self
    }

    /// What the agent is told before everything else: its system prompt. It never leaves the agent.
    pub fn instructions(mut self, instructions: impl Into<Arc<str>>) -> Self {
        self.instructions = instructions.into();
        self
    }

    /// Wants the final answer as a value of this type: the model is given its schema, and an answer that does not fit is sent back.
    pub fn answer<T: JsonSchema>(mut self) -> Self {
        self.answer = Some(Schema::of::<T>());
        self
    }

    /// How many tokens the model may write in one answer.
    pub fn max_output(mut self, tokens: Tokens) -> Self {
        self.max_output = Some(tokens);
        self
    }

    /// Fails when an answer is cut after it has begun, instead of letting another attempt begin it anew. For hosts whose readers
    /// cannot take back what they have shown.
    pub fn without_restarts(mut self) -> Self {
        self.restarts = Restarts::Forbidden;
        self
    }

    /// How the model answers: temperature, seed, and the like.
    pub fn model_options(mut self, options: ModelOptions) -> Self {
        self.options = options;
        self
    }

    /// The bounds of each run's shape.
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// The ceilings of each run's spend, unless a request brings its own. Default: 10 minutes, and nothing else.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.card.limits = limits;
        self
    }

    /// Adds a step before the loop's own step of `stage`.
    pub fn step_before(mut self, stage: Stage, step: impl Step + 'static) -> Self {
        self.steps.push(Placed { stage, after: false, step: Arc::new(step) });
        self
    }

    /// Adds a step after the loop's own step of `stage`.
    pub fn step_after(mut self, stage: Stage, step: impl Step + 'static) -> Self {
        self.steps.push(Placed { stage, after: true, step: Arc::new(step) });
        self
    }

    /// The policy, instead of [`HintPolicy`](crate::HintPolicy). Below another agent it is asked beside that agent's.
    pub fn policy(mut self, policy: impl Policy + 'static) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// Asks this router which Sub-Agents a request is for, before the model is asked.
    ///
    /// The model sees its tools and the best Sub-Agents, [`Bounds::shortlist`] at most, and the caller can use no others than the
    /// router [lets him](Router::may_use). Where the decision is [clear](crate::RouteDecision::clear), and the input of the Sub-Agents
    /// is one text and they change nothing by themselves, they are called at once, through the policy as always: one call of the
    /// model less. A follow-up gets what was said before with it.
    ///
    /// A Sub-Agent that a request is not for [hands it back](AgentError::hand_back): it is not shown again in the run, and after
    /// [`Bounds::hand_backs`] of them no one is.
    pub fn router(mut self, router: impl Router + 'static) -> Self {
        self.router = Some(Arc::new(router));
        self
    }

    /// Leaves every request to the model, with the router's short list.
    pub fn without_dispatch(mut self) -> Self {
        self.dispatches = false;
        self
    }

    /// How conversations are made to fit, instead of [`PassThrough`].
    pub fn context_policy(mut self, context: impl ContextPolicy + 'static) -> Self {
        self.context = Arc::new(context);
        self
    }

    /// What happens when the agent cannot do its task, instead of [`NoRecovery`].
    pub fn recovery(mut self, recovery: impl Recovery + 'static) -> Self {
        self.recovery = Arc::new(recovery);
        self
    }

    /// Keeps runs that fail for good as dead letters, to be looked at and [replayed](super::MainAgent::replay): all but those that
    /// were cancelled, and those that asked for what was refused or makes no sense.
    pub fn dead_letters(mut self, letters: impl DeadLetters + 'static) -> Self {
        self.dead_letters = Some(Arc::new(letters));
        self
    }

    /// Where results of calls with effects are kept, instead of a [`MemoryJournal`]. Sub-Agents use the Main Agent's.
    pub fn journal(mut self, journal: impl Journal + 'static) -> Self {
        self.journal = Some(Arc::new(journal));
        self
    }

    /// Adds an observer of all runs that the agent is the Main Agent of, with everything below it. Events of an agent that works as
    /// a Sub-Agent go to the observers of its Main Agent.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// The versions that events and spans carry.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The agent's version. A state that another version saved is refused unless [`migrate`](Self::migrate) brings it over.
    pub fn version(mut self, version: AgentVersion) -> Self {
        self.card.version = version;
        self
    }

    /// Brings states of other versions over: sets `state.version` and changes what has to change.
    pub fn migrate(
        mut self,
        migrate: impl Fn(AgentState) -> Result<AgentState, AgentError> + Send + Sync + 'static,
    ) -> Self {
        self.migrate = Some(Arc::new(migrate));
        self
    }

    /// As a Sub-Agent: what it does and when to use it, for the parent's model.
    pub fn description(mut self, description: impl Into<Arc<str>>) -> Self {
        self.card.function.description = description.into();
        self
    }

    /// As a Sub-Agent: a request that calls for it.
    pub fn example(mut self, request: impl Into<String>) -> Self {
        self.card.function.examples.push(request.into());
        self
    }

    /// As a Sub-Agent: typed input instead of `{"request": text}`. The model gets it as JSON.
    pub fn input<T: JsonSchema>(mut self) -> Self {
        self.card.function.input = Schema::of::<T>();
        self
    }

    /// As a Sub-Agent: the domain it belongs to.
    pub fn domain(mut self, domain: impl Into<Arc<str>>) -> Self {
        self.card.domain = Some(domain.into());
        self
    }

    /// As a Sub-Agent: where it runs.
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.card.dispatch = dispatch;
        self
    }

    /// The agent.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] that names the field: a name that models cannot call or that is used twice, a schema that is none or not
    /// of an object, a bound of zero with which nothing could run.
    pub fn build(self) -> Result<MainAgent, InvalidValue> {
        self.card.function.ensure_valid()?;
        self.bounds.ensure_valid()?;
        if let Some(answer) = &self.answer {
            answer.ensure_valid()?;
        }
        let mut functions = BTreeMap::new();
        for callable in &self.functions {
            let spec = callable.spec();
            spec.ensure_valid()?;
            if functions.insert(spec.name.clone(), callable.clone()).is_some() {
                return Err(InvalidValue::new(
                    "function name",
                    &spec.name,
                    "a name that no other function of the agent has",
                ));
            }
        }
        let mut card = self.card;
        if card.function.output.is_none() {
            card.function.output.clone_from(&self.answer);
        }
        let agent = Agent {
            card,
            model: self.model,
            instructions: self.instructions,
            specs: self.functions.iter().map(|callable| callable.spec().clone()).collect(),
            functions,
            answer: self.answer,
            max_output: self.max_output,
            restarts: self.restarts,
            options: Arc::new(self.options),
            bounds: self.bounds,
            table: StepTable::new(&self.steps)?,
            policy: self.policy,
            routing: self.router.map(|router| Routing { router, dispatches: self.dispatches }),
            context: self.context,
            recovery: self.recovery,
            dead_letters: self.dead_letters,
            journal: self.journal.unwrap_or_else(|| Arc::new(MemoryJournal::new())),
            observers: self.observers,
            profile: self.profile,
            migrate: self.migrate,
        };
        Ok(MainAgent { agent: Arc::new(agent) })
    }
}

impl fmt::Debug for MainAgentBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MainAgentBuilder").field("card", &self.card).finish_non_exhaustive()
    }
}
