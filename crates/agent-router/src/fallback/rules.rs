//! Rules of the host that answer in a model's place.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use agent_core::{
    ChatModel, ChatRequest, Chunk, Conversation, Entry, ErrorCode, Finish, Level, ModelError, ModelErrorClass,
    ModelInfo, ModelStream, Price, RunContext, TenantId,
};
use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use serde_json::Value;

/// Rules of the host that answer in a model's place: a [`DecisionTable`](super::DecisionTable), or code, by [`rules`].
///
/// They are a step of a plan as a [`RulesModel`], and answer for a whole agent in a [`TableRecovery`](super::TableRecovery). An answer
/// is marked as theirs.
#[async_trait]
pub trait Rules: Send + Sync {
    /// The answer: text, or a value of the agent's answer type. `None` when no rule fits.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await.
    async fn answer(&self, asked: &Asked<'_>) -> Option<Value>;
}

/// What rules are asked.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Asked<'a> {
    /// What the user said last.
    pub message: &'a str,
    /// Everything that was said.
    pub conversation: &'a Conversation,
    /// On behalf of whom.
    pub tenant: &'a TenantId,
    /// Why rules are asked, where that is known: they are the agent's recovery.
    pub cause: Option<&'a ErrorCode>,
}

impl<'a> Asked<'a> {
    /// A question about this message, the last one of the conversation.
    #[must_use]
    pub const fn new(message: &'a str, conversation: &'a Conversation, tenant: &'a TenantId) -> Self {
        Self { message, conversation, tenant, cause: None }
    }

    /// The same after this failure.
    #[must_use]
    pub const fn with_cause(mut self, cause: &'a ErrorCode) -> Self {
        self.cause = Some(cause);
        self
    }
}

/// Rules as code.
///
/// ```
/// use agent_router::rules;
///
/// let closed = rules(|asked| asked.message.contains("open").then(|| "We open at nine.".into()));
/// ```
pub fn rules<F>(answer: F) -> FnRules<F>
where
    F: Fn(&Asked<'_>) -> Option<Value> + Send + Sync,
{
    FnRules { answer }
}

/// Rules as code: what [`rules`] makes.
#[derive(Clone, Copy)]
pub struct FnRules<F> {
    answer: F,
}

#[async_trait]
impl<F> Rules for FnRules<F>
where
    F: Fn(&Asked<'_>) -> Option<Value> + Send + Sync,
{
    async fn answer(&self, asked: &Asked<'_>) -> Option<Value> {
        (self.answer)(asked)
    }
}

impl<F> fmt::Debug for FnRules<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnRules").finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Rules + ?Sized> Rules for Arc<T> {
    async fn answer(&self, asked: &Asked<'_>) -> Option<Value> {
        (**self).answer(asked).await
    }
}

/// Rules as a step of a plan: a model of [`Level::Rule`], which costs nothing.
///
/// It calls no functions. Where no rule fits it fails, and the plan goes on.
#[derive(Clone)]
pub struct RulesModel {
    info: ModelInfo,
    rules: Arc<dyn Rules>,
}

impl RulesModel {
    /// A model of these rules; `name` is how events and provenance name it.
    pub fn new(name: impl Into<Arc<str>>, rules: impl Rules + 'static) -> Self {
        let info = ModelInfo::new("adjutant", name).with_price(Price::FREE).with_level(Level::Rule);
        Self { info, rules: Arc::new(rules) }
    }

    /// The rules of a model, if it is one of these, shared or not.
    pub(super) fn rules_of(model: &dyn Any) -> Option<Arc<dyn Rules>> {
        let shared = || model.downcast_ref::<Arc<Self>>().map(|shared| &**shared);
        model.downcast_ref::<Self>().or_else(shared).map(|model| model.rules.clone())
    }
}

#[async_trait]
impl ChatModel for RulesModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest, cx: &RunContext) -> Result<ModelStream, ModelError> {
        // Rules cannot mend an answer: they are asked what was asked first.
        let entries = request.conversation.entries();
        let entries = entries.get(..entries.len().saturating_sub(request.repairs)).unwrap_or(entries);
        let message = entries.iter().rev().find_map(|entry| match entry {
            Entry::User(message) => Some(message.joined_text()),
            _ => None,
        });
        let message = message.unwrap_or_default();
        let asked = Asked::new(&message, &request.conversation, &cx.caller().tenant);
        let Some(answer) = self.rules.answer(&asked).await else {
            return Err(ModelError::new(ModelErrorClass::Empty, "no rule fits"));
        };
        let text = match answer {
            Value::String(text) => text,
            value => value.to_string(),
        };
        Ok(stream::iter([Ok(Chunk::Text(text)), Ok(Chunk::Finish(Finish::default()))]).boxed())
    }
}

impl fmt::Debug for RulesModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RulesModel").field("name", &self.info.name).finish_non_exhaustive()
    }
}
