//! A state of fifteen fields, in which lists of large documents are passed on, until there are more than 300 messages.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::graph::{END, Graph, START, node};
use agent_core::{AgentError, graph_state};
use serde_json::{Value, json};

use crate::harness::{Ours, Prepared};

const MESSAGES: usize = 300;

/// A document's fields. They are shared, as everything is in Python.
type Fields = BTreeMap<String, Arc<Value>>;

type Document = Arc<Fields>;

graph_state! {
    #[derive(Default)]
    struct Desk updated by DeskUpdate {
        messages: Vec<Document> => append,
        trigger_events: Vec<Document> => append,
        primary_issue_medium: String => replace,
        autoresponse: Option<Document> => replace,
        issue: Option<Document> => replace,
        relevant_rules: Vec<Document> => replace,
        memory_docs: Vec<Document> => replace,
        categorizations: Vec<Document> => append,
        responses: Vec<Document> => append,
        user_info: Option<Document> => replace,
        crm_info: Option<Document> => replace,
        email_thread_id: String => replace,
        slack_participants: Fields => merge,
        bot_id: String => replace,
        notified_assignees: Fields => merge,
    }
}

/// As many random letters as Python makes, by a generator of Marsaglia's (xorshift64).
fn text() -> String {
    thread_local!(static SEED: Cell<u64> = const { Cell::new(0x9E37_79B9_7F4A_7C15) });
    let letter = |_| {
        let mut seed = SEED.get();
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        SEED.set(seed);
        char::from(b'a' + (seed % 26) as u8)
    };
    (0..MESSAGES).map(letter).collect()
}

async fn one(desk: Arc<Desk>) -> Result<DeskUpdate, AgentError> {
    Ok(DeskUpdate::default().trigger_events(desk.messages.clone()).primary_issue_medium(text()))
}

async fn two(desk: Arc<Desk>) -> Result<DeskUpdate, AgentError> {
    let last = desk.trigger_events.last().cloned();
    Ok(DeskUpdate::default().autoresponse(last.clone()).issue(last))
}

async fn three(desk: Arc<Desk>) -> Result<DeskUpdate, AgentError> {
    Ok(DeskUpdate::default().relevant_rules(desk.autoresponse.iter().cloned().collect()))
}

async fn four(desk: Arc<Desk>) -> Result<DeskUpdate, AgentError> {
    let events = || desk.trigger_events.clone();
    Ok(DeskUpdate::default().categorizations(events()).responses(events()).memory_docs(events()))
}

async fn five(desk: Arc<Desk>) -> Result<DeskUpdate, AgentError> {
    let last = desk.categorizations.last();
    let fields = || last.map(|last| (**last).clone()).unwrap_or_default();
    Ok(DeskUpdate::default()
        .user_info(last.cloned())
        .crm_info(last.cloned())
        .slack_participants(fields())
        .notified_assignees(fields())
        .email_thread_id(text())
        .bot_id(text()))
}

async fn six(desk: Arc<Desk>) -> Result<DeskUpdate, AgentError> {
    Ok(DeskUpdate::default().messages(desk.responses.clone()))
}

pub fn prepare() -> anyhow::Result<Box<dyn Ours>> {
    let graph = Graph::builder("wide_dict")
        .node(node("one", one).writes(["trigger_events", "primary_issue_medium"]))
        .node(node("two", two))
        .node(node("three", three))
        .node(node("four", four))
        .node(node("five", five))
        .node(node("six", six))
        .chain([START, "one", "two", "three"])
        .edge("two", "four")
        .join(["three", "four"], "five")
        .edge("five", "six")
        .route("six", ["one", END], |desk: &Desk| if desk.messages.len() > MESSAGES { END } else { "one" })
        .build()?;
    let values = json!(["hi?".repeat(10), true, 1, 6_327_816_386_138_u64, null]);
    let values: Vec<Value> = (0..5).flat_map(|_| values.as_array().cloned().unwrap_or_default()).collect();
    let inner: Value = keys().map(|key| (key, Value::from(values.clone()))).collect();
    let inner = Arc::new(inner);
    let message: Document = Arc::new(keys().map(|key| (key, inner.clone())).collect());
    let make = move || Desk { messages: vec![message.clone()], ..Desk::default() };
    let came_to = |desk: &Desk| {
        let lists = [&desk.messages, &desk.trigger_events, &desk.categorizations, &desk.responses, &desk.memory_docs];
        let texts = [&desk.primary_issue_medium, &desk.email_thread_id, &desk.bot_id].map(String::len);
        let keys = [desk.slack_participants.len(), desk.notified_assignees.len()];
        lists.map(Vec::len).into_iter().chain(texts).chain(keys).collect()
    };
    Ok(Box::new(Prepared { graph, make, came_to }))
}

/// Five keys, in a document and in each of its fields: 25 lists are in one.
fn keys() -> impl Iterator<Item = String> {
    (0..5).map(|key: u32| key.to_string().repeat(10))
}
