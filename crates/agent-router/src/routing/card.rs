//! What a router knows about an agent.

use std::collections::BTreeSet;
use std::sync::Arc;

use agent_core::{AgentCard, Caller, InvalidValue, Role, TenantId};
use serde::{Deserialize, Serialize};

/// What a router knows about an agent.
///
/// ```
/// use agent_router::{Grant, RouteCard};
///
/// let card = RouteCard::new("refunds", "Refunds orders and says how long that takes")
///     .with_domain(["support"])
///     .with_examples(["I want my money back", "where is my refund"])
///     .with_grant(Grant::tenants([agent_core::TenantId::new("acme")?]));
/// # Ok::<(), agent_core::InvalidValue>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RouteCard {
    /// The agent's id. Unique within a router.
    pub name: Arc<str>,
    /// Its domain, outermost first: `["support", "returns"]`. Empty is a domain as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domain: Vec<Arc<str>>,
    /// What it is for.
    pub description: String,
    /// Requests that it should get. A few tell more than any description.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// What its tools are called and do: a line for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// Words or phrases, as of a [`DecisionRow`](crate::DecisionRow), with which a request is for it whatever else it says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<String>,
    /// Who may use it.
    #[serde(default)]
    pub grant: Grant,
    /// Whether it is in use.
    #[serde(default)]
    pub state: LifeCycle,
}

/// Who may use an agent. What is left out holds for everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Grant {
    /// The tenants that may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenants: Option<BTreeSet<TenantId>>,
    /// The roles of which a caller needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<BTreeSet<Role>>,
}

/// Whether an agent is in use. Only active ones get requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LifeCycle {
    /// It is being made.
    Draft,
    /// It is in use.
    #[default]
    Active,
    /// It is out of use for now.
    Disabled,
    /// It is out of use for good.
    Retired,
}

impl RouteCard {
    /// A card of an active agent that everybody may use.
    pub fn new(name: impl Into<Arc<str>>, description: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            domain: Vec::new(),
            description: description.into(),
            examples: Vec::new(),
            tools: Vec::new(),
            triggers: Vec::new(),
            grant: Grant::default(),
            state: LifeCycle::Active,
        }
    }

    /// What a Sub-Agent's own card says.
    #[must_use]
    pub fn of(card: &AgentCard) -> Self {
        let new = Self::new(card.id().clone(), &*card.function.description);
        Self { domain: card.domain.iter().cloned().collect(), examples: card.function.examples.clone(), ..new }
    }

    /// The same in this domain, outermost first.
    #[must_use]
    pub fn with_domain<S: Into<Arc<str>>>(mut self, domain: impl IntoIterator<Item = S>) -> Self {
        self.domain = domain.into_iter().map(Into::into).collect();
        self
    }

    /// The same with these requests that it should get.
    #[must_use]
    pub fn with_examples<S: Into<String>>(mut self, examples: impl IntoIterator<Item = S>) -> Self {
        self.examples = examples.into_iter().map(Into::into).collect();
        self
    }

    /// The same with these tools, a line for each.
    #[must_use]
    pub fn with_tools<S: Into<String>>(mut self, tools: impl IntoIterator<Item = S>) -> Self {
        self.tools = tools.into_iter().map(Into::into).collect();
        self
    }

    /// The same with these phrases that decide.
    #[must_use]
    pub fn with_triggers<S: Into<String>>(mut self, triggers: impl IntoIterator<Item = S>) -> Self {
        self.triggers = triggers.into_iter().map(Into::into).collect();
        self
    }

    /// The same for those who may use it.
    #[must_use]
    pub fn with_grant(mut self, grant: Grant) -> Self {
        self.grant = grant;
        self
    }

    /// The same in this state.
    #[must_use]
    pub fn with_state(mut self, state: LifeCycle) -> Self {
        self.state = state;
        self
    }

    /// Whether the caller may be told of it at all.
    #[must_use]
    pub fn is_for(&self, caller: &Caller) -> bool {
        let Grant { tenants, roles } = &self.grant;
        self.state == LifeCycle::Active
            && tenants.as_ref().is_none_or(|tenants| tenants.contains(&caller.tenant))
            && roles.as_ref().is_none_or(|roles| !roles.is_disjoint(&caller.roles))
    }

    /// Whether there is something to tell it apart by.
    pub(super) fn ensure_valid(&self) -> Result<(), InvalidValue> {
        if self.name.trim().is_empty() {
            return Err(InvalidValue::new("name", &self.name, "the id of an agent"));
        }
        if self.description.trim().is_empty() && self.examples.iter().all(|example| example.trim().is_empty()) {
            let field = format!("{}: description", self.name);
            return Err(InvalidValue::new(field, &self.description, "what the agent is for, or examples"));
        }
        if let Some(level) = self.domain.iter().find(|level| level.trim().is_empty() || level.contains('/')) {
            return Err(InvalidValue::new(format!("{}: domain", self.name), level, "a name without `/`"));
        }
        Ok(())
    }
}

impl Grant {
    /// For these tenants only.
    #[must_use]
    pub fn tenants(tenants: impl IntoIterator<Item = TenantId>) -> Self {
        Self { tenants: Some(tenants.into_iter().collect()), roles: None }
    }

    /// The same, for those with one of these roles.
    #[must_use]
    pub fn with_roles(mut self, roles: impl IntoIterator<Item = Role>) -> Self {
        self.roles = Some(roles.into_iter().collect());
        self
    }
}
