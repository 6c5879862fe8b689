//! From the bytes of an answer to chunks, without I/O.

mod answer;
mod calls;
mod finish;
mod lenient;
mod stream;
mod usage;
mod utf16;
mod wire;

pub(crate) use self::answer::AnswerDecoder;
pub(crate) use self::calls::Elements;
pub(crate) use self::lenient::{Count, OrDefault};
pub use self::stream::StreamDecoder;
pub(crate) use self::usage::{UsageFields, micro_usd};
