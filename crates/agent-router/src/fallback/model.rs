//! The model that is a plan of models.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_core::{
    Capabilities, ChatModel, ChatRequest, InvalidValue, Level, Metering, ModelError, ModelInfo, ModelStream, RunContext,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::step::{CheckedStep, PlanStep};
use super::table::FailureTable;
use super::targets::Targets;

/// A model that is a plan of models: steps in order, each asked when those before it cannot answer, then rules, then a person.
///
/// All steps share one number of attempts and one deadline, those of the run: [`RunContext::attempts`] and
/// [`RunContext::deadline`]. What follows which failure is in the [`FailureTable`]. Each attempt reserves and settles budget by
/// itself, and is told in events, spans and the answer's [`Provenance`](agent_core::Provenance) with the name of its step.
///
/// - A step is left out, and nothing is sent, while its circuit breaker is open, while it cools off, when its window is too small, when
///   its credential is dead, and when its limits leave no place in time.
/// - What a model says is held back until something of it is to be read; then the model is committed to. When it fails after that,
///   the next one begins anew if the request [allows it](ChatRequest::restarts), which the Main Agent's does; texts are never joined.
/// - Nothing is waited for that cannot be there before the deadline. When another step can answer now, only short times are waited. The
///   end of the time is kept for rules or a person, where the plan has them.
/// - A model whose answer does not fit repairs it, and those after it follow: [`ChatRequest::bad_answers`].
/// - Rules need no attempt and no budget, so that they can answer when nothing of these is left.
/// - It never suspends and never shortens a conversation: it fails as [`NeedsHuman`](agent_core::ModelErrorClass::NeedsHuman) or
///   [`ContextOverflow`](agent_core::ModelErrorClass::ContextOverflow), and the Main Agent does that.
/// - Whoever holds a stream and does not read it keeps the place of its call.
/// - A model that panics has failed as [`Panicked`](agent_core::ModelErrorClass::Panicked), and the next one is asked.
///
/// ```
/// use agent_core::{Caller, MainAgent};
/// use agent_router::{FallbackModel, RuleModel};
/// # use testkit::{Line, ScriptedModel};
/// # use agent_core::ModelErrorClass;
/// # let large = ScriptedModel::new([Line::fails(ModelErrorClass::Auth)]);
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let plan = FallbackModel::builder("assistant").step(large).step(RuleModel::new()).human("Please answer.").build()?;
/// let desk = MainAgent::builder("desk", plan).build()?;
/// let report = desk.run("What can you do?", Caller::new("acme", "ann")?).await?.into_report().unwrap();
/// assert_eq!(report.provenance.fallback_path(), "model>rule");
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct FallbackModel {
    plan: Arc<Plan>,
}

/// Makes a [`FallbackModel`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct FallbackBuilder {
    name: Arc<str>,
    steps: Vec<PlanStep>,
    human: Option<Arc<str>>,
    table: FailureTable,
    waits: Waits,
    targets: Option<Targets>,
    seed: Option<u64>,
}

/// How long is waited between attempts. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Waits {
    /// Where backoff begins: the first wait is random up to this. Each further one's bound is the double.
    pub backoff_ms: u64,
    /// The largest bound of a backoff.
    pub longest_backoff_ms: u64,
    /// How long is waited for a step while another one could be asked, and no longer than half of the time that is left.
    pub patience_ms: u64,
    /// How long is waited, all together, when no step can be asked now. The queue of a step has a longest wait of its own,
    /// [`StepLimits::with_longest_wait`](super::StepLimits::with_longest_wait).
    pub longest_ms: u64,
}

impl Default for Waits {
    fn default() -> Self {
        Self { backoff_ms: 250, longest_backoff_ms: 8_000, patience_ms: 2_000, longest_ms: 60_000 }
    }
}

/// A plan that was checked.
pub(super) struct Plan {
    pub(super) info: ModelInfo,
    pub(super) steps: Vec<CheckedStep>,
    pub(super) human: Option<Arc<str>>,
    pub(super) table: FailureTable,
    pub(super) waits: Waits,
    random: Mutex<fastrand::Rng>,
    targets: Targets,
}

impl FallbackModel {
    /// Begins a plan; `name` is how events and spans name it.
    pub fn builder(name: impl Into<Arc<str>>) -> FallbackBuilder {
        FallbackBuilder {
            name: name.into(),
            steps: Vec::new(),
            human: None,
            table: FailureTable::default(),
            waits: Waits::default(),
            targets: None,
            seed: None,
        }
    }

    /// What is known about the models of the plan.
    #[must_use]
    pub fn targets(&self) -> &Targets {
        &self.plan.targets
    }

    /// What follows which failure.
    #[must_use]
    pub fn table(&self) -> &FailureTable {
        &self.plan.table
    }

    /// The steps that are rules, in order.
    pub(super) fn rules(&self) -> impl Iterator<Item = &CheckedStep> {
        self.plan.steps.iter().filter(|step| !step.is_model())
    }

    /// What a person is asked at the end of the plan, if one is.
    pub(super) fn human(&self) -> Option<Arc<str>> {
        self.plan.human.clone()
    }

