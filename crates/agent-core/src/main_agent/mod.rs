//! The Main Agent: a plain loop of named steps over one explicit state.

mod act;
mod admit;
mod bounds;
mod builder;
mod call_state;
mod conclude;
mod delegate;
mod drive;
mod fit;
mod handle;
mod invoke;
mod life;
mod nested;
mod options;
mod outcome;
mod record;
mod replay;
mod route;
mod run;
mod slot;
mod state;
mod step;
mod stop;
mod table;
mod think;
mod toolbox;
mod wire;

use std::fmt;
use std::sync::Arc;

pub use bounds::Bounds;
pub use builder::MainAgentBuilder;
pub(crate) use handle::Link;
pub use handle::RunHandle;
pub use options::{Request, Resume, RunOptions};
pub use outcome::{Failure, Report, RunOutcome, Suspended};
pub use replay::ReplayError;
pub use step::{Flow, Stage, Step, StepView};
pub(crate) use stop::StoppedCalls;
pub(crate) use toolbox::Called;
pub use toolbox::Toolbox;

use self::builder::Agent;
use self::life::Life;
use crate::caller::Caller;
use crate::model::ChatModel;
use crate::sub_agent::AgentCard;

/// An agent that understands a request, calls tools and Sub-Agents, and answers. Cheap to clone.
///
/// Its loop is `admit -> fit -> think -> act -> (again | conclude)`: the policy sees the request; the conversation is fitted into
/// the model's window; the model is asked; its calls are made, in parallel, each with exactly one result; until the model answers
/// and the answer is checked. Hosts add [`Step`]s of their own.
///
/// It is a [`SubAgent`](crate::SubAgent) too, so that domains nest.
///
/// ```
/// use agent_core::{Caller, CallError, MainAgent, RunOutcome, tool};
/// # use agent_core::{async_trait, Call, ChatModel, ChatRequest, Chunk, Entry, Finish, FinishReason, ModelError, ModelInfo};
/// # use agent_core::{ModelStream, Price, RunContext};
/// # struct Model(ModelInfo);
/// # #[async_trait]
/// # impl ChatModel for Model {
/// #     fn info(&self) -> &ModelInfo { &self.0 }
/// #     async fn stream(&self, request: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
/// #         let called = matches!(request.conversation.entries().last(), Some(Entry::Agent(_)));
/// #         let chunks = if called {
/// #             vec![Ok(Chunk::Text("It is on its way.".into())), Ok(Chunk::Finish(Finish::default()))]
/// #         } else {
/// #             vec![
/// #                 Ok(Chunk::CallStart { index: 0, id: "1".into(), name: "orders".into() }),
/// #                 Ok(Chunk::CallArguments { index: 0, text: r#"{"order": "A-1042"}"#.into() }),
/// #                 Ok(Chunk::Finish(Finish::new(FinishReason::Calls))),
/// #             ]
/// #         };
/// #         Ok(Box::pin(futures_util::stream::iter(chunks)))
/// #     }
/// # }
/// # let model = Model(ModelInfo::new("doc", "model").with_price(Price::FREE));
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Order {
///     order: String,
/// }
///
/// async fn orders(input: Order) -> Result<String, CallError> {
///     Ok(format!("{} left the warehouse", input.order))
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let desk = MainAgent::builder("desk", model).tool(tool("orders", "Looks an order up", orders)).build()?;
/// let outcome = desk.run("Where is A-1042?", Caller::new("acme", "ann")?).await?;
/// assert_eq!(outcome.to_string(), "It is on its way.");
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct MainAgent {
    agent: Arc<Agent>,
}

impl MainAgent {
    /// Begins an agent of this name that thinks with `model`.
    pub fn builder(name: impl Into<Arc<str>>, model: impl ChatModel + 'static) -> MainAgentBuilder {
        MainAgentBuilder::new(name.into(), Arc::new(model))
    }

    /// Works on a request, inline: within the caller's own task.
    ///
    /// # Errors
    ///
    /// [`Failure`], with a valid conversation of what was said until then, the cause and the spend.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops everything at once: model streams, calls, Sub-Agents. Budget is in-process and gone with it.
    /// Effects that had begun stand in the [`Journal`](crate::Journal). To stop a run and hear what it did, use
    /// [`start`](Self::start) or [`RunOptions::with_cancellation`].
    pub async fn run(&self, request: impl Into<Request>, caller: Caller) -> Result<RunOutcome, Box<Failure>> {
        let mut request = request.into();
        request.options.detach();
        let life = life::begin(&self.agent, request, caller)?;
        run::supervise(&self.agent, life, None).await
    }

    /// Goes on with a suspended run, inline.
    ///
    /// All answers are checked before anything happens; if one is refused, nothing changes.
    ///
    /// # Errors
    ///
    /// [`Failure`]; its error is [`AgentError::Resume`](crate::AgentError::Resume) when an answer was refused and
    /// [`AgentError::State`](crate::AgentError::State) when the state is not this agent's.
    ///
    /// # Cancel safety
    ///
    /// As for [`run`](Self::run).
    pub async fn resume(&self, mut resume: Resume) -> Result<RunOutcome, Box<Failure>> {
        resume.options.detach();
        let life = life::resume(&self.agent, resume)?;
        run::supervise(&self.agent, life, None).await
    }

    /// Works on a request in a task of its own, and gives a handle with the stream of events.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, as `tokio::spawn` does.
    #[must_use = "dropping the handle cancels the run"]
    pub fn start(&self, request: impl Into<Request>, caller: Caller) -> RunHandle {
        let mut request = request.into();
        let link = Link::new(&mut request.options);
        self.spawn(link, life::begin(&self.agent, request, caller))
    }

    /// Goes on with a suspended run in a task of its own.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, as `tokio::spawn` does.
    #[must_use = "dropping the handle cancels the run"]
    pub fn start_resume(&self, mut resume: Resume) -> RunHandle {
        let link = Link::new(&mut resume.options);
        self.spawn(link, life::resume(&self.agent, resume))
    }

    fn spawn(&self, link: Link, life: Result<Box<Life>, Box<Failure>>) -> RunHandle {
        let (agent, queue, finish) = (self.agent.clone(), link.queue(), link.finish_on_drop());
        link.spawn(async move {
            let _finish = finish;
            run::supervise(&agent, life?, Some(queue)).await
        })
    }

    /// The agent's card: what a parent's model reads of it, and its version.
    #[must_use]
    pub fn card(&self) -> &AgentCard {
        &self.agent.card
    }

    /// The loop's steps, the host's included, as a Mermaid flowchart.
    #[must_use]
    pub fn graph(&self) -> String {
        self.agent.table.to_mermaid()
    }
}

impl fmt::Debug for MainAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MainAgent")
            .field("card", &self.agent.card)
            .field("steps", &self.agent.table)
            .finish_non_exhaustive()
    }
}
