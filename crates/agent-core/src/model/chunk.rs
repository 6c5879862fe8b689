//! A piece of a model's answer.

use std::sync::Arc;

use crate::amount::MicroUsd;
use crate::message::{Attachment, FinishReason, Opaque, Usage};

/// A piece of a model's answer, in the order in which it comes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Chunk {
    /// More text for the user.
    Text(String),
    /// More readable reasoning.
    Reasoning(String),
    /// The provider's own bytes of the reasoning before it, which end that piece of reasoning.
    ReasoningOpaque(Opaque),
    /// More of a refusal.
    Refusal(String),
    /// A call begins.
    CallStart {
        /// Its index in this answer: later [`CallArguments`](Self::CallArguments) name it. Indices may have gaps.
        index: u32,
        /// The provider's id; may be empty.
        id: String,
        /// The function's name.
        name: String,
    },
    /// More of a call's arguments, as text of a JSON value.
    CallArguments {
        /// The call's index.
        index: u32,
        /// The next piece of text.
        text: String,
    },
    /// A whole picture or file.
    Attachment(Attachment),
    /// What was used so far, all together; later ones replace earlier ones, and the last one comes before [`Finish`](Self::Finish).
    Usage(Usage),
    /// Everything that came before is void, and the answer begins anew, with another attempt. Only where the request
    /// [allows it](crate::ChatRequest::restarts), and only from a model that [meters](crate::Metering::Own) its attempts itself.
    Restart {
        /// Which attempt of this stream is void, from zero.
        attempt: u32,
    },
    /// The end of a complete answer.
    Finish(Finish),
}

/// How a complete answer ended.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Finish {
    /// Why the model stopped.
    pub reason: FinishReason,
    /// What the provider charged, where it says so. Otherwise the price list decides.
    pub cost: Option<MicroUsd>,
    /// The model that really answered, where the provider says so.
    pub model: Option<Arc<str>>,
}

impl Finish {
    /// An end for this reason.
    #[must_use]
    pub const fn new(reason: FinishReason) -> Self {
        Self { reason, cost: None, model: None }
    }

    /// The same with the cost that the provider charged.
    #[must_use]
    pub fn with_cost(mut self, cost: MicroUsd) -> Self {
        self.cost = Some(cost);
        self
    }

    /// The same with the name of the model that answered.
    #[must_use]
    pub fn with_model(mut self, model: impl Into<Arc<str>>) -> Self {
        self.model = Some(model.into());
        self
    }
}
