//! A state of fifteen fields, in which lists of large documents are passed on, until there are more than 300 messages.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::graph::{END, Graph, START, node};
use agent_core::{AgentError, graph_state};
use serde_json::{Value, json};

use crate::harness::{Measured, least};

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

pub async fn measure(rounds: usize) -> anyhow::Result<Measured> {
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
    let inner = (0..25).map(|key: u32| (key.to_string().repeat(10), Value::from(values.clone())));
    let inner: Arc<Value> = Arc::new(inner.collect());
    let message: Fields =
        (0..25).map(|key: u32| (key.to_string().repeat(10), inner.clone())).collect();
    let message = Arc::new(message);
    let make = || Desk { messages: vec![message.clone()], ..Desk::default() };
    let size = |desk: &Desk| vec![desk.messages.len(), desk.responses.len(), desk.slack_participants.len()];
    least(&graph, rounds, make, size).await
}
