//! The description of something that a model can call.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::error::InvalidValue;
use crate::id::{FunctionName, Role};
use crate::schema::Schema;

/// A function that a model can call: what the model is told about it, and how its calls are treated.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FunctionSpec {
    /// Its name, checked when an agent that has it is built.
    pub name: Arc<str>,
    /// What it does and when to use it. The model reads this.
    pub description: Arc<str>,
    /// The arguments: the schema of an object.
    pub input: Schema,
    /// The result, where it is known. A result that does not fit becomes a failure.
    pub output: Option<Schema>,
    /// Requests that call for this function, in users' words.
    pub examples: Vec<String>,
    /// What a call changes.
    pub effect: Effect,
    /// Whether a person has to agree to a call. A hint: the [`Policy`](crate::Policy) decides.
    pub approval: Approval,
    /// Roles that a caller needs, all of them. A hint to the policy too.
    pub required_roles: BTreeSet<Role>,
    /// How long a call may take, if not as long as the agent's bounds say.
    pub timeout: Option<Duration>,
}

/// What a call changes outside of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// Nobody said. Treated as [`AtMostOnce`](Self::AtMostOnce) wherever a call could be repeated.
    #[default]
    Unspecified,
    /// Nothing: a call can be repeated at will.
    ReadOnly,
    /// Something, but a second call with the same idempotency key changes nothing more.
    Idempotent,
    /// Something that must not happen twice.
    AtMostOnce,
    /// Nothing by itself: it makes calls that say so themselves, and tells in events what it waits for. A
    /// [`MainAgent`](crate::MainAgent)'s effect. An agent of another kind that says this is begun again where it was suspended last
    /// when its run was stopped, and vouches for that.
    Delegated,
}

impl Effect {
    /// Whether results are kept in the [`Journal`](crate::Journal), so that a copy of the run repeats nothing.
    #[must_use]
    pub const fn is_journaled(self) -> bool {
        matches!(self, Self::Unspecified | Self::Idempotent | Self::AtMostOnce)
    }

    /// Whether a call with an unknown outcome may simply be made again, under the same idempotency key.
    #[must_use]
    pub const fn is_repeatable(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Idempotent | Self::Delegated)
    }
}

/// Whether a person has to agree to a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Approval {
    /// No.
    #[default]
    NotNeeded,
    /// Yes, one who is not the caller.
    Needed,
}

impl FunctionSpec {
    /// A function of this name, which takes arguments of this schema.
    pub fn new(name: impl Into<Arc<str>>, description: impl Into<Arc<str>>, input: Schema) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            input,
            output: None,
            examples: Vec::new(),
            effect: Effect::default(),
            approval: Approval::default(),
            required_roles: BTreeSet::new(),
            timeout: None,
        }
    }

    /// The same with a schema for results.
    #[must_use]
    pub fn with_output(mut self, output: Schema) -> Self {
        self.output = Some(output);
        self
    }

    /// The same with one more example of a request that calls for it.
    #[must_use]
    pub fn with_example(mut self, request: impl Into<String>) -> Self {
        self.examples.push(request.into());
        self
    }

    /// The same with a declared effect.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// The same with a rule for approval.
    #[must_use]
    pub fn with_approval(mut self, approval: Approval) -> Self {
        self.approval = approval;
        self
    }

    /// The same with one more role that callers need.
    #[must_use]
    pub fn with_required_role(mut self, role: Role) -> Self {
        self.required_roles.insert(role);
        self
    }

    /// The same with a time limit for each call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Its size in bytes within a request, for estimates.
    pub(crate) fn size(&self) -> usize {
        self.name.len() + self.description.len() + self.input.size()
    }

    /// Whether a model can call it.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] for a name that providers refuse, or a schema that is not one of an object.
    pub(crate) fn ensure_valid(&self) -> Result<(), InvalidValue> {
        FunctionName::new(&*self.name)?;
        let in_function = |invalid: InvalidValue| {
            InvalidValue::new(format!("schema of function `{}`", self.name), invalid.value, invalid.expected)
        };
        self.input.ensure_valid().map_err(in_function)?;
        self.output.as_ref().map_or(Ok(()), Schema::ensure_valid).map_err(in_function)?;
        if !self.input.is_object() {
            let field = format!("input of function `{}`", self.name);
            return Err(InvalidValue::new(
                field,
                self.input.as_value(),
                "the schema of an object: a struct, not a bare value",
            ));
        }
        Ok(())
    }
}
