//! One step of a plan: a model, with a credential and limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    ChatModel, ChatRequest, Entry, FunctionChoice, InvalidValue, Level, Metering, ModelInfo, Tokens, UserPart,
};

use super::limiter::StepLimits;
use super::rules::{Rules, RulesModel};
use super::targets::{Target, Targets};

/// One step of a plan of fallbacks: a model, the credential that it is asked with, and limits.
///
/// A model is a step by itself: [`step`](super::FallbackBuilder::step) takes either.
#[derive(Clone)]
pub struct PlanStep {
    name: Option<Arc<str>>,
    rules: Option<Arc<dyn Rules>>,
    model: Arc<dyn ChatModel>,
    credential: Arc<str>,
    limits: StepLimits,
    first_token: Option<Duration>,
    time: Option<Duration>,
}

impl PlanStep {
    /// A step of this model, named after it, with the credential `default` and without limits.
    pub fn new(model: impl ChatModel + 'static) -> Self {
        Self {
            name: None,
            rules: RulesModel::rules_of(&model),
            model: Arc::new(model),
            credential: "default".into(),
            limits: StepLimits::default(),
            first_token: None,
            time: None,
        }
    }

    /// The same under another name, which events and provenance have. Names differ within a plan.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same with the name of the credential that the model is asked with: not the credential itself. A credential that is
    /// refused or used up is dead for all models of the provider that are asked with it.
    #[must_use]
    pub fn with_credential(mut self, name: impl Into<Arc<str>>) -> Self {
        self.credential = name.into();
        self
    }

    /// The same within these limits, which all steps with this model and credential share.
    #[must_use]
    pub fn with_limits(mut self, limits: StepLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The same, given up when nothing came after this time. With it and without, it is given up when it is silent for half of the
    /// time that is left until the deadline, while another model could be asked.
    #[must_use]
    pub fn with_first_token(mut self, time: Duration) -> Self {
        self.first_token = Some(time);
        self
    }

    /// The same, given up when its answer is not complete after this time, in which a reader may pause too.
    #[must_use]
    pub fn with_time(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }
}

impl<M: ChatModel + 'static> From<M> for PlanStep {
    fn from(model: M) -> Self {
        Self::new(model)
    }
}

impl fmt::Debug for PlanStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlanStep")
            .field("name", &self.name)
            .field("model", &self.model.info().name)
            .field("credential", &self.credential)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// An answer that may not even have so many tokens is of no use.
const LEAST_OUTPUT: Tokens = Tokens(64);

/// A step of a plan that was checked.
pub(super) struct CheckedStep {
    pub(super) name: Arc<str>,
    /// The rules of a [`RulesModel`], for whoever asks more of them than a model.
    pub(super) rules: Option<Arc<dyn Rules>>,
    pub(super) model: Arc<dyn ChatModel>,
    /// `None` for rules, which have no limits and do not fail by themselves.
    pub(super) target: Option<Arc<Target>>,
    pub(super) first_token: Option<Duration>,
    pub(super) time: Option<Duration>,
}

impl CheckedStep {
    pub(super) fn new(step: PlanStep, targets: &Targets) -> Result<Self, InvalidValue> {
        let PlanStep { name, rules, model, credential, limits, first_token, time } = step;
        let info = model.info();
        let name = name.unwrap_or_else(|| info.name.clone());
        if info.metering == Metering::Own {
            return Err(InvalidValue::new("step", name, "a model; the steps of another plan belong into this one"));
        }
        for (field, text) in [("step", &name), ("credential", &credential)] {
            if text.trim().is_empty() {
                return Err(InvalidValue::new(field, text, "a name"));
            }
        }
        for (field, time) in [("first_token", first_token), ("time", time)] {
            if time.is_some_and(|time| time.is_zero()) {
                return Err(InvalidValue::new(format!("{name}: {field}"), "0", "a time in which something can come"));
            }
        }
        let target = match info.level {
            Level::Model => Some(targets.target(info, &credential, &limits)?),
            _ => None,
        };
        Ok(Self { name, rules, model, target, first_token, time })
    }

    pub(super) fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    pub(super) fn is_model(&self) -> bool {
        self.target.is_some()
    }

    /// Whether a request that reads so many tokens leaves no room for an answer.
    pub(super) fn is_too_small_for(&self, request: &ChatRequest, input: Tokens) -> bool {
        let Some(window) = self.info().context_window else { return false };
        let output = request.max_output.or(self.info().max_output).unwrap_or(LEAST_OUTPUT);
        input.plus(output.min(LEAST_OUTPUT)) > window
    }

    /// Whether it cannot do what the request needs.
    pub(super) fn is_unable(&self, request: &ChatRequest) -> bool {
        let capabilities = &self.info().capabilities;
        let calls = !request.functions.is_empty() && request.choice != FunctionChoice::None;
        (calls && capabilities.functions == Some(false)) || (capabilities.images == Some(false) && has_images(request))
    }
}

fn has_images(request: &ChatRequest) -> bool {
    let is_image = |part: &UserPart| matches!(part, UserPart::Attachment(it) if it.media_type.starts_with("image/"));
    request
        .conversation
        .entries()
        .iter()
        .any(|entry| matches!(entry, Entry::User(said) if said.parts.iter().any(is_image)))
}
