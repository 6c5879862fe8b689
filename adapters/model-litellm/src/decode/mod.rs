//! From the bytes of an answer to chunks, without I/O.

mod answer;
mod calls;
mod stream;
mod usage;
mod wire;

pub(crate) use self::answer::AnswerDecoder;
pub use self::stream::StreamDecoder;
pub(crate) use self::usage::{dollars, micro_usd, read as read_usage};
