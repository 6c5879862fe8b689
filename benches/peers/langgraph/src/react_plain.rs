//! LangGraph's agent as its simplest graph: a list of messages that grows, a model that is a function, and a tool that is one.
//!
//! LangGraph's own goes through its interfaces of models and tools, which costs it something: [`react`](crate::react) does likewise.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use agent_core::graph::{END, Graph, START, node};
use agent_core::{AgentError, graph_state};
use serde::{Deserialize, Serialize};

use crate::harness::{Ours, Prepared};
use crate::react::CALLS_MADE;

#[derive(Clone, Serialize, Deserialize)]
enum Message {
    Question(String),
    Call { id: String, query: String },
    Result { id: String, text: String },
    Answer(String),
}

graph_state! {
    struct Talk updated by TalkUpdate {
        messages: Vec<Message> => append,
    }
}

/// Copies its next answer, as LangGraph's does; from the first again after the last.
struct FakeModel {
    answers: Vec<Message>,
    next: AtomicUsize,
}

impl FakeModel {
    fn new() -> Self {
        let call = |number| Message::Call { id: format!("call-{number}"), query: format!("{number:036}").repeat(100) };
        let answers = (0..CALLS_MADE).map(call).chain([Message::Answer("answer".repeat(100))]).collect();
        Self { answers, next: AtomicUsize::new(0) }
    }

    fn reply(&self) -> Option<Message> {
        self.answers.get(self.next.fetch_add(1, Relaxed) % self.answers.len()).cloned()
    }
}

async fn look_up(talk: Arc<Talk>) -> Result<TalkUpdate, AgentError> {
    let Some(Message::Call { id, query }) = talk.messages.last() else {
        return Err(AgentError::tell("nothing is called"));
    };
    let text = format!("result for query: {query}").repeat(10);
    Ok(TalkUpdate::default().messages(vec![Message::Result { id: id.clone(), text }]))
}

pub fn prepare() -> anyhow::Result<Box<dyn Ours>> {
    let model = Arc::new(FakeModel::new());
    let think = move |_: Arc<Talk>| {
        let reply = model.reply();
        async { Ok::<_, AgentError>(TalkUpdate::default().messages(reply.into_iter().collect())) }
    };
    let graph = Graph::builder("react_plain")
        .node(node("think", think))
        .node(node("look_up", look_up))
        .edge(START, "think")
        .route("think", ["look_up", END], |talk: &Talk| match talk.messages.last() {
            Some(Message::Call { .. }) => "look_up",
            _ => END,
        })
        .edge("look_up", "think")
        .build()?;
    let make = || Talk { messages: vec![Message::Question("hi?".to_owned())] };
    let came_to = |talk: &Talk| vec![talk.messages.len(), talk.messages.iter().map(text).sum()];
    Ok(Box::new(Prepared { graph, make, came_to }))
}

/// How much text an answer or a result is.
fn text(message: &Message) -> usize {
    match message {
        Message::Result { text, .. } | Message::Answer(text) => text.len(),
        Message::Question(_) | Message::Call { .. } => 0,
    }
}