    /// The names of the steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.plan.steps.iter().map(|step| &*step.name)
    }
}

impl FallbackBuilder {
    /// Adds a step: a model, or a [`PlanStep`] with more to say about it. Rules are a step as well.
    pub fn step(mut self, step: impl Into<PlanStep>) -> Self {
        self.steps.push(step.into());
        self
    }

    /// Ends the plan with a person, who is asked this.
    pub fn human(mut self, question: impl Into<Arc<str>>) -> Self {
        self.human = Some(question.into());
        self
    }

    /// Decides by this table what follows which failure.
    pub fn table(mut self, table: FailureTable) -> Self {
        self.table = table;
        self
    }

    /// Waits so long between attempts.
    pub fn waits(mut self, waits: Waits) -> Self {
        self.waits = waits;
        self
    }

    /// Shares what is known about models with other plans.
    pub fn targets(mut self, targets: Targets) -> Self {
        self.targets = Some(targets);
        self
    }

    /// Waits for times that are random in the same way each time, for tests; breakers too, unless there are other
    /// [`targets`](Self::targets).
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The plan.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] for a plan with neither a step nor a person, for a blank name or question, for a time of zero, for two steps of one name, for a step that is a plan itself, and for limits that
    /// differ from those of another step with the same model and credential.
    pub fn build(self) -> Result<FallbackModel, InvalidValue> {
        let Self { name, steps, human, table, waits, targets, seed } = self;
        let seeded = || seed.map(Targets::seeded).unwrap_or_default();
        let targets = targets.unwrap_or_else(seeded);
        let steps = steps.into_iter().map(|step| CheckedStep::new(step, &targets));
        let steps = steps.collect::<Result<Vec<_>, _>>()?;
        let mut names = BTreeSet::new();
        if let Some(twice) = steps.iter().find(|step| !names.insert(&step.name)) {
            return Err(InvalidValue::new("step", &twice.name, "a name that no other step of the plan has"));
        }
        if steps.is_empty() && human.is_none() {
            return Err(InvalidValue::new("steps", 0, "at least one, or a person"));
        }
        let texts = [("name", Some(&name)), ("human", human.as_ref())];
        if let Some((field, text)) = texts.iter().find(|(_, text)| text.is_some_and(|text| text.trim().is_empty())) {
            return Err(InvalidValue::new(*field, text.map_or("", |text| &**text), "a text that is not blank"));
        }
        let info = info_of(name, &steps);
        let random = Mutex::new(seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed));
        Ok(FallbackModel { plan: Arc::new(Plan { info, steps, human, table, waits, random, targets }) })
    }
}

impl Plan {
    /// A random time up to the bound of the backoff before a step is asked for the `times`th time again.
    pub(super) fn backoff(&self, times: u32) -> Duration {
        let doubled = 1_u64.checked_shl(times.saturating_sub(1)).unwrap_or(u64::MAX);
        let bound = self.waits.backoff_ms.saturating_mul(doubled).min(self.waits.longest_backoff_ms);
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_millis(random.u64(0..=bound))
    }
}

/// What can be said of the plan as a model. The window is the largest one, if all are known: smaller ones are left out when they are
/// too small.
fn info_of(name: Arc<str>, steps: &[CheckedStep]) -> ModelInfo {
    let models = || steps.iter().filter(|step| step.is_model()).map(CheckedStep::info);
    let info = ModelInfo::new("adjutant", name).with_metering(Metering::Own);
    let level = match steps {
        [] => Level::Human,
        _ if models().next().is_some() => Level::Model,
        _ => Level::Rule,
    };
    let info = info.with_level(level).with_capabilities(common_capabilities(models()));
    let windows: Option<Vec<_>> = models().map(|model| model.context_window).collect();
    match windows.and_then(|windows| windows.into_iter().max()) {
        Some(window) => info.with_context_window(window),
        None => info,
    }
}

/// What all models are known to be able to do, or not.
fn common_capabilities<'a>(models: impl Iterator<Item = &'a ModelInfo> + Clone) -> Capabilities {
    let common = |of: fn(&Capabilities) -> Option<bool>| {
        let mut all = models.clone().map(|model| of(&model.capabilities));
        let first = all.next().flatten();
        first.filter(|first| all.all(|other| other == Some(*first)))
    };
    let mut capabilities = Capabilities::default();
    capabilities.functions = common(|model| model.functions);
    capabilities.parallel_calls = common(|model| model.parallel_calls);
    capabilities.answer_schema = common(|model| model.answer_schema);
    capabilities.images = common(|model| model.images);
    capabilities.reasoning = common(|model| model.reasoning);
    capabilities
}

#[async_trait]
impl ChatModel for FallbackModel {
    fn info(&self) -> &ModelInfo {
        &self.plan.info
    }

    async fn stream(&self, request: ChatRequest, cx: &RunContext) -> Result<ModelStream, ModelError> {
        Chain::begin(self.plan.clone(), request, cx.clone()).await
    }
}

impl fmt::Debug for FallbackModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackModel")
            .field("name", &self.plan.info.name)
            .field("steps", &self.steps().collect::<Vec<_>>())
            .field("human", &self.plan.human)
            .finish_non_exhaustive()
    }
}
