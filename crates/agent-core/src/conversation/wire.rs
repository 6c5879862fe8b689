//! The saved format of a conversation, version 1.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Conversation, Entry, Turn};
use crate::message::{CallResult, Reply, UserMessage};

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
pub(super) struct Document {
    format: u32,
    entries: Vec<EntryDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EntryDocument {
    User(Arc<UserMessage>),
    Agent {
        reply: Arc<Reply>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        results: Vec<CallResult>,
    },
}

impl From<Conversation> for Document {
    fn from(conversation: Conversation) -> Self {
        let entries = conversation.entries().iter().map(|entry| match entry {
            Entry::User(message) => EntryDocument::User(message.clone()),
            Entry::Agent(turn) => {
                EntryDocument::Agent { reply: turn.reply().clone(), results: turn.results().to_vec() }
            }
        });
        Self { format: FORMAT, entries: entries.collect() }
    }
}

impl TryFrom<Document> for Conversation {
    type Error = String;

    fn try_from(document: Document) -> Result<Self, String> {
        if document.format != FORMAT {
            return Err(format!("conversation format {} is unknown, expected {FORMAT}", document.format));
        }
        let entries = document.entries.into_iter().enumerate().map(|(index, entry)| match entry {
            EntryDocument::User(message) => Ok(Entry::User(message)),
            EntryDocument::Agent { reply, results } => {
                let calls = reply.each_call().count();
                if calls != results.len() {
                    return Err(format!("entry {index} has {calls} calls and {} results", results.len()));
                }
                Ok(Entry::Agent(Turn { reply, results: results.into() }))
            }
        });
        Ok(Self::from_entries(entries.collect::<Result<_, _>>()?))
    }
}
