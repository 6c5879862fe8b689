//! A model that calls a tool 100 times, each time with a long argument and a longer result, and then answers.
//!
//! Two nodes, as in LangGraph's agent: the model, and the tool it calls. Both go through all that a Main Agent's do: the model through
//! budget and spans, the tool through its schema, the policy, and the journal unless it only reads. LangGraph has no journal. The
//! conversation is taken in anew at each turn, which copies pointers; LangGraph's reducer copies its list, too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use agent_core::graph::{Branch, END, Goto, Graph, START, calls, node};
use agent_core::{
    AgentError, Call, CallError, CallResult, ChatModel, ChatRequest, Chunk, Conversation, Effect, Entry, Finish,
    FinishReason, ModelError, ModelInfo, ModelStream, Replied, Reply, RunContext, Toolbox, complete, graph_state, tool,
};
use async_trait::async_trait;
use futures::{StreamExt, stream};

use crate::harness::{Ours, Prepared};

pub const CALLS_MADE: usize = 100;

graph_state! {
    #[derive(Default)]
    struct Talk updated by TalkUpdate {
        conversation: Conversation => replace,
        reply: Option<Arc<Reply>> => replace,
        results: BTreeMap<u32, CallResult> => replace,
    }
}

const CALLS: Branch<(u32, Call)> = Branch::new("tools");

/// Answers as it was told, one answer after the other, from the first again after the last.
struct FakeModel {
    info: ModelInfo,
    answers: Vec<Vec<Chunk>>,
    next: AtomicUsize,
}

#[async_trait]
impl ChatModel for FakeModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, _: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
        let at = self.next.fetch_add(1, Relaxed) % self.answers.len();
        let chunks = self.answers.get(at).cloned().unwrap_or_default();
        Ok(stream::iter(chunks.into_iter().map(Ok)).boxed())
    }
}

fn model() -> FakeModel {
    let call = |number: usize| {
        let arguments = format!("{{\"query\":\"{}\"}}", format!("{number:036}").repeat(100));
        let start = Chunk::CallStart { index: 0, id: format!("call-{number}"), name: "look_up".to_owned() };
        let finish = Chunk::Finish(Finish::new(FinishReason::Calls));
        vec![start, Chunk::CallArguments { index: 0, text: arguments }, finish]
    };
    let answer = vec![Chunk::Text("answer".repeat(100)), Chunk::Finish(Finish::new(FinishReason::Stop))];
    let answers = (0..CALLS_MADE).map(call).chain([answer]).collect();
    FakeModel { info: ModelInfo::new("fake", "fake"), answers, next: AtomicUsize::new(0) }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Query {
    query: String,
}

async fn look_up(input: Query) -> Result<String, CallError> {
    Ok(format!("result for query: {}", input.query).repeat(10))
}

/// The conversation with the last reply and the results of its calls, if there was one.
fn settled(talk: &Talk) -> Result<Conversation, AgentError> {
    let conversation = talk.conversation.clone();
    let Some(reply) = talk.reply.clone() else { return Ok(conversation) };
    let Replied::Calls(mut turn) = conversation.reply(reply) else {
        return Err(AgentError::tell("an answer has no results"));
    };
    for (place, result) in &talk.results {
        turn.settle(*place as usize, result.clone()).map_err(AgentError::internal)?;
    }
    turn.close().map_err(|_| AgentError::tell("a call has no result"))
}

/// The agent, whose tool changes this.
pub fn prepare(effect: Effect) -> anyhow::Result<Box<dyn Ours>> {
    let look_up = tool("look_up", "Looks up", look_up).with_effect(effect);
    let (model, toolbox) = (Arc::new(model()), Toolbox::new().tool(look_up));
    let specs = toolbox.specs();
    let think = move |talk: Arc<Talk>, cx: RunContext| {
        let (model, specs) = (model.clone(), specs.clone());
        async move {
            let conversation = settled(&talk)?;
            let request = ChatRequest::new(conversation.clone()).with_functions(specs);
            let reply = complete(&*model, request, &cx).await?;
            let update = TalkUpdate::default();
            Ok::<_, AgentError>(match conversation.clone().reply(reply.clone()) {
                Replied::Calls(_) => update.conversation(conversation).reply(Some(reply)),
                Replied::Final(concluded) => update.conversation(concluded).reply(None),
            })
        }
    };
    let result = |place, result| TalkUpdate::default().results(BTreeMap::from([(place, result)]));
    let graph = Graph::builder("react")
        .node(node("think", think))
        .node(calls(CALLS, toolbox, result))
        .edge(START, "think")
        .route("think", [CALLS.name(), END], |talk: &Talk| {
            let calls = talk.reply.iter().flat_map(|reply| (0..).zip(reply.each_call().cloned()));
            let calls: Vec<_> = calls.map(|call| CALLS.with(call)).collect();
            if calls.is_empty() { Goto::from(END) } else { calls.into() }
        })
        .edge(CALLS.name(), "think")
        .build()?;
    let make = || Talk { conversation: Conversation::new().say("hi?"), ..Talk::default() };
    let came_to = |talk: &Talk| vec![messages(talk), text(talk)];
    Ok(Box::new(Prepared { graph, make, came_to }))
}

/// How many messages the conversation is on the wire.
fn messages(talk: &Talk) -> usize {
    let of = |entry: &Entry| if let Entry::Agent(turn) = entry { 1 + turn.results().len() } else { 1 };
    talk.conversation.entries().iter().map(of).sum()
}

/// How much text was said in answers and results.
fn text(talk: &Talk) -> usize {
    let result = |result: &CallResult| result.to_model_value().as_str().map_or(0, str::len);
    let of = |entry: &Entry| match entry {
        Entry::Agent(turn) => turn.reply().joined_text().len() + turn.results().iter().map(result).sum::<usize>(),
        _ => 0,
    };
    talk.conversation.entries().iter().map(of).sum()
}
