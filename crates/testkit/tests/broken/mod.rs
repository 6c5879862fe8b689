//! Implementations that break a rule, each of another port's contract, and the suites that tell which one.

mod chat_model;
pub(crate) mod context_policy;
mod dead_letters;
mod embedder;
mod journal;
mod observer;
mod policy;
mod recovery;
mod router;
mod sub_agent;
mod tool;
