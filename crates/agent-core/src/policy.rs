//! The port to policies: what may happen, and who may agree to it.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::caller::Caller;
use crate::function::{Approval, FunctionSpec};
use crate::message::UserMessage;
use crate::pending::{Pending, PendingKind};
use crate::run_context::RunContext;

/// Decides on the request, on every call, and on the final answer. `cx.caller()` tells who asks.
///
/// The policy of the agent that a host runs holds for the whole run; a nested agent's own policy is asked as well.
///
/// # Contract
///
/// - Arguments fit the function's schema when a policy sees them, and so do replaced ones: they are checked, and the policy is
///   asked again.
/// - After a person agreed, the policy is asked again, with that person in `approved_by`.
/// - Deciding changes nothing: the same question may be asked again.
///
/// A policy of a host's own stands in the place of [`HintPolicy`], which follows the functions' hints: one that only adds to that
/// asks it in the end.
///
/// ```
/// use agent_core::{Action, Decision, HintPolicy, Policy, RunContext, async_trait};
///
/// struct NoSecrets;
///
/// #[async_trait]
/// impl Policy for NoSecrets {
///     async fn decide(&self, action: Action<'_>, cx: &RunContext) -> Decision {
///         match action {
///             Action::Answer { answer, .. } if answer.to_string().contains("SECRET") => Decision::Deny("a secret".into()),
///             action => HintPolicy.decide(action, cx).await,
///         }
///     }
/// }
/// ```
///
/// The testkit's `conformance::policy` checks an implementation.
#[async_trait]
pub trait Policy: Send + Sync {
    /// Decides on `action`.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await; the question is asked again then.
    async fn decide(&self, action: Action<'_>, cx: &RunContext) -> Decision;

    /// Whether `by`, who is of the right tenant, may answer `pending`.
    ///
    /// By default nobody decides on his own request, and anybody of the tenant answers questions and brings results.
    fn may_answer(&self, pending: &Pending, by: &Caller) -> bool {
        match pending.kind {
            PendingKind::Approval { .. } | PendingKind::UnknownOutcome { .. } => {
                !by.is_same_person(&pending.requested_by)
            }
            PendingKind::Question { .. } | PendingKind::External { .. } | PendingKind::DurableCall { .. } => true,
        }
    }
}

/// Something that is about to happen.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Action<'a> {
    /// A user's request is about to be worked on.
    Request {
        /// The request.
        message: &'a UserMessage,
        /// Who agreed to it.
        approved_by: &'a [Caller],
    },
    /// A function is about to be called.
    Call {
        /// The function.
        function: &'a FunctionSpec,
        /// The arguments, which fit its schema.
        arguments: &'a Value,
        /// Who agreed to exactly these arguments.
        approved_by: &'a [Caller],
    },
    /// An answer is about to leave the agent.
    Answer {
        /// The answer: text, or a value of the agent's answer type.
        answer: &'a Value,
        /// Who agreed to it.
        approved_by: &'a [Caller],
    },
}

/// What a policy says to an [`Action`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Decision {
    /// Go on.
    Allow,
    /// Go on with this instead: text for a request, arguments for a call, an answer for an answer. The same as before is `Allow`.
    Replace(Value),
    /// Do not, for this reason, which the model or the user reads.
    Deny(String),
    /// Ask a person, for this reason.
    Ask(String),
}

/// The policy that holds when a host brings none: it follows the functions' own hints.
///
/// - A caller without a function's [`required_roles`](FunctionSpec::required_roles) is denied the call.
/// - A function with [`Approval::Needed`] waits for a person who is not the caller.
/// - Questions and results from outside may come from anybody of the tenant.
#[derive(Debug, Clone, Copy, Default)]
pub struct HintPolicy;

#[async_trait]
impl Policy for HintPolicy {
    async fn decide(&self, action: Action<'_>, cx: &RunContext) -> Decision {
        let Action::Call { function, approved_by, .. } = action else { return Decision::Allow };
        if let Some(missing) = function.required_roles.iter().find(|role| !cx.caller().roles.contains(*role)) {
            return Decision::Deny(format!("`{}` needs the role `{missing}`", function.name));
        }
        match function.approval {
            Approval::Needed if approved_by.is_empty() => Decision::Ask(format!("`{}` needs approval", function.name)),
            Approval::Needed | Approval::NotNeeded => Decision::Allow,
        }
    }
}

/// The policies that hold at one place of a run, from the Main Agent's down.
#[derive(Clone)]
pub(crate) struct Policies(Arc<[Arc<dyn Policy>]>);

impl Policies {
    pub(crate) fn of(policy: Arc<dyn Policy>) -> Self {
        Self(Arc::new([policy]))
    }

    pub(crate) fn and(&self, policy: Arc<dyn Policy>) -> Self {
        Self(self.0.iter().cloned().chain([policy]).collect())
    }

    /// The strictest decision: the first denial, else the first replacement, else the first question.
    pub(crate) async fn decide(&self, action: Action<'_>, cx: &RunContext) -> Decision {
        let mut strictest = Decision::Allow;
        for policy in self.0.iter() {
            // Through the trait object itself: through the `Arc` each call would box one future more.
            match ((**policy).decide(action, cx).await, &strictest) {
                (Decision::Deny(reason), _) => return Decision::Deny(reason),
                (replace @ Decision::Replace(_), Decision::Allow | Decision::Ask(_)) => strictest = replace,
                (ask @ Decision::Ask(_), Decision::Allow) => strictest = ask,
                _ => {}
            }
        }
        strictest
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Policy + ?Sized> Policy for Arc<T> {
    async fn decide(&self, action: Action<'_>, cx: &RunContext) -> Decision {
        (**self).decide(action, cx).await
    }

    fn may_answer(&self, pending: &Pending, by: &Caller) -> bool {
        (**self).may_answer(pending, by)
    }
}
