//! A conversation: what was said, in a form in which a call without its result cannot be written down.

mod open_turn;
mod wire;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use open_turn::{OpenTurn, SettleError};

use crate::message::{CallResult, Reply, UserMessage};

/// Messages of a user and turns of an agent, oldest first.
///
/// Immutable entries behind shared pointers: cloning costs nothing, and adding to the only copy adds in place. A model's reply with
/// calls enters only together with the results of all of them, by [`reply`](Self::reply) and [`OpenTurn::close`].
///
/// Serialises as a versioned document; an unknown version or a turn with a missing result is refused on reading.
///
/// ```
/// use agent_core::{Call, CallResult, Conversation, Replied, Reply};
/// use serde_json::json;
///
/// let conversation = Conversation::new().say("Where is A-1042?");
/// let reply = Reply::calls([Call::new("orders", json!({"order": "A-1042"}))]);
/// let Replied::Calls(mut turn) = conversation.reply(reply.into()) else { panic!("there is a call") };
/// turn.settle(0, CallResult::done(json!("shipped")))?;
/// let conversation = turn.close().map_err(|_| "a call is open")?;
/// assert_eq!(conversation.entries().len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "wire::Document", into = "wire::Document")]
pub struct Conversation {
    entries: Arc<Vec<Entry>>,
    size: usize,
}

/// One entry of a [`Conversation`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Entry {
    /// What the user said.
    User(Arc<UserMessage>),
    /// What the agent's model replied, with the results of its calls.
    Agent(Turn),
}

/// A reply and the results of its calls: as many, in the same order.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    reply: Arc<Reply>,
    results: Arc<[CallResult]>,
}

/// What a reply does to a conversation.
#[derive(Debug)]
#[must_use]
pub enum Replied {
    /// The reply makes no calls: the conversation goes on with the user.
    Final(Conversation),
    /// The reply waits for results.
    Calls(OpenTurn),
}

impl Conversation {
    /// A conversation in which nothing was said yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The conversation after the user said `message`.
    #[must_use]
    pub fn say(self, message: impl Into<UserMessage>) -> Self {
        self.with(Entry::User(Arc::new(message.into())))
    }

    /// The conversation after the model replied.
    pub fn reply(self, reply: Arc<Reply>) -> Replied {
        match reply.each_call().count() {
            0 => Replied::Final(self.with(Entry::Agent(Turn { reply, results: Arc::default() }))),
            calls => Replied::Calls(OpenTurn::new(self, reply, calls)),
        }
    }

    /// The conversation after the agent's last words. Calls in them are not made.
    #[must_use]
    pub(crate) fn conclude(self, reply: Reply) -> Self {
        match self.reply(Arc::new(reply)) {
            Replied::Final(conversation) => conversation,
            Replied::Calls(turn) => turn.close_with(&CallResult::not_made()),
        }
    }

    /// What was said, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The size of all entries in bytes, counted once when each is added.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The last thing that the user said.
    #[must_use]
    pub fn last_user_message(&self) -> Option<&Arc<UserMessage>> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::User(message) => Some(message),
            Entry::Agent(_) => None,
        })
    }

    /// The conversation of these entries, for policies that select some of another's.
    #[must_use]
    pub fn from_entries(entries: Vec<Entry>) -> Self {
        let size = entries.iter().map(Entry::size).sum();
        Self { entries: Arc::new(entries), size }
    }

    fn with(mut self, entry: Entry) -> Self {
        self.size += entry.size();
        Arc::make_mut(&mut self.entries).push(entry);
        self
    }
}

impl Entry {
    /// Its size in bytes, for estimates.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::User(message) => message.size(),
            Self::Agent(turn) => turn.reply.size() + turn.results.iter().map(CallResult::size).sum::<usize>(),
        }
    }
}

impl Turn {
    /// What the model said.
    #[must_use]
    pub fn reply(&self) -> &Arc<Reply> {
        &self.reply
    }

    /// The results, one for each call of the reply, in the calls' order.
    #[must_use]
    pub fn results(&self) -> &[CallResult] {
        &self.results
    }

    /// The calls, each with its result.
    pub fn exchanges(&self) -> impl Iterator<Item = (&crate::message::Call, &CallResult)> {
        self.reply.each_call().zip(self.results.iter())
    }
}
