//! What is said: messages are immutable and shared, so that a conversation of any length is cheap to pass on.

mod call;
mod reply;
mod user;

pub use call::{Arguments, Call, CallFailure, CallResult};
pub use reply::{FinishReason, Opaque, Reasoning, Reply, ReplyPart, Usage};
pub use user::{Attachment, AttachmentSource, UserMessage, UserPart};
